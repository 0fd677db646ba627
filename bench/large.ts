/**
 * The log at ten million entries: writes and lists, against the same when it was small.
 */
import { type Bench, onFreshServer, rate, type Subject } from "./bench.ts";
import type { EventShape } from "./events.ts";
import { fill } from "./fill.ts";
import { comparedLists, listShape, measureLists } from "./page.ts";
import { compared, type Result } from "./result.ts";
import { alternate } from "./rounds.ts";
import { WRITES } from "./writes.ts";

const GOAL = 0.9;
const ROUNDS = 9;

export async function large(bench: Bench): Promise<Result[]> {
  const [size, smallSize] = bench.quick ? [1_000_000, 100_000] : [10_000_000, 100_000];
  const small = await onFreshServer(bench, async (subject) => {
    await fill(bench, subject, smallSize, listShape(smallSize));
    return measureLists(bench, subject);
  });
  const shape = listShape(size);
  return onFreshServer(bench, async (subject) => {
    for (const write of WRITES) await subject.record({ ...write, count: write.warmUp, shape });
    const empty = await writeRates(subject, shape);
    await fill(bench, subject, size - (await subject.server.size()), shape);
    const full = await writeRates(subject, shape);
    const writes = WRITES.map(({ what }, index) =>
      compared({
        benchmark: "large",
        what: `${what}, at ${size} entries`,
        value: full[index]!,
        unit: "events/s",
        yardstick: empty[index]!,
        against: "new log",
        goal: GOAL,
      }),
    );
    const lists = await measureLists(bench, subject);
    return [...writes, ...comparedLists("large", { large: lists, size, small, smallSize })];
  });
}

function writeRates({ record }: Subject, shape: EventShape): Promise<number[]> {
  return alternate(
    ROUNDS,
    WRITES.map((write) => async () => rate(await record({ ...write, shape }))),
  );
}
