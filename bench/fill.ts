import { type Bench, rate, type Subject } from "./bench.ts";
import type { EventShape } from "./events.ts";

const PART = 50_000;
const SAY_EVERY = 250_000;

/** Records `count` further events in bulk. */
export async function fill(bench: Bench, { record }: Subject, count: number, shape: EventShape): Promise<void> {
  for (let done = 0; done < count; ) {
    const part = Math.min(PART, count - done);
    const report = await record({ kind: "bulk", connections: 8, count: part, shape });
    done += part;
    if (done % SAY_EVERY === 0) bench.say(`filling: ${done} of ${count}, ${Math.round(rate(report))} a second`);
  }
}
