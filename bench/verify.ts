/**
 * Verifying a whole log, over HTTP as an auditor asks for it, against nothing but SHA-256 of its leaves in one thread.
 */
import { hash } from "node:crypto";
import { type Bench, onFreshServer } from "./bench.ts";
import { compared, type Result } from "./result.ts";
import { alternate } from "./rounds.ts";
import { type Tallystick, withClient } from "./tallystick.ts";

const GOAL = 0.25;

export async function verify(bench: Bench): Promise<Result[]> {
  const count = bench.quick ? 60_000 : 300_000;
  return onFreshServer(bench, async ({ server, record }) => {
    await record({ kind: "bulk", connections: 8, count, shape: {} });
    const size = await server.size();
    const leaves = await readLeaves(server.databaseUrl);
    if (leaves.length !== size) throw new Error(`read ${leaves.length} leaves of ${size}`);
    const bytes = leaves.reduce((sum, leaf) => sum + leaf.length, 0);
    const [value, yardstick] = await alternate(bench.quick ? 3 : 7, [
      async () => size / (await timed(() => verifyLog(server, size))),
      async () => size / (await timed(async () => hashAll(leaves))),
    ]);
    return [
      compared({
        benchmark: "verify",
        what: `full verification of ${size} entries, leaves of ${Math.round(bytes / size)} bytes`,
        value: value!,
        unit: "entries/s",
        yardstick: yardstick!,
        against: "SHA-256, one thread",
        goal: GOAL,
      }),
    ];
  });
}

async function verifyLog({ url, headers }: Tallystick, size: number): Promise<void> {
  const response = await fetch(`${url}/v1/admin/verify-chain`, { method: "POST", headers });
  const text = await response.text();
  if (!response.ok) throw new Error(`verify answered ${response.status}: ${text}`);
  const { ok, checked } = JSON.parse(text) as { ok: boolean; checked: number };
  if (!ok || checked !== size) throw new Error(`verify found ${text}, of ${size} entries`);
}

async function readLeaves(databaseUrl: string): Promise<Buffer[]> {
  return withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ leaf: string }>(
      `select leaf from tallystick.entries join tallystick.logs on logs.id = entries.log_id where logs.slug = 'default'`,
    );
    // As they are hashed: with the byte that tells a leaf from a node.
    return rows.map(({ leaf }) => Buffer.from(`\0${leaf}`));
  });
}

function hashAll(leaves: readonly Buffer[]): void {
  for (const leaf of leaves) hash("sha256", leaf, "hex"); // the fastest of its encodings
}

/** Seconds that `work` takes. */
async function timed(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return (performance.now() - startedAt) / 1000;
}
