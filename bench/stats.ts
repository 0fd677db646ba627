/**
 * Statistics over a year of a large log, and what counting entries into roll-ups costs.
 *
 * The year is made of what the worker writes, and of heads: its entries themselves are there for the newest minutes only, as these
 * queries read no others.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Event } from "@tallystick/core/event";
import type { Leaf } from "@tallystick/core/leaf";
import { RollupTally } from "@tallystick/server/stats/rollup-tally";
import { makePartition } from "@tallystick/server/testing/past-entries";
import type pg from "pg";
import type { Bench } from "./bench.ts";
import { eventAt } from "./events.ts";
import { LoadGenerator } from "./load.ts";
import type { Result } from "./result.ts";
import { startTallystick, type Tallystick, withClient } from "./tallystick.ts";

const GOAL_MS = 100;
const COST_GOAL_US = 5;
/** Entries of a transaction of the worker's, when it is behind. */
const RUN = 16_384;
const BUSY_RUNS = 20;
/** A rate that two cores do not reach. */
const BUSY_PER_MS = 20;
/** Entries that are not rolled up yet; as many as there are while nothing is recorded. */
const TAIL = 255;
const REQUESTS = 30;
const YEAR_MS = 365 * 86_400_000;
const SLUG = "year";

/** A range that is no whole minute at either end. */
const WINDOW = (end: number) =>
  `from=${new Date(end - YEAR_MS + 86_399_000).toISOString()}&to=${new Date(end - 86_317_000).toISOString()}`;

const QUERIES: readonly { readonly name: string; readonly query: (end: number) => string }[] = [
  { name: "entries by month", query: (end) => `interval=month&${WINDOW(end)}` },
  { name: "entries by day, New York", query: (end) => `interval=day&time_zone=America/New_York&${WINDOW(end)}` },
  { name: "action", query: (end) => `by=action&${WINDOW(end)}` },
  { name: "action by day", query: (end) => `by=action&interval=day&${WINDOW(end)}` },
  {
    name: "action by day, New York",
    query: (end) => `by=action&interval=day&time_zone=America/New_York&${WINDOW(end)}`,
  },
  { name: "outcome by day, Kolkata", query: (end) => `by=outcome&interval=day&time_zone=Asia/Kolkata&${WINDOW(end)}` },
  { name: "*.export* by month", query: (end) => `action=*.export*&interval=month&${WINDOW(end)}` },
  { name: "top 10 of 200,000 actors", query: (end) => `by=actor&${WINDOW(end)}` },
  { name: "top 10 of 200,000 actors by month", query: (end) => `by=actor&interval=month&${WINDOW(end)}` },
  { name: "top 10 of 200,000 actors by day", query: (end) => `by=actor&interval=day&${WINDOW(end)}` },
  {
    name: "top 10 of 200,000 actors by day, New York",
    query: (end) => `by=actor&interval=day&time_zone=America/New_York&${WINDOW(end)}`,
  },
  { name: "all of it: resource type by week, up to now", query: () => "by=resource_type&interval=week" },
];

export async function stats(bench: Bench): Promise<Result[]> {
  const count = bench.quick ? 1_000_000 : 10_000_000;
  const server = await startTallystick({
    profileDir: bench.profileDir,
    settings: { INDEX_WORKER: "false", RECORD_READS: "false" },
  });
  const load = new LoadGenerator();
  try {
    const end = Date.now();
    const busyCost = await withClient(server.databaseUrl, costWhenBusy);
    const cost = await withClient(server.databaseUrl, (client) => makeYear(bench, client, count, end));
    const { admin_token } = JSON.parse(await readFile(join(server.dataDir, "credentials.json"), "utf8"));
    const results: Result[] = [
      {
        benchmark: "stats",
        what: `rolling up, ${RUN} entries a transaction, ${BUSY_PER_MS * 1_000} a second`,
        value: busyCost,
        unit: "us an entry",
        goal: COST_GOAL_US,
        goalIs: "greatest value",
      },
      {
        benchmark: "stats",
        what: `rolling up, ${RUN} entries a transaction, ${count} a year`,
        value: cost,
        unit: "us an entry",
      },
    ];
    const headers = { "X-Admin-Token": admin_token, "X-Tenant-Id": SLUG };
    for (const { name, query } of QUERIES) {
      const path = `/v1/logs/stats?${query(end)}`;
      await checkAnswer(server, path, headers);
      const send = { kind: "get", paths: new Array(REQUESTS).fill(path) } as const;
      await load.run({ url: server.url, headers, connections: 1, send });
      const { latencyP50Ms, latencyP99Ms } = await load.run({ url: server.url, headers, connections: 1, send });
      bench.say(`stats: ${name}: p50 ${latencyP50Ms.toFixed(1)} ms, p99 ${latencyP99Ms.toFixed(1)} ms`);
      results.push({
        benchmark: "stats",
        what: `a year of ${count}: ${name}, p99 (p50 ${latencyP50Ms.toFixed(1)} ms)`,
        value: latencyP99Ms,
        unit: "ms",
        goal: GOAL_MS,
        goalIs: "greatest value",
      });
    }
    return results;
  } finally {
    await load.stop();
    await server.stop();
  }
}

async function checkAnswer({ url }: Tallystick, path: string, headers: Record<string, string>): Promise<void> {
  const response = await fetch(`${url}${path}`, { headers });
  const text = await response.text();
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${text}`);
  const { entries, values, buckets } = JSON.parse(text) as { entries: number; values?: unknown[]; buckets?: unknown[] };
  if (entries === 0 || values?.length === 0 || buckets?.length === 0) throw new Error(`${path} counted nothing`);
}

/** What rolling up takes while the worker is behind those who record: entries close together. In us an entry. */
async function costWhenBusy(client: pg.Client): Promise<number> {
  const log = await makeLog(client, "busy");
  let spentMs = 0;
  for (let run = 0; run < BUSY_RUNS; run++) {
    const leaves = Array.from({ length: RUN }, (_, i): Leaf => {
      const seq = run * RUN + i;
      const recorded_at = `${new Date(Date.UTC(2026, 0, 1) + seq / BUSY_PER_MS).toISOString().slice(0, -1)}000Z`;
      const service = { id: "default", seq, prev: "" };
      return { v: 1, log: "busy", seq, id: "", recorded_at, event: eventAt(seq, {}) as Event, service };
    });
    spentMs += await rollUp(client, log, leaves);
  }
  return (spentMs * 1_000) / (BUSY_RUNS * RUN);
}

/** One transaction of the worker's. Returns the ms that it took but for its COMMIT. */
async function rollUp(client: pg.Client, log: MadeLog, leaves: readonly Leaf[]): Promise<number> {
  await client.query("begin");
  await client.query("select set_config('tallystick.tenant_id', $1, true)", [log.tenantId]);
  const startedAt = performance.now();
  const tally = new RollupTally(log);
  for (const leaf of leaves) tally.add(leaf);
  await tally.write(client, { from: leaves[0]!.seq, to: leaves.at(-1)!.seq + 1 });
  const spentMs = performance.now() - startedAt;
  await client.query("commit");
  return spentMs;
}

/** Makes a tenant whose log has so many entries, evenly over a year. Returns what rolling one up took, in us. */
async function makeYear(bench: Bench, client: pg.Client, count: number, end: number): Promise<number> {
  const log = await makeLog(client, SLUG);
  const timeOf = (seq: number) => `${new Date(end - YEAR_MS + (seq / count) * YEAR_MS).toISOString().slice(0, -1)}000Z`;
  const leafAt = (seq: number): Leaf => ({
    ...{ v: 1, log: SLUG, seq, id: "", recorded_at: timeOf(seq), event: eventAt(seq, {}) as Event },
    service: { id: "default", seq, prev: "" },
  });
  let spentMs = 0;
  for (let from = 0; from < count; from += RUN) {
    const to = Math.min(count, from + RUN);
    const leaves = Array.from({ length: to - from }, (_, i) => leafAt(from + i));
    await insertHeads(client, log, leaves);
    const rolled = leaves.slice(0, Math.max(0, count - TAIL - from));
    spentMs += await rollUp(client, log, rolled);
    if (Math.floor(to / 1_000_000) > Math.floor(from / 1_000_000)) bench.say(`stats: ${to} of ${count} rolled up`);
  }
  // The newest minutes, where something is counted entry by entry.
  const tail = Array.from({ length: 2_000 }, (_, i) => leafAt(count - 2_000 + i));
  for (const month of new Set(tail.map(({ recorded_at }) => recorded_at.slice(0, 7))))
    await makePartition(client, month);
  await insertEntries(client, log, tail);
  for (const edge of [end - YEAR_MS + 86_399_000, end - 86_317_000]) {
    const seq = Math.floor(((edge - end + YEAR_MS) / YEAR_MS) * count);
    const leaves = Array.from({ length: 400 }, (_, i) => leafAt(seq - 200 + i));
    for (const month of new Set(leaves.map(({ recorded_at }) => recorded_at.slice(0, 7))))
      await makePartition(client, month);
    await insertEntries(client, log, leaves);
  }
  await client.query(
    "vacuum analyze tallystick.rollups, tallystick.rollup_values, tallystick.heads, tallystick.entries",
  );
  const { rows } = await client.query<{ rollups: string; values: string }>(
    `select pg_size_pretty(pg_total_relation_size('tallystick.rollups')) as rollups,
       pg_size_pretty(pg_total_relation_size('tallystick.rollup_values')) as values`,
  );
  bench.say(`stats: rollups take ${rows[0]!.rollups}, their values ${rows[0]!.values}`);
  return (spentMs * 1_000) / count;
}

interface MadeLog {
  readonly logId: number;
  readonly tenantId: string;
}

async function makeLog(client: pg.Client, slug: string): Promise<MadeLog> {
  const { rows } = await client.query<MadeLog>(
    `with tenant as (insert into tallystick.tenants (slug, name) values ($1, $1) returning id),
     log as (insert into tallystick.logs (tenant_id, name, slug) select id, 'bench/' || $1, $1 from tenant returning id, tenant_id),
     head as (insert into tallystick.heads (log_id, tenant_id, size, recorded_at, root) select id, tenant_id, 0, '2000-01-01', sha256('') from log)
     select id as "logId", tenant_id as "tenantId" from log`,
    [slug],
  );
  return rows[0]!;
}

/** A commit each hundred entries or so. */
async function insertHeads(client: pg.Client, { logId, tenantId }: MadeLog, leaves: readonly Leaf[]): Promise<void> {
  const last = leaves.filter((_, i) => i % 100 === 99 || i === leaves.length - 1);
  await client.query(
    `insert into tallystick.heads (log_id, tenant_id, size, recorded_at, root)
     select $1, $2, seq + 1, at, sha256('') from unnest($3::bigint[], $4::timestamptz[]) as head (seq, at)`,
    [logId, tenantId, last.map(({ seq }) => seq), last.map(({ recorded_at }) => recorded_at)],
  );
}

async function insertEntries(client: pg.Client, { logId, tenantId }: MadeLog, leaves: readonly Leaf[]): Promise<void> {
  await client.query(
    `insert into tallystick.entries (log_id, tenant_id, columns_version, leaf_hash, seq, recorded_at, id, leaf, action, terms)
     select $1, $2, 1, sha256(''), seq, at, gen_random_uuid(), leaf, '', '{}' from unnest($3::bigint[], $4::timestamptz[], $5::text[]) as entry (seq, at, leaf)
     on conflict do nothing`,
    [
      ...[logId, tenantId, leaves.map(({ seq }) => seq), leaves.map(({ recorded_at }) => recorded_at)],
      leaves.map((leaf) => JSON.stringify(leaf)),
    ],
  );
}
