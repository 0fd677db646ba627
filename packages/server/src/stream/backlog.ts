/**
 * What a stream has to be given before it can follow: read in pages, by the index where much lies behind, straight where little does.
 */
import { type Filter, type Matcher, matcherOf } from "@tallystick/core/filter";
import { SearchTimeoutError } from "../log/find.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { Entry, Reader } from "../log/reader.ts";
import type { Slots } from "./slots.ts";
import { RUN_ENTRIES, type TailReader } from "./tail-reader.ts";
import type { Turns } from "./turns.ts";

/** Matching entries between two positions, and what is known by then. */
export interface Piece {
  readonly entries: readonly Entry[];
  /** Everything before this has been considered. */
  readonly position: number;
}

/** So near the end entries are read as they come: the index would save nothing. */
const NEAR = 2 * RUN_ENTRIES;
/** Positions that one search may go through; fewer after one that took too long. */
const FIRST_WINDOW = 65_536;
const MAX_WINDOW = 2 ** 24;
/** Entries of a piece: fewer where the client has taken fewer, so that the rest is not read in vain. */
const MIN_PIECE = 4;
const MAX_PIECE = RUN_ENTRIES;

export interface BacklogParts {
  readonly reader: Reader;
  readonly tail: TailReader;
  /** How many read at a time, of all streams, tenant by tenant: those who look back are not to hold up those who search and write. */
  readonly slots: Slots;
  readonly turns: Turns;
}

export class Backlog {
  readonly #parts: BacklogParts;
  readonly #log: LogIdentity;
  readonly #filter: Filter;
  readonly #matches: Matcher;
  #window = FIRST_WINDOW;
  #piece = MAX_PIECE / 2;
  #notBefore: string | undefined;

  constructor(parts: BacklogParts, log: LogIdentity, filter: Filter) {
    this.#parts = parts;
    this.#log = log;
    this.#filter = filter;
    this.#matches = matcherOf(filter);
  }

  /** Tells how many entries of the last piece the client had room for. */
  took(count: number, { entries }: Piece): void {
    this.#piece = count < entries.length ? Math.max(MIN_PIECE, count * 2) : Math.min(MAX_PIECE, this.#piece * 2);
  }

  /** The next piece of [from, end), which is not empty; `from` never goes back. */
  next(from: number, end: number): Promise<Piece> {
    return this.#parts.slots.take(this.#log.tenantId, async () => {
      if (end - from > NEAR) {
        // A standby may be behind: only what it has can be searched there.
        const seen = Math.min(end, await this.#parts.tail.sizeForReaders(this.#log));
        while (seen - from > NEAR && this.#window > NEAR) {
          const piece = await this.#search(from, Math.min(seen, from + this.#window));
          if (piece !== undefined) return piece;
        }
      }
      return this.#run(from, end);
    });
  }

  /** Undefined where it took too long: the next one goes through less. */
  async #search(from: number, before: number): Promise<Piece | undefined> {
    try {
      const { entries, next } = await this.#parts.reader.page(this.#log, this.#filter, {
        ...{ order: "asc", limit: this.#piece, before },
        ...(from > 0 && { after: { seq: from - 1 } }),
      });
      this.#window = Math.min(this.#window * 2, MAX_WINDOW);
      return { entries, position: next === undefined ? before : next.seq + 1 };
    } catch (error) {
      if (!(error instanceof SearchTimeoutError) && (error as { code?: unknown }).code !== "57014") throw error;
      this.#window = Math.floor(this.#window / 4);
      return undefined;
    }
  }

  async #run(from: number, end: number): Promise<Piece> {
    const limit = this.#piece;
    const run = await this.#parts.tail.run(this.#log, from, { limit, notBefore: this.#notBefore });
    const entries = run.filter(({ seq }) => seq < end);
    // The first one's time: of the others it may be that they are read again.
    this.#notBefore = entries[0]?.recordedAt ?? this.#notBefore;
    const matching: Entry[] = [];
    for (const entry of entries) {
      if (this.#parts.turns.isOver) await this.#parts.turns.next();
      if (this.#matches(entry.opened)) matching.push(entry);
    }
    return {
      entries: matching,
      position: entries.length < run.length || run.length < limit ? end : entries.at(-1)!.seq + 1,
    };
  }
}
