/**
 * Single events, each durable and chained when it is answered, against Fastify answering the same requests with no work.
 */
import { type Bench, onFreshServer, rate } from "./bench.ts";
import { nextMessage, startProgram, stopProgram } from "./child.ts";
import { compared, type Result } from "./result.ts";
import { alternate } from "./rounds.ts";

const GOAL = 0.55;
const GOAL_CONNECTIONS = 256;
/** Requests a round, by connections. */
const SIZES = new Map([
  [16, 12_000],
  [64, 20_000],
  [GOAL_CONNECTIONS, 40_000],
]);
const WARM_UP = 10_000;

export async function single(bench: Bench): Promise<Result[]> {
  const fastify = startProgram("./fastify-program.ts");
  const { url } = await nextMessage<{ url: string }>(fastify);
  try {
    return await onFreshServer(bench, async ({ load, record }) => {
      let first = 0;
      const plain = async (connections: number, count: number) => {
        const send = { kind: "single", first, count, shape: {} } as const;
        first += count;
        return rate(await load.run({ url, connections, headers: {}, send }));
      };
      const durable = async (connections: number, count: number) =>
        rate(await record({ kind: "single", connections, count, shape: {} }));

      await plain(GOAL_CONNECTIONS, WARM_UP);
      await durable(GOAL_CONNECTIONS, WARM_UP);
      const results: Result[] = [];
      for (const [connections, size] of SIZES) {
        const count = bench.quick ? size / 2 : size;
        const [value, yardstick] = await alternate(bench.quick ? 3 : 7, [
          () => durable(connections, count),
          () => plain(connections, count),
        ]);
        results.push(
          compared({
            benchmark: "single",
            what: `POST /v1/logs, ${connections} connections`,
            value: value!,
            unit: "events/s",
            yardstick: yardstick!,
            against: "Fastify, no work",
            ...(connections === GOAL_CONNECTIONS && { goal: GOAL }),
          }),
        );
        bench.say(`single: ${connections} connections: ${Math.round(value!)} of ${Math.round(yardstick!)} a second`);
      }
      return results;
    });
  } finally {
    await stopProgram(fastify);
  }
}
