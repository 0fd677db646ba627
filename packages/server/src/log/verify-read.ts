/**
 * What a verification reads, in pieces that each need no more than one short transaction.
 */
import pg from "pg";
import type { ServiceHeadRow } from "./verify-chains.ts";
import { copyRows } from "./verify-copy.ts";
import { type CheckedEntry, ENTRY_COLUMNS, EntryCheck, type LogIdentity } from "./verify-entry.ts";
import type { OpeningRow } from "./verify-openings.ts";
import { ProblemList } from "./verify-report.ts";
import type { TileRow } from "./verify-tiles.ts";
import type { HeadRow } from "./verify-tree.ts";

/** Runs `work` in a transaction of its own, with one snapshot, as someone who may see the log. */
export type Snapshot = <T>(work: (client: pg.ClientBase) => Promise<T>) => Promise<T>;

/** Positions [from, to) whose entries were recorded at or after `since` and before `until`. Times are PostgreSQL literals. */
export interface Span {
  readonly from: number;
  readonly to: number;
  readonly since: string;
  readonly until: string;
}

/** The log as it is when the verification begins. */
export interface Pinned {
  /** Undefined where the log has no head at all. */
  readonly head: HeadRow | undefined;
  /** The newest head of each service. */
  readonly services: readonly ServiceHeadRow[];
  /** One span a partition, in order, from the beginning of time to its end. */
  readonly spans: readonly Span[];
  /** The head of the empty log, which is made with it. */
  readonly firstHead: HeadRow | undefined;
  /** Tiles that a log of this size does not have: how many, and the first of them. */
  readonly extraTiles: {
    readonly count: number;
    readonly first: readonly { readonly level: number; readonly index: number }[];
  };
  /** What the database should refuse and might not: rows of tallystick.enforcement_gaps(). */
  readonly gaps: readonly { readonly relation: string; readonly gap: string }[];
}

/** Everything about positions [from, to) that was recorded in one span. */
export interface Batch {
  readonly span: Span;
  readonly entries: readonly CheckedEntry[];
  readonly openings: readonly OpeningRow[];
  readonly tiles: ReadonlyMap<number, TileRow>;
  /** Heads of size from + 1 on, up to the first beyond the last position. */
  readonly heads: readonly HeadRow[];
  readonly serviceHeads: readonly ServiceHeadRow[];
  /** What is wrong with single entries. */
  readonly problems: ProblemList;
  /** The position whose row PostgreSQL could not read: the only one of its batch. */
  readonly unreadable: number | undefined;
}

const TIME = (column: string) => `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
const HEAD = `h.size::float8 as size, ${TIME("h.recorded_at")} as "recordedAt", encode(h.root, 'hex') as root, h.tenant_id as "tenantId"`;
const SERVICE_HEAD = `s.service_id as "serviceId", s.seq::float8 as seq, s.tenant_id as "tenantId", encode(s.leaf_hash, 'hex') as "leafHash"`;
const TILE = `t.level, t.index::float8 as index, t.tenant_id as "tenantId", t.root, t.data`;
const OPENING = `o.seq::float8 as seq, ${TIME("o.recorded_at")} as "recordedAt", o.tenant_id as "tenantId", o.term::float8 as term, o.salt, o.pointer, o.value`;

/** Reads the newest head, and with it whatever has to be of the same moment. */
export async function readPinned(client: pg.ClientBase, { logId }: LogIdentity): Promise<Pinned> {
  const [heads, firstHeads, services, bounds, gaps] = await allOf([
    client.query<HeadRow>(`select ${HEAD} from tallystick.heads h where h.log_id = $1 order by h.size desc limit 1`, [
      logId,
    ]),
    client.query<HeadRow>(`select ${HEAD} from tallystick.heads h where h.log_id = $1 and h.size = 0`, [logId]),
    // One index look-up a service, however long the chains are.
    client.query<ServiceHeadRow>(
      `with recursive newest as (
         (select s.* from tallystick.service_heads s where s.log_id = $1 order by s.service_id, s.seq desc limit 1)
         union all
         select next.* from newest cross join lateral (
           select s.* from tallystick.service_heads s
           where s.log_id = $1 and s.service_id > newest.service_id order by s.service_id, s.seq desc limit 1
         ) next
       )
       select ${SERVICE_HEAD} from newest s`,
      [logId],
    ),
    client.query<{ bound: string; size: number | null }>(
      `with bounds as (
         select distinct unnest(regexp_matches(pg_get_expr(c.relpartbound, c.oid), '\\(''([^'']+)''\\)', 'g'))::timestamptz as bound
         from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'tallystick.entries'::regclass
       )
       select ${TIME("bound")} as bound, (
         select h.size::float8 from tallystick.heads h
         where h.log_id = $1 and h.recorded_at < bound order by h.recorded_at desc, h.size desc limit 1
       ) as size
       from bounds where isfinite(bound) order by bounds.bound`,
      [logId],
    ),
    client.query<{ relation: string; gap: string }>("select relation, gap from tallystick.enforcement_gaps()"),
  ]);
  const head = heads.rows[0];
  const size = head?.size ?? 0;
  const spans: Span[] = [];
  let since = "-infinity";
  let from = 0;
  for (const bound of [...bounds.rows, { bound: "infinity", size }]) {
    const to = Math.min(size, Math.max(from, bound.size ?? 0));
    spans.push({ from, to, since, until: bound.bound });
    since = bound.bound;
    from = to;
  }
  const { rows: extra } = await client.query<{ level: number; index: number; count: number }>(
    `select t.level, t.index::float8 as index, (count(*) over ())::float8 as count from generate_series(0, 6) as levels (level)
     join tallystick.tiles t on t.log_id = $1 and t.level = levels.level and t.index >= div($2::numeric, 256::numeric ^ (levels.level + 1))
     order by t.level, t.index limit 100`,
    [logId, size],
  );
  return {
    head,
    firstHead: firstHeads.rows[0],
    services: services.rows,
    spans,
    extraTiles: { count: extra[0]?.count ?? 0, first: extra },
    gaps: gaps.rows,
  };
}

/** The condition of being recorded in a span. The last one has no end, so that no time is outside all of them. */
function within(alias: string, { since, until }: Span): string {
  const end = until === "infinity" ? "" : ` and ${alias}.recorded_at < ${pg.escapeLiteral(until)}`;
  return `${alias}.recorded_at >= ${pg.escapeLiteral(since)}${end}`;
}

/** Reads a batch; each entry is checked as it arrives. Without `withEntries` everything but the entries. */
export async function readBatch(
  client: pg.ClientBase,
  log: LogIdentity,
  span: Span,
  options: { serviceId: string | undefined; withEntries: boolean },
): Promise<Batch> {
  const { from, to } = span;
  const { logId } = log;
  const entries: CheckedEntry[] = [];
  const problems = new ProblemList();
  const check = new EntryCheck(log, problems, options.serviceId);
  const rows = options.withEntries
    ? copyRows(
        client,
        `select ${ENTRY_COLUMNS} from tallystick.entries e
         where e.log_id = ${logId} and e.seq >= ${from} and e.seq < ${to} and ${within("e", span)} order by e.seq, e.recorded_at`,
        (row, at) => {
          const entry = check.check(row, at);
          if (entry !== undefined) entries.push(entry);
        },
      )
    : undefined;
  const range = [logId, from, to];
  const [, openings, tiles, heads] = await allOf([
    rows,
    client.query<OpeningRow>(
      `select ${OPENING} from tallystick.openings o where o.log_id = $1 and o.seq >= $2 and o.seq < $3 order by o.seq, o.pointer, o.recorded_at`,
      range,
    ),
    client.query<TileRow>(
      `select ${TILE} from tallystick.tiles t where t.log_id = $1 and t.level = 0 and t.index >= $2::bigint / 256 and t.index <= ($3::bigint - 1) / 256`,
      range,
    ),
    client.query<HeadRow>(
      `(select ${HEAD} from tallystick.heads h where h.log_id = $1 and h.size > $2 and h.size < $3 order by h.size)
       union all
       (select ${HEAD} from tallystick.heads h where h.log_id = $1 and h.size >= $3 order by h.size limit 1)`,
      range,
    ),
  ]);
  return {
    span,
    entries,
    openings: openings.rows,
    tiles: new Map(tiles.rows.map((tile) => [tile.index, tile])),
    heads: heads.rows,
    serviceHeads: await readServiceHeads(client, logId, entries),
    problems,
    unreadable: options.withEntries ? undefined : from,
  };
}

/** Waits for statements that were sent together; all have ended when the first failure is thrown. */
async function allOf<const Queries extends readonly unknown[]>(
  queries: Queries,
): Promise<{ -readonly [K in keyof Queries]: Awaited<Queries[K]> }> {
  await Promise.allSettled(queries);
  return Promise.all(queries);
}

/** The service heads between the first and the last entry that each service has here. */
async function readServiceHeads(
  client: pg.ClientBase,
  logId: number,
  entries: readonly CheckedEntry[],
): Promise<ServiceHeadRow[]> {
  const ranges = new Map<string, { first: number; last: number }>();
  for (const { service, computed, stored } of entries) {
    if (service === undefined || computed !== stored) continue;
    const range = ranges.get(service.id);
    if (range === undefined) ranges.set(service.id, { first: service.seq, last: service.seq });
    else range.last = service.seq;
  }
  if (ranges.size === 0) return [];
  const asked = [...ranges.values()];
  const { rows } = await client.query<ServiceHeadRow>(
    `select ${SERVICE_HEAD} from unnest($2::text[], $3::bigint[], $4::bigint[]) as asked (service_id, first, last)
     join tallystick.service_heads s on s.log_id = $1 and s.service_id = asked.service_id and s.seq between asked.first and asked.last
     order by s.service_id, s.seq limit $5`,
    [logId, [...ranges.keys()], asked.map(({ first }) => first), asked.map(({ last }) => last), 2 * entries.length],
  );
  return rows;
}

/** One stored tile. */
export async function readTile(
  client: pg.ClientBase,
  { logId }: LogIdentity,
  level: number,
  index: number,
): Promise<TileRow | undefined> {
  const { rows } = await client.query<TileRow>(
    `select ${TILE} from tallystick.tiles t where t.log_id = $1 and t.level = $2 and t.index = $3`,
    [logId, level, index],
  );
  return rows[0];
}

/** A row that stands where the log has no entry. */
export interface StrayRow {
  readonly seq: number;
  readonly id: string;
  readonly recordedAt: string;
}

/**
 * Entries that were recorded in a span but stand at positions of others, after the one given.
 * @param size positions from here on are not looked at: entries that arrive meanwhile are there.
 */
export async function readStrays(
  client: pg.ClientBase,
  { logId }: LogIdentity,
  span: Span,
  size: number,
  limit: number,
  after: StrayRow | undefined,
): Promise<StrayRow[]> {
  const stray = (condition: string) =>
    `(select e.seq::float8 as seq, e.id, ${TIME("e.recorded_at")} as "recordedAt" from tallystick.entries e
      where e.log_id = $1 and ${condition} and ${within("e", span)} and (e.seq, e.recorded_at) > ($2, $3::timestamptz)
      order by e.seq, e.recorded_at limit $4)`;
  const { rows } = await client.query<StrayRow>(
    `${stray(`e.seq < ${span.from}`)} union all ${stray(`e.seq >= ${span.to} and e.seq < ${size}`)} order by seq, "recordedAt" limit $4`,
    [logId, after?.seq ?? -1, after?.recordedAt ?? "-infinity", limit],
  );
  return rows;
}

/** What lies beyond the newest head, which no commit does. */
export async function readBeyond(client: pg.ClientBase, { logId }: LogIdentity, limit: number) {
  const newest = "(select coalesce(max(size), 0) from tallystick.heads where log_id = $1)";
  const [entries, openings] = await allOf([
    client.query<StrayRow & { count: number; size: number }>(
      `select e.seq::float8 as seq, e.id, ${TIME("e.recorded_at")} as "recordedAt", (count(*) over ())::float8 as count, ${newest}::float8 as size
       from tallystick.entries e where e.log_id = $1 and e.seq >= ${newest} order by e.seq, e.recorded_at limit $2`,
      [logId, limit],
    ),
    client.query<OpeningRow>(
      `select ${OPENING} from tallystick.openings o where o.log_id = $1 and o.seq >= ${newest} order by o.seq limit $2`,
      [logId, limit],
    ),
  ]);
  return { entries: entries.rows, openings: openings.rows };
}
