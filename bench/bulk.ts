/**
 * Bulk requests of 500 events against COPY of the same rows into the plain design, in the same PostgreSQL instance.
 */
import { type Bench, onFreshServer, rate } from "./bench.ts";
import { CopyYardstick } from "./copy-yardstick.ts";
import { type EventShape, eventAt } from "./events.ts";
import { BULK_EVENTS } from "./load-program.ts";
import { compared, type Result } from "./result.ts";
import { alternate } from "./rounds.ts";

const GOAL = 0.73;
const CONNECTIONS = 8;
const OTHER_CONNECTIONS = [4, 16];
const WARM_UP = 30_000;

export async function bulk(bench: Bench): Promise<Result[]> {
  const results: Result[] = [];
  for (const shape of [{}, { personal: true }] satisfies EventShape[]) {
    results.push(...(await measure(bench, shape)));
  }
  return results;
}

/** The log grows faster than the yardstick's table where other numbers of connections are tried in the same rounds. */
async function measure(bench: Bench, shape: EventShape): Promise<Result[]> {
  const rounds = bench.quick ? 3 : 9;
  const count = bench.quick ? 10_000 : 30_000;
  return onFreshServer(bench, async ({ server, record }) => {
    const yardstick = await CopyYardstick.create(server.databaseUrl);
    const append = async (connections: number, events: number) =>
      rate(await record({ kind: "bulk", connections, count: events, shape }));
    const copy = async (rows: number) => (rows / (await yardstick.run(rows, shape)).durationMs) * 1000;
    try {
      await append(CONNECTIONS, WARM_UP);
      await copy(WARM_UP);
      const others = shape.personal ? [] : OTHER_CONNECTIONS;
      const [copied, ...appended] = await alternate(rounds, [
        () => copy(count),
        ...[CONNECTIONS, ...others].map((connections) => () => append(connections, count)),
      ]);
      const about = describe(shape);
      bench.say(`bulk: ${about}: ${Math.round(appended[0]!)} of ${Math.round(copied!)} a second`);
      return [CONNECTIONS, ...others].map((connections, index) =>
        compared({
          benchmark: "bulk",
          what: `${BULK_EVENTS} a request, ${connections} connections; ${about}`,
          value: appended[index]!,
          unit: "events/s",
          yardstick: copied!,
          against: "COPY BINARY, 5 b-trees",
          ...(connections === CONNECTIONS && !shape.personal && { goal: GOAL }),
        }),
      );
    } finally {
      await yardstick.close();
    }
  });
}

const SAMPLE = 1_000;

/** What the events look like. */
export function describe(shape: EventShape): string {
  const sizes = Array.from({ length: SAMPLE }, (_, index) => Buffer.byteLength(JSON.stringify(eventAt(index, shape))));
  const mean = Math.round(sizes.reduce((sum, size) => sum + size, 0) / SAMPLE);
  return shape.personal ? `events of ${mean} bytes with an address and an e-mail` : `events of ${mean} bytes`;
}
