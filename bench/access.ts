/**
 * What it costs to ask who sends a single write and how often they may: an API key, limits of the tenant and of the credential,
 * against the same server that asks nobody.
 */
import { fileURLToPath } from "node:url";
import { type Bench, rate } from "./bench.ts";
import { LoadGenerator } from "./load.ts";
import { compared, type Result } from "./result.ts";
import { alternate } from "./rounds.ts";
import { startTallystick } from "./tallystick.ts";

/** Of the rate of the server that asks nobody: the cost is under a tenth of it. */
const GOAL = 0.9;
const CONNECTIONS = 256;
const COUNT = 20_000;
const WARM_UP = 10_000;
/** More than any machine sends in a minute, and so that both buckets are there. */
const LIMITS = { RATE_LIMIT_REQUESTS: "10000000", RATE_LIMIT_CREDENTIAL_REQUESTS: "9999999" };

export async function access(bench: Bench): Promise<Result[]> {
  const load = new LoadGenerator();
  const nobody = ["--import", fileURLToPath(new URL("./no-access.ts", import.meta.url))];
  const [open, keyed] = await Promise.all([
    startTallystick({ nodeOptions: nobody }),
    startTallystick({ settings: LIMITS, profileDir: bench.profileDir }),
  ]);
  try {
    let first = 0;
    const record = async (server: typeof open, count: number) => {
      const send = { kind: "single", first, count, shape: {} } as const;
      first += count;
      return rate(await load.run(server.job(CONNECTIONS, send)));
    };
    for (const server of [open, keyed]) await record(server, WARM_UP);
    const count = bench.quick ? COUNT / 2 : COUNT;
    const [value, yardstick] = await alternate(bench.quick ? 5 : 15, [
      () => record(keyed, count),
      () => record(open, count),
    ]);
    bench.say(`access: ${Math.round(value!)} of ${Math.round(yardstick!)} a second`);
    return [
      compared({
        benchmark: "access",
        what: `POST /v1/logs, ${CONNECTIONS} connections, API key and limits`,
        value: value!,
        unit: "events/s",
        yardstick: yardstick!,
        against: "nobody is asked",
        goal: GOAL,
      }),
    ];
  } finally {
    await load.stop();
    await Promise.all([open.stop(), keyed.stop()]);
  }
}
