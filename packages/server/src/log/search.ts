/**
 * All entries of a log that match, however many there are and however few: page by page, over spans of positions, in transactions
 * that last no longer than a page. For what is handed over whole: evidence and exports.
 */
import type { Filter } from "@tallystick/core/filter";
import type { Database } from "../db/database.ts";
import { SearchTimeoutError } from "./find.ts";
import type { LogIdentity } from "./identity.ts";
import { type Entry, Reader } from "./reader.ts";

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
  readonly #reader: Pick<Reader, "page">;

  constructor(database: Database, reader: Pick<Reader, "page"> = new Reader(database)) {
    this.#database = database;
    this.#reader = reader;
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
    const search = (start: number) => {
      if (start >= to) return undefined;
      const page = this.#page(log, filter, start, Math.min(start + span, to));
      page.catch(() => {}); // told of by whoever waits for it
      return page;
    };
    for (let next = search(from); next !== undefined; ) {
      signal?.throwIfAborted();
      const { from: start, entries, end, tookMs } = await next;
      if (end === undefined) {
        if (span === SPANS.least) throw new SearchTimeoutError();
        span = Math.max(SPANS.least, span >> 3);
        next = search(start);
        continue;
      }
      if (tookMs > SLOW_MS) span = Math.max(SPANS.least, span >> 1);
      else if (tookMs < QUICK_MS) span = Math.min(SPANS.most, span << 1);
      // The database looks for the next page while somebody works with this one.
      next = search(end);
      if (entries.length > 0) yield entries;
    }
  }

  /** A page of [from, before), and the position that it goes to; without one where it took too long. */
  async #page(log: LogIdentity, filter: Filter, from: number, before: number): Promise<Searched> {
    const startedAt = performance.now();
    const tookMs = () => performance.now() - startedAt;
    try {
      const after = { seq: from - 1 };
      const { entries, next } = await this.#reader.page(log, filter, {
        order: "asc",
        limit: BATCH,
        after,
        before,
        derived: false,
      });
      return { from, entries, end: next === undefined ? before : next.seq + 1, tookMs: tookMs() };
    } catch (error) {
      const timedOut = error instanceof SearchTimeoutError || (error as { code?: unknown }).code === QUERY_CANCELED;
      if (timedOut) return { from, entries: [], end: undefined, tookMs: tookMs() };
      throw error;
    }
  }
}

interface Searched {
  readonly from: number;
  readonly entries: readonly Entry[];
  readonly end: number | undefined;
  readonly tookMs: number;
}
