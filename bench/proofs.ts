/**
 * Proofs over HTTP, one request after the other: receipts of entries anywhere in a large log and in a small one, and consistency.
 */
import { type Bench, onFreshServer, type Subject } from "./bench.ts";
import { fill } from "./fill.ts";
import { compared, type Result } from "./result.ts";
import { withClient } from "./tallystick.ts";

const REQUESTS = 1_000;
const WARM_UP = 60;

export async function proofs(bench: Bench): Promise<Result[]> {
  const [size, smallSize] = bench.quick ? [100_000, 20_000] : [1_000_000, 100_000];
  const at = (entries: number) =>
    onFreshServer(bench, async (subject) => {
      await fill(bench, subject, entries, {});
      return measure(subject);
    });
  const small = await at(smallSize);
  const large = await at(size);
  return (["receipt", "consistency"] as const).map((kind) =>
    compared({
      benchmark: "proofs",
      what: `${kind}, p99 at ${size} (p50 ${large[kind].latencyP50Ms.toFixed(2)} ms)`,
      value: large[kind].latencyP99Ms,
      unit: "ms",
      yardstick: small[kind].latencyP99Ms,
      against: `at ${smallSize}`,
    }),
  );
}

async function measure({ server, load }: Subject) {
  const size = await server.size();
  // Evenly over the whole log, each once: hardly any two need the same tile of the lowest level.
  const seqs = Array.from({ length: REQUESTS + WARM_UP }, (_, i) => Math.floor(((i * 0.6180339887) % 1) * size));
  const ids = await withClient(server.databaseUrl, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      "select id from unnest($1::bigint[]) with ordinality as wanted (seq, n) join tallystick.entries using (seq) where log_id = 1 order by n",
      [seqs],
    );
    return rows.map(({ id }) => id);
  });
  const paths = {
    receipt: ids.map((id) => `/v1/logs/${id}/receipt`),
    consistency: seqs.map((from) => `/v1/tenants/default/log/consistency?from=${from}`),
  };
  const run = async (kind: keyof typeof paths) => {
    await load.run(server.job(1, { kind: "get", paths: paths[kind].slice(0, WARM_UP) }));
    return load.run(server.job(1, { kind: "get", paths: paths[kind].slice(WARM_UP) }));
  };
  return { receipt: await run("receipt"), consistency: await run("consistency") };
}
