/**
 * Reading entries: one by id, pages by filter. Openings are merged in.
 */
import type { Filter } from "@tallystick/core/filter";
import type { Leaf } from "@tallystick/core/leaf";
import type { Database } from "../db/database.ts";
import { rankBy } from "../search/rank.ts";
import { ENTRY_ROW, type EntryRow, openedEntries } from "./entry-rows.ts";
import { findEntries } from "./find.ts";
import { entryIdTimeMs } from "./id.ts";
import type { LogIdentity } from "./identity.ts";
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

/** Entries that are put in the order of their rank: more would be read for every page, and ranked by nobody who looks for what is new. */
const MAX_RANKED = 1_000;

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
        const { rows } = await client.query<EntryRow>(
          `select ${ENTRY_ROW} from tallystick.entries e
           where e.log_id = $1 and e.id = $2 and e.recorded_at >= $3 and e.recorded_at < $4
             and e.seq >= tallystick.size_before($1, $3) and e.seq < tallystick.size_before($1, $4)`,
          [logId, id, from, to],
        );
        return (await openedEntries(client, logId, rows))[0];
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
      /** Whether the roll-ups may say which actions there are; not for what is to be handed over whole. */
      derived?: boolean;
    },
  ): Promise<Page> {
    const { order, limit, after, before, derived = true } = options;
    const desc = order === "desc";
    return this.#database.read(log.tenantId, async (client) => {
      const found = await findEntries(client, log.logId, filter, {
        desc,
        from: desc || after === undefined ? 0 : after.seq + 1,
        to: (desc ? after?.seq : before) ?? Number.MAX_SAFE_INTEGER,
        // One more than asked for tells whether there is a next page.
        limit: limit + 1,
        derived,
      });
      const entries = found.slice(0, limit);
      const more = found.length > limit;
      return {
        entries,
        next: more ? { seq: entries.at(-1)!.seq } : undefined,
      };
    });
  }

  /**
   * Of the newest 1,000 entries that match, the `limit` of the highest rank (search/rank.ts), the highest first and of one rank the newest
   * first.
   */
  async ranked(log: LogIdentity, filter: Filter, limit: number): Promise<readonly Entry[]> {
    const { entries } = await this.page(log, filter, { order: "desc", limit: MAX_RANKED });
    const rankOf = rankBy(filter);
    return entries
      .map((entry) => ({ entry, rank: rankOf(entry.opened) }))
      .sort((a, b) => b.rank - a.rank || b.entry.seq - a.entry.seq)
      .slice(0, limit)
      .map(({ entry }) => entry);
  }
}
