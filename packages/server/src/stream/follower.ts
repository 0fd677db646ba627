/**
 * Follows one log for all streams of it: each new entry is read once, and handed to those that it may concern.
 */
import type { Filter } from "@tallystick/core/filter";
import type { LogIdentity } from "../log/identity.ts";
import type { Entry } from "../log/reader.ts";
import { Dispatch } from "./dispatch.ts";
import { Item } from "./messages.ts";
import { RUN_ENTRIES, type TailReader } from "./tail-reader.ts";
import type { Turns } from "./turns.ts";

/** A stream that has been sent all before some position, and takes what comes. */
export interface Follows {
  readonly filter: Filter;
  /** The first position that it has not been given. */
  readonly position: number;
  /** Takes an entry that its filter may match; those before its position it has had. Must not throw, nor wait. */
  offer(item: Item): void;
}

/** Between the starts of two reads: what arrives meanwhile is read together. The first entry after a pause is read at once. */
const INTERVAL_MS = 40;
/** What has been read last is kept, so that who has read the log up to here can join while it grows. */
const KEPT_ENTRIES = 512;
const KEPT_CHARACTERS = 256 * 1_024;

export interface FollowerOptions {
  readonly log: LogIdentity;
  readonly reader: Pick<TailReader, "run">;
  /** Shared with all that compares entries with filters: together they are not to hold up who writes. */
  readonly turns: Turns;
  /** How often it looks without being told, in ms. */
  readonly pollMs: () => number;
  /** Told when the log cannot be read; once, until it can. */
  readonly onError: (error: unknown) => void;
}

export class Follower {
  readonly log: LogIdentity;
  readonly #options: FollowerOptions;
  readonly #dispatch = new Dispatch<Follows>();
  readonly #kept: Item[] = [];
  #keptCharacters = 0;
  #position: number;
  /** The entry at `#position`, while it is handed to one after another. */
  #handing: Item | undefined;
  #notBefore: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reading = false;
  /** Whether the log has grown since the read under way began. */
  #grown = false;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #failed = false;
  #stopped = false;

  /** @param position from here on. */
  constructor(options: FollowerOptions, position: number) {
    this.log = options.log;
    this.#options = options;
    this.#position = position;
    this.#readIn(0);
  }

  /** The first position that has not been read: whoever follows has been given all before it that it may concern. */
  get position(): number {
    return this.#position;
  }

  /** The log has grown, or may have. */
  grew(): void {
    if (this.#reading) {
      this.#grown = true;
      return;
    }
    this.#readIn(this.#readAtMs + INTERVAL_MS - performance.now());
  }

  /**
   * Gives a stream what it has missed, and everything from now on; false where it has missed more than is kept, and has to read
   * the log up to here first. Nothing is read between the look and the joining.
   */
  join(stream: Follows): boolean {
    const first = this.#kept[0]?.entry.seq ?? this.#position;
    if (stream.position < first) return false;
    this.#dispatch.add(stream);
    // It may leave while it is given these.
    for (const item of this.#kept) if (item.entry.seq >= stream.position) stream.offer(item);
    // It may have come too late for its place among those who are given this one.
    if (this.#handing !== undefined) stream.offer(this.#handing);
    return true;
  }

  leave(stream: Follows): void {
    this.#dispatch.delete(stream);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #wait(): void {
    this.#readIn(this.#options.pollMs());
  }

  #readIn(ms: number): void {
    clearTimeout(this.#timer);
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#read(), Math.max(0, ms)).unref();
  }

  async #read(): Promise<void> {
    this.#reading = true;
    this.#grown = false;
    this.#readAtMs = performance.now();
    let entries: Entry[];
    try {
      entries = await this.#options.reader.run(this.log, this.#position, {
        limit: RUN_ENTRIES,
        notBefore: this.#notBefore,
      });
      this.#failed = false;
    } catch (error) {
      if (!this.#failed && !this.#stopped) this.#options.onError(error);
      this.#failed = true;
      this.#reading = false;
      this.#wait();
      return;
    }
    const tookMs = await this.#hand(entries);
    this.#reading = false;
    if (this.#stopped) return;
    if (entries.length === RUN_ENTRIES || this.#grown) {
      // As long as this took the process is left to the others: whoever writes is not to wait for those who look on.
      const more = entries.length === RUN_ENTRIES ? 0 : this.#readAtMs + INTERVAL_MS - performance.now();
      this.#readIn(Math.max(tookMs, more));
      return;
    }
    this.#wait();
  }

  /** Resolves with the time that it worked, in ms. Others have their turn between any two streams. */
  async #hand(entries: readonly Entry[]): Promise<number> {
    const { turns } = this.#options;
    let startedMs = performance.now();
    for (const entry of entries) {
      const item = new Item(entry);
      this.#handing = item;
      for (const stream of this.#dispatch.of(entry.opened)) {
        stream.offer(item);
        if (turns.isOver) startedMs += await turns.next();
        if (this.#stopped) return 0;
      }
      this.#handing = undefined;
      this.#position = entry.seq + 1;
      this.#notBefore = entry.recordedAt;
      this.#keep(item);
    }
    // Nobody can have missed anything since the last look: what is kept is kept for nobody.
    if (entries.length === 0) {
      this.#kept.length = 0;
      this.#keptCharacters = 0;
    }
    return performance.now() - startedMs;
  }

  #keep(item: Item): void {
    this.#kept.push(item);
    this.#keptCharacters += item.entry.leaf.length;
    while (this.#kept.length > KEPT_ENTRIES || this.#keptCharacters > KEPT_CHARACTERS) {
      this.#keptCharacters -= this.#kept.shift()!.entry.leaf.length;
    }
  }
}
