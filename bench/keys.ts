/**
 * Writing with an idempotency key an event, against the same without.
 */
import { type Bench, onFreshServer, rate } from "./bench.ts";
import { compared, type Result } from "./result.ts";
import { alternate } from "./rounds.ts";
import { WRITES } from "./writes.ts";

const GOAL = 0.8;

export async function keys(bench: Bench): Promise<Result[]> {
  return onFreshServer(bench, async ({ record }) => {
    const results: Result[] = [];
    for (const write of WRITES) {
      const events = async (keys: boolean) => rate(await record({ ...write, shape: { keys } }));
      for (const keys of [true, false]) await record({ ...write, count: write.warmUp, shape: { keys } });
      const [value, yardstick] = await alternate(bench.quick ? 3 : 9, [() => events(true), () => events(false)]);
      results.push(
        compared({
          benchmark: "keys",
          what: `${write.what}, an idempotency key each`,
          value: value!,
          unit: "events/s",
          yardstick: yardstick!,
          against: "without",
          goal: GOAL,
        }),
      );
    }
    return results;
  });
}
