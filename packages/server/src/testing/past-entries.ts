/**
 * Logs for tests whose entries were recorded at times that the test chooses: rows as the server would have written them, but for their
 * hashes. Whatever verifies a log finds it broken.
 */
import { parseEvent } from "@tallystick/core/event";
import { type Leaf, parseLeaf } from "@tallystick/core/leaf";
import pg from "pg";
import { COLUMNS_VERSION, deriveColumns, termAt } from "../log/columns.ts";
import type { TenantLog } from "../log/tenants.ts";
import { RollupTally } from "../stats/rollup-tally.ts";
import type { TestDatabase, TestEvent } from "./log.ts";

/** An event, and when it was recorded: RFC 3339 UTC, microseconds. */
export interface PastEvent {
  readonly at: string;
  readonly event: TestEvent;
}

/**
 * Fills a new log; each time is a commit.
 * @param events in the order of their times.
 */
export async function recordInThePast(
  database: TestDatabase,
  log: TenantLog,
  events: readonly PastEvent[],
): Promise<Leaf[]> {
  const { superuser } = database;
  for (const month of new Set(events.map(({ at }) => at.slice(0, 7)))) await makePartition(superuser, month);
  const chains = new Map<string, number>();
  const entries = events.map(({ at, event: input }, seq) => {
    const { event } = parseEvent(input);
    const id = `00000000-0000-7000-8000-${seq.toString(16).padStart(12, "0")}`;
    const serviceId = event.service_id ?? "default";
    const serviceSeq = chains.get(serviceId) ?? 0;
    chains.set(serviceId, serviceSeq + 1);
    const service = { id: serviceId, seq: serviceSeq, prev: "0".repeat(64) };
    const leaf = JSON.stringify({ v: 1, log: log.name, seq, id, recorded_at: at, service, event });
    const { occurredAt, action, termHashes } = deriveColumns(log.logId, event, serviceId);
    const terms = `{${termHashes.map((hash) => termAt(hash, seq)).join()}}`;
    return { seq, at, id, leaf, occurredAt: occurredAt ?? null, action, terms };
  });
  const column = (name: keyof (typeof entries)[number]) => entries.map((entry) => entry[name]);
  // A new log's head has the time at which the log was made.
  await database.tamper("update tallystick.heads set recorded_at = '2000-01-01' where log_id = $1 and size = 0", [
    log.logId,
  ]);
  await superuser.query(
    `insert into tallystick.entries (log_id, tenant_id, columns_version, leaf_hash, seq, recorded_at, id, leaf, occurred_at, action, terms)
     select $1, $2, ${COLUMNS_VERSION}, sha256('\\x00'::bytea || convert_to(leaf, 'UTF8')), seq, at, id, leaf, occurred_at, action, terms::bigint[]
     from unnest($3::bigint[], $4::timestamptz[], $5::uuid[], $6::text[], $7::timestamptz[], $8::text[], $9::text[])
       as entry (seq, at, id, leaf, occurred_at, action, terms)`,
    [
      ...[log.logId, log.tenantId, column("seq"), column("at"), column("id"), column("leaf")],
      ...[column("occurredAt"), column("action"), column("terms")],
    ],
  );
  await superuser.query(
    `insert into tallystick.heads (log_id, tenant_id, recorded_at, size, root)
     select $1, $2, at, max(seq) + 1, sha256('') from unnest($3::bigint[], $4::timestamptz[]) as entry (seq, at) group by at`,
    [log.logId, log.tenantId, column("seq"), column("at")],
  );
  return entries.map(({ leaf }) => parseLeaf(leaf));
}

/** @param month `2026-03` */
export async function makePartition(superuser: pg.ClientBase, month: string): Promise<void> {
  const next = new Date(Date.parse(`${month}-01T00:00:00Z`));
  next.setUTCMonth(next.getUTCMonth() + 1);
  for (const parent of ["entries", "openings"]) {
    await superuser.query("select tallystick.attach_partition(('tallystick.' || $1::text)::regclass, $2, $3, $4)", [
      parent,
      `${parent}_${month.replace("-", "_")}`,
      `${month}-01T00:00:00Z`,
      next.toISOString(),
    ]);
  }
}

/** Rolls these entries up in a transaction of the writing role's; they go on where the last ones ended. */
export async function rollUp(
  url: string,
  log: TenantLog,
  leaves: readonly Leaf[],
  from = leaves[0]?.seq,
): Promise<void> {
  if (from === undefined) return;
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query("begin");
    await client.query("select set_config('tallystick.tenant_id', $1, true)", [log.tenantId]);
    const tally = new RollupTally(log);
    for (const leaf of leaves) tally.add(leaf);
    await tally.write(client, { from, to: from + leaves.length });
    await client.query("commit");
  } finally {
    await client.end();
  }
}
