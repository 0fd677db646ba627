/**
 * What clients of good will notice of 2,000 that are slow on purpose and of bodies of 100 MB: the slowest answers of single
 * writes, with and without them.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Bench, onFreshServer } from "./bench.ts";
import { nextMessage, startProgram, stopProgram } from "./child.ts";
import type { Result } from "./result.ts";
import { median } from "./rounds.ts";
import type { SlowJob, SlowReport } from "./slow-program.ts";

const GOAL_MS = 250;
const SLOW_CONNECTIONS = 2_000;
const LARGE_BODIES = 4;
const CONNECTIONS = 16;
const COUNT = 10_000;
const OPEN_DEADLINE_MS = 30_000;

export async function slow(bench: Bench): Promise<Result[]> {
  const rounds = bench.quick ? 3 : 7;
  return onFreshServer(bench, async ({ server, record }) => {
    const write = () => record({ kind: "single", connections: CONNECTIONS, count: COUNT, shape: {} });
    const p99 = async () => {
      const reports = [];
      for (let round = 0; round < rounds; round++) reports.push((await write()).latencyP99Ms);
      return median(reports);
    };
    await write();
    const calm = await p99();
    const attack = startProgram("./slow-program.ts");
    try {
      const report = async (message: SlowJob | "report") => {
        const answer = nextMessage<SlowReport>(attack);
        attack.send(message);
        return answer;
      };
      const { url, headers } = server;
      await report({ url, headers, slowConnections: SLOW_CONNECTIONS, largeBodies: LARGE_BODIES });
      for (let waited = 0; (await report("report")).open < SLOW_CONNECTIONS * 0.95; waited += 100) {
        if (waited > OPEN_DEADLINE_MS) throw new Error("the slow connections could not be opened");
        await delay(100);
      }
      const before = await report("report");
      const value = await p99();
      const { open, cut, refused } = await report("report");
      const bodies = refused - before.refused;
      bench.say(
        `slow: ${open} slow connections open, ${cut} cut, ${bodies} large bodies refused; p99 ${value.toFixed(1)} ms, ${calm.toFixed(1)} ms without`,
      );
      return [
        {
          benchmark: "slow",
          what: `POST /v1/logs, ${CONNECTIONS} connections, p99, beside ${SLOW_CONNECTIONS} slow ones and ${LARGE_BODIES} with bodies of 100 MB`,
          value,
          unit: "ms",
          yardstick: calm,
          against: "without them",
          goal: GOAL_MS,
          goalIs: "greatest value" as const,
        },
      ];
    } finally {
      await stopProgram(attack);
    }
  });
}
