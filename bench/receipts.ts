/**
 * What proof costs those who write: receipts in the answer against none, and publishing checkpoints against hardly ever.
 */
import { type Bench, onFreshServer, rate } from "./bench.ts";
import { compared, type Result } from "./result.ts";
import { alternate } from "./rounds.ts";
import { WRITES } from "./writes.ts";

const CHECKPOINT_GOAL = 0.95;
const HARDLY_EVER = { CHECKPOINT_INTERVAL_MS: "3600000" };

export async function receipts(bench: Bench): Promise<Result[]> {
  const rounds = bench.quick ? 3 : 7;
  const results: Result[] = [];
  await onFreshServer(bench, async ({ record }) => {
    for (const write of WRITES) {
      const events = async (wanted: boolean) => rate(await record({ ...write, shape: {}, receipts: wanted }));
      for (const wanted of [true, false]) await record({ ...write, count: write.warmUp, shape: {}, receipts: wanted });
      const [value, yardstick] = await alternate(rounds, [() => events(true), () => events(false)]);
      results.push(
        compared({
          benchmark: "receipts",
          what: `${write.what}, a receipt each`,
          value: value!,
          unit: "events/s",
          yardstick: yardstick!,
          against: "without",
        }),
      );
    }
  });
  // Two servers, because the interval is fixed at the start; they take turns, so that one is idle while the other is measured.
  await onFreshServer(bench, (every) =>
    onFreshServer(
      bench,
      async (hardly) => {
        for (const write of WRITES) {
          const sides = [every, hardly];
          for (const { record } of sides) await record({ ...write, count: write.warmUp, shape: {} });
          const [value, yardstick] = await alternate(
            bench.quick ? 5 : 15,
            sides.map(
              ({ record }) =>
                async () =>
                  rate(await record({ ...write, shape: {} })),
            ),
          );
          results.push(
            compared({
              benchmark: "receipts",
              what: `${write.what}, a checkpoint every second`,
              value: value!,
              unit: "events/s",
              yardstick: yardstick!,
              against: "every hour",
              goal: CHECKPOINT_GOAL,
            }),
          );
        }
      },
      HARDLY_EVER,
    ),
  );
  return results;
}
