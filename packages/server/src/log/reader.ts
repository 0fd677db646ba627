/**
 * Reading entries: one by id, pages by filter. Openings are merged in.
 */
import { openLeaf } from "@tallystick/core/commitment";
import { type Filter, matcherOf } from "@tallystick/core/filter";
import { type Leaf, parseLeaf } from "@tallystick/core/leaf";
import type pg from "pg";
import type { Database } from "../db/database.ts";
import { candidatesOf, rectangular } from "./filter.ts";
import { entryIdTimeMs } from "./id.ts";
import type { LogIdentity } from "./identity.ts";
import { readOpenings } from "./openings.ts";
import type { TenantLog } from "./tenants.ts";

/** An entry as it is read. */
export interface Entry {
  readonly id: string;
  readonly seq: number;
  /** RFC 3339 UTC, microseconds. */
  readonly recordedAt: string;
  readonly leafHash: Buffer;
  /** The canonical bytes, exactly as hashed. */
  readonly leaf: string;
  /** What the leaf says, with the values of openings in place of their commitments. */
  readonly opened: Leaf;
}

export type Order = "asc" | "desc";

export interface Page {
  readonly entries: readonly Entry[];
  /** The last entry, where there are more behind it; undefined on the last page. */
  readonly next: { readonly seq: number } | undefined;
}

/** A page was not filled in the time that a query may take. */
export class SearchTimeoutError extends Error {
  constructor() {
    super("the search took too long");
    this.name = "SearchTimeoutError";
  }
}

const SEARCH_TIMEOUT_MS = 5_000;
const MAX_CANDIDATES = 4_096;

interface Row {
  readonly id: string;
  readonly seq: string;
  readonly recorded_at: string;
  readonly leaf_hash: Buffer;
  readonly leaf: string;
}

const COLUMNS = `e.id, e.seq, e.leaf_hash, e.leaf, to_char(e.recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as recorded_at`;

export class Reader {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * The entry of this id in any of the tenant's logs, and the log it is in; undefined where there is none. `latest` reads what was
   * committed a moment ago as well, where readers are sent to a standby.
   */
  async get(
    log: TenantLog,
    id: string,
    how: "usual" | "latest" = "usual",
  ): Promise<{ entry: Entry; log: LogIdentity } | undefined> {
    const from = new Date(entryIdTimeMs(id));
    if (Number.isNaN(from.getTime())) return undefined;
    const to = new Date(from.getTime() + 1);
    const read: Database["readLatest"] = (tenantId, work) =>
      how === "latest" ? this.#database.readLatest(tenantId, work) : this.#database.read(tenantId, work);
    return read(log.tenantId, async (client) => {
      // The id's time part leads to the commits of that millisecond, they to positions and to the partition.
      const find = async (logId: number) => {
        const { rows } = await client.query<Row>(
          `select ${COLUMNS} from tallystick.entries e
           where e.log_id = $1 and e.id = $2 and e.recorded_at >= $3 and e.recorded_at < $4
             and e.seq >= tallystick.size_before($1, $3) and e.seq < tallystick.size_before($1, $4)`,
          [logId, id, from, to],
        );
        return (await opened(client, logId, rows))[0];
      };
      const entry = await find(log.logId);
      if (entry !== undefined) return { entry, log };
      const { rows: others } = await client.query<LogIdentity>(
        `select id as "logId", tenant_id as "tenantId", name from tallystick.logs where tenant_id = $2 and id <> $1 order by id desc`,
        [log.logId, log.tenantId],
      );
      for (const other of others) {
        const found = await find(other.logId);
        if (found !== undefined) return { entry: found, log: other };
      }
      return undefined;
    });
  }

  /** Those of these ids that stand in this log, at the positions given. */
  async idsAt(log: TenantLog, entries: readonly { readonly id: string; readonly seq: number }[]): Promise<Set<string>> {
    if (entries.length === 0) return new Set();
    const times = entries.map(({ id }) => entryIdTimeMs(id));
    return this.#database.readLatest(log.tenantId, async (client) => {
      const { rows } = await client.query<{ id: string }>(
        `select e.id from unnest($2::bigint[], $3::uuid[]) as wanted (seq, id)
         join tallystick.entries e on e.log_id = $1 and e.seq = wanted.seq and e.id = wanted.id
           and e.recorded_at >= $4 and e.recorded_at < $5`,
        [
          log.logId,
          entries.map(({ seq }) => seq),
          entries.map(({ id }) => id),
          new Date(times.reduce((a, b) => Math.min(a, b))),
          new Date(times.reduce((a, b) => Math.max(a, b)) + 1),
        ],
      );
      return new Set(rows.map(({ id }) => id));
    });
  }

  /**
   * A page of entries that match, newest or oldest first. Entries that are recorded meanwhile are neither skipped nor seen
   * twice: positions never change.
   */
  async page(
    log: LogIdentity,
    filter: Filter,
    options: {
      order: Order;
      limit: number;
      after?: { readonly seq: number } | undefined;
      /** With `asc`: positions from here on are not looked at. */
      before?: number;
    },
  ): Promise<Page> {
    const { order, limit, after, before } = options;
    const candidates = candidatesOf(log.logId, filter);
    const matches = matcherOf(filter);
    return this.#database.read(log.tenantId, async (client) => {
      const found: Entry[] = [];
      let last = after?.seq;
      // One more than asked for tells whether there is a next page. More than one turn where candidates turned out not to match:
      // ever larger ones then, as many of their kind may follow, and no longer than one query may take.
      const deadline = performance.now() + SEARCH_TIMEOUT_MS;
      for (let wanted = limit + 1; found.length <= limit; wanted = Math.min(wanted * 4, MAX_CANDIDATES)) {
        if (performance.now() > deadline) throw new SearchTimeoutError();
        const { rows } = await client.query<Row>(
          `select ${COLUMNS}
           from tallystick.find_positions($1,
             greatest(case when $2::timestamptz is null then 0 else tallystick.size_before($1, $2) end, $3::bigint),
             least(case when $4::timestamptz is null then 9223372036854775807 else tallystick.size_before($1, $4) end, $5::bigint),
             $6, $7, $8, $9, $10, $11, $12, $13, $14) found
           join tallystick.entries e on e.log_id = $1 and e.seq = found.seq and e.recorded_at = found.recorded_at
           order by case when $6 then -e.seq else e.seq end`,
          [
            log.logId,
            filter.from ?? null,
            order === "asc" && last !== undefined ? last + 1 : 0,
            filter.to ?? null,
            (order === "desc" ? last : before) ?? Number.MAX_SAFE_INTEGER,
            order === "desc",
            wanted,
            rectangular(candidates.clauses),
            candidates.noneTerms,
            candidates.openingTerms,
            candidates.openingOrTerms,
            candidates.actionPatterns,
            filter.occurredFrom ?? null,
            filter.occurredTo ?? null,
          ],
        );
        for (const entry of await opened(client, log.logId, rows)) if (matches(entry.opened)) found.push(entry);
        if (rows.length < wanted) break;
        last = Number(rows.at(-1)!.seq);
      }
      const entries = found.slice(0, limit);
      const more = found.length > limit;
      return {
        entries,
        next: more ? { seq: entries.at(-1)!.seq } : undefined,
      };
    });
  }
}

/** Rows as entries, their openings merged in. */
async function opened(client: pg.ClientBase, logId: number, rows: readonly Row[]): Promise<Entry[]> {
  const entries = rows.map((row) => ({
    id: row.id,
    seq: Number(row.seq),
    recordedAt: row.recorded_at,
    leafHash: row.leaf_hash,
    leaf: row.leaf,
    opened: parseLeaf(row.leaf),
  }));
  const openings = await readOpenings(client, logId, entries);
  for (const { seq, opened } of entries) openLeaf(opened, openings.get(seq) ?? []);
  return entries;
}
