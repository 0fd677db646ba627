/**
 * All entries of a log that match, however many there are and however few: page by page, over spans of positions, in transactions
 * that last no longer than a page. For what is handed over whole: evidence and exports.
 */
import type { Filter } from "@tallystick/core/filter";
import type { Database } from "../db/database.ts";
import type { LogIdentity } from "./identity.ts";
import { type Entry, Reader, SearchTimeoutError } from "./reader.ts";

/** Entries read at once. Leaves have at most 64 kB each. */
const BATCH = 250;
/**
 * Positions that one page goes over. With few matches more could take longer than a query may, and how much that is depends on what
 * is asked for, and on the machine: spans grow while they are quick, and shrink where they are slow.
 */
const SPANS = { least: 1_024, first: 16_384, most: 4 * 65_536 };
const QUICK_MS = 250;
const SLOW_MS = 1_000;

/** PostgreSQL's code for a statement that took too long. */
const QUERY_CANCELED = "57014";

export interface SearchRange {
  readonly filter: Filter;
  /** Positions, `to` exclusive. */
  readonly from: number;
  readonly to: number;
  /** Ends the search between two pages: whoever waits for it is gone. */
  readonly signal?: AbortSignal | undefined;
}

export class LogSearch {
  readonly #database: Database;
  readonly #reader: Reader;

  constructor(database: Database) {
    this.#database = database;
    this.#reader = new Reader(database);
  }

  /** The positions that entries of this time have, as of now: [from, to), without an end where the filter has none. */
  async bounds(log: LogIdentity, { from, to }: Filter): Promise<{ from: number; to: number | undefined }> {
    return this.#database.readLatest(log.tenantId, async (client) => {
      const { rows } = await client.query<{ from: string; to: string | null }>(
        `select case when $2::timestamptz is null then 0 else tallystick.size_before($1, $2) end as from,
           case when $3::timestamptz is null then null else tallystick.size_before($1, $3) end as to`,
        [log.logId, from ?? null, to ?? null],
      );
      const bounds = rows[0]!;
      return { from: Number(bounds.from), to: bounds.to === null ? undefined : Number(bounds.to) };
    });
  }

  /**
   * Entries of [from, to) that match, oldest first, some at a time and never none.
   *
   * @throws {SearchTimeoutError} where even a thousand positions cannot be searched in the time that a query may take.
   * @throws what `signal` was aborted with.
   */
  async *entries(log: LogIdentity, { filter, from, to, signal }: SearchRange): AsyncGenerator<readonly Entry[]> {
    let span = SPANS.first;
    for (let start = from; start < to; ) {
      signal?.throwIfAborted();
      const before = Math.min(start + span, to);
      const startedAt = performance.now();
      const page = await this.#page(log, filter, start, before);
      const tookMs = performance.now() - startedAt;
      if (page === undefined) {
        if (span === SPANS.least) throw new SearchTimeoutError();
        span = Math.max(SPANS.least, span >> 3);
        continue;
      }
      if (page.entries.length > 0) yield page.entries;
      start = page.next === undefined ? before : page.next.seq + 1;
      if (tookMs > SLOW_MS) span = Math.max(SPANS.least, span >> 1);
      else if (tookMs < QUICK_MS) span = Math.min(SPANS.most, span << 1);
    }
  }

  /** Undefined where it took too long. */
  async #page(log: LogIdentity, filter: Filter, from: number, before: number) {
    try {
      const after = { seq: from - 1 };
      return await this.#reader.page(log, filter, { order: "asc", limit: BATCH, after, before });
    } catch (error) {
      if (error instanceof SearchTimeoutError || (error as { code?: unknown }).code === QUERY_CANCELED)
        return undefined;
      throw error;
    }
  }
}
