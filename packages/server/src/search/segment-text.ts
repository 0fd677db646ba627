/**
 * What text search knows of entries: which values each 256 of them have, where, and the terms of these.
 *
 * Nearly every value of an entry has been seen before: what it gives is remembered, and a segment takes it once. So an entry costs a
 * look-up for each of its values, where taking them apart and hashing them would cost ten times as much.
 */
import { lineOf, textsOf } from "@tallystick/core/entry-text";
import type { Event } from "@tallystick/core/event";
import { wordsOf } from "@tallystick/core/words";
import { addressRanges } from "./address-ranges.ts";
import {
  blockBase,
  memberHasTerm,
  memberOf,
  OVERFLOW,
  overflowTerm,
  pairOf,
  prefixOf,
  type TermKind,
  textTerm,
} from "./text-terms.ts";

/** The columns of one row of text_segments or text_openings. */
export interface SegmentText {
  /** Ascending, without repeats; the block is in them. */
  readonly terms: Float64Array;
  /**
   * A line for each different value: its words as they stand in an entry's line, a tab, and which of the positions have it, as in
   * ` gold \t0-3,17,255`. In the order in which they are met.
   */
  readonly text: string;
}

/** What a value gives. */
interface Value {
  /** Its part of a line; empty where it has no word. */
  readonly part: string;
  readonly terms: readonly number[];
  /** The segment that it was last met in, and where there. */
  takenBy: number;
  at: number[];
  /** Characters of it, as it came or as words, whichever are more. */
  readonly size: number;
}

/** A member by its path: its values, and the members in it. */
interface Member {
  readonly path: readonly string[];
  readonly members: Map<string, Member>;
  readonly values: Map<string, { readonly term: number; takenBy: number }>;
}

const MAX_REMEMBERED = 50_000;
/** Longer texts hardly come again. */
const MAX_REMEMBERED_LENGTH = 256;
/**
 * Characters of a segment's values, as they come or as words: one character may be eighteen as words. Entries whose values go beyond it are
 * marked (OVERFLOW), and every search for text looks at them.
 */
const MAX_SEGMENT_LENGTH = 512 * 1024;

/** Derives the segments of one log, one after the other. */
export class SegmentTexts {
  readonly #logId: number;
  readonly #overflow: Value;
  readonly #values = new Map<string, Value>();
  readonly #addresses = new Map<string, { readonly terms: readonly number[]; takenBy: number }>();
  readonly #words = new Map<string, readonly number[]>();
  #metadata = newMember([]);
  #changes = newMember([]);
  #members = 0;
  /** Of the segment that is being made. */
  #number = 0;
  #terms = new Uint32Array(4_096);
  #count = 0;
  /** Positions that were added, and the values that they have. */
  #added = 0;
  #room = MAX_SEGMENT_LENGTH;
  #taken: Value[] = [];

  constructor(logId: number) {
    this.#logId = logId;
    this.#overflow = { part: ` ${OVERFLOW} `, terms: [overflowTerm(logId)], takenBy: -1, at: [], size: 0 };
  }

  /** Adds the event of the next entry of the segment, as it stands in its leaf; undefined where there is none that can be read. */
  add(event: Event | undefined): void {
    const at = this.#added++;
    if (event === undefined) return;
    this.#addTexts(textsOf(event), at);
    if (isObject(event.metadata)) this.#addMembers(event.metadata, this.#metadata, "metadata");
    if (isObject(event.changes)) this.#addMembers(event.changes, this.#changes, "changes");
    this.#addAddress(event.context?.ip);
  }

  /** Adds what was opened of the next entry: names and e-mail addresses, and the address. */
  addOpened(texts: readonly string[], ips: readonly string[]): void {
    this.#addTexts(texts, this.#added++);
    for (const ip of ips) this.#addAddress(ip);
  }

  /** The segment of what was added since the last one. */
  finish(segment: number): SegmentText {
    const sorted = this.#terms.subarray(0, this.#count).sort();
    const terms = new Float64Array(sorted.length);
    const base = blockBase(segment);
    let count = 0;
    for (let i = 0; i < sorted.length; i++)
      if (i === 0 || sorted[i] !== sorted[i - 1]) terms[count++] = base + sorted[i]!;
    const text = this.#taken.map(({ part, at }) => `${part}\t${rangesOf(at)}`).join("\n");
    this.#taken = [];
    this.#added = 0;
    this.#room = MAX_SEGMENT_LENGTH;
    this.#count = 0;
    this.#number++;
    this.#forget();
    return { terms: terms.subarray(0, count), text };
  }

  #addTexts(texts: readonly string[], at: number): void {
    for (const text of texts) {
      let value = this.#values.get(text);
      if (value?.takenBy !== this.#number) {
        // Not even taken apart where it cannot fit.
        if (text.length <= this.#room) value ??= this.#take(text);
        this.#room -= value?.size ?? text.length;
        if (this.#room < 0 || value === undefined) {
          this.#room = 0;
          value = this.#overflow;
        }
      }
      this.#mark(value, at);
    }
  }

  #mark(value: Value, at: number): void {
    if (value.takenBy === this.#number) {
      if (value.at[value.at.length - 1] !== at) value.at.push(at);
      return;
    }
    value.takenBy = this.#number;
    value.at = [at];
    if (value.part === "") return;
    this.#taken.push(value);
    for (const term of value.terms) this.#push(term);
  }

  #addAddress(ip: unknown): void {
    if (typeof ip !== "string") return;
    let address = this.#addresses.get(ip);
    if (address === undefined) {
      address = { terms: addressRanges(ip).map((range) => textTerm(this.#logId, "ip", range)), takenBy: -1 };
      this.#addresses.set(ip, address);
    }
    if (address.takenBy === this.#number) return;
    address.takenBy = this.#number;
    for (const term of address.terms) this.#push(term);
  }

  /** As `membersAt` of core finds them: through arrays each item is meant. */
  #addMembers(value: unknown, member: Member, kind: TermKind): void {
    if (Array.isArray(value)) {
      for (const item of value) this.#addMembers(item, member, kind);
    } else if (isObject(value)) {
      for (const key in value) {
        let next = member.members.get(key);
        if (next === undefined) {
          next = newMember([...member.path, key]);
          member.members.set(key, next);
          this.#members++;
        }
        this.#addMembers((value as Record<string, unknown>)[key], next, kind);
      }
    } else {
      const text = typeof value === "string" ? value : String(value);
      if (!memberHasTerm(text)) return;
      let known = member.values.get(text);
      if (known === undefined) {
        known = { term: textTerm(this.#logId, kind, memberOf(member.path, text)), takenBy: -1 };
        if (text.length <= MAX_REMEMBERED_LENGTH) {
          member.values.set(text, known);
          this.#members++;
        }
      }
      if (known.takenBy === this.#number) return;
      known.takenBy = this.#number;
      this.#push(known.term);
    }
  }

  #take(text: string): Value | undefined {
    const part = lineOf([text]);
    const size = Math.max(text.length, part.length);
    if (text.length > MAX_REMEMBERED_LENGTH && size > this.#room) return undefined; // nor hashed
    const words = wordsOf(text);
    const terms: number[] = [];
    for (let i = 0; i < words.length; i++) {
      for (const term of this.#words.get(words[i]!) ?? this.#takeWord(words[i]!)) terms.push(term);
      if (i > 0) terms.push(textTerm(this.#logId, "pair", pairOf(words[i - 1]!, words[i]!)));
    }
    const value: Value = { part: words.length === 0 ? "" : part, terms, takenBy: -1, at: [], size };
    if (text.length <= MAX_REMEMBERED_LENGTH) this.#values.set(text, value);
    return value;
  }

  #takeWord(word: string): readonly number[] {
    const terms = [textTerm(this.#logId, "word", word)];
    const prefix = prefixOf(word);
    if (prefix !== undefined) terms.push(textTerm(this.#logId, "prefix", prefix));
    this.#words.set(word, terms);
    return terms;
  }

  #push(term: number): void {
    if (this.#count === this.#terms.length) {
      const larger = new Uint32Array(this.#terms.length * 2);
      larger.set(this.#terms);
      this.#terms = larger;
    }
    this.#terms[this.#count++] = term;
  }

  /** Between segments only: what is remembered says which segment has it. */
  #forget(): void {
    if (this.#values.size > MAX_REMEMBERED) this.#values.clear();
    if (this.#addresses.size > MAX_REMEMBERED) this.#addresses.clear();
    if (this.#words.size > MAX_REMEMBERED) this.#words.clear();
    if (this.#members <= MAX_REMEMBERED) return;
    this.#metadata = newMember([]);
    this.#changes = newMember([]);
    this.#members = 0;
  }
}

/** `0-3,17,255`. */
function rangesOf(ascending: readonly number[]): string {
  let text = "";
  for (let i = 0; i < ascending.length; ) {
    let end = i + 1;
    while (end < ascending.length && ascending[end] === ascending[end - 1]! + 1) end++;
    if (i > 0) text += ",";
    text += end - i === 1 ? ascending[i] : `${ascending[i]}-${ascending[end - 1]}`;
    i = end;
  }
  return text;
}

function newMember(path: readonly string[]): Member {
  return { path, members: new Map(), values: new Map() };
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
