/**
 * The terms of text: what a segment's words are found by (sql/0016_text_segments.sql).
 */
import { hash } from "node:crypto";

/** Positions of a segment: those of a tile. */
export const SEGMENT_ENTRIES = 256;

/** Raised with every change to what is derived of a segment; each row says which version made it. */
export const SEGMENTS_VERSION = 1;

/** Segments of one block have its number in their terms. */
const BLOCK_SEGMENTS = 4_096;

/** How many characters of a longer word can be searched for as its beginning by the index. */
const PREFIX_LENGTH = 3;

/** What a term is of. */
export type TermKind = "word" | "pair" | "prefix" | "metadata" | "changes" | "ip";

/**
 * The first 4 bytes of SHA-256(log id 0x00 kind 0x00 value), as an unsigned number. With the log in it, because one index serves all
 * logs.
 */
export function textTerm(logId: number, kind: TermKind, value: string): number {
  const digest = hash("sha256", `${logId}\0${kind}\0${value}`, "binary");
  const byte = (index: number) => digest.charCodeAt(index);
  return ((byte(0) << 24) | (byte(1) << 16) | (byte(2) << 8) | byte(3)) >>> 0;
}

/** What entries have in place of values beyond a segment's bound (segment-text.ts). No word is like it. */
export const OVERFLOW = "*";

export function overflowTerm(logId: number): number {
  return textTerm(logId, "word", OVERFLOW);
}

/** The number that the terms of a segment begin with: new ones are the largest, so that the index grows at one end. */
export function blockBase(segment: number): number {
  return Math.floor(segment / BLOCK_SEGMENTS) * 2 ** 32; // exact up to 2^53, as positions are
}

/** What a pair's term is made of. */
export function pairOf(word: string, next: string): string {
  return `${word} ${next}`;
}

/** What a member's term is made of. Texts that are recorded have no NUL. */
export function memberOf(path: readonly string[], value: string): string {
  return `${path.join("\0")}\0${value}`;
}

/** A number of three digits or more is rare enough as the word that it is: a term for its member would double those of a log of figures. */
export function memberHasTerm(value: string): boolean {
  return !/^\d{3,}$/.test(value);
}

/** The beginning by which the index finds a longer word; of figures, nobody searches for the first ones. */
export function prefixOf(word: string): string | undefined {
  const prefix = word.slice(0, PREFIX_LENGTH);
  return word.length < PREFIX_LENGTH || /^\d+$/.test(prefix) ? undefined : prefix;
}

/** What a phrase's segments have: all of these terms. Empty where the index cannot tell, as of a beginning of one or two letters. */
export function phraseTerms(logId: number, words: readonly string[], prefix: boolean): number[] {
  const terms: number[] = [];
  const whole = prefix ? words.slice(0, -1) : words;
  for (let i = 0; i + 1 < whole.length; i++) terms.push(textTerm(logId, "pair", pairOf(whole[i]!, whole[i + 1]!)));
  if (whole.length === 1) terms.push(textTerm(logId, "word", whole[0]!));
  const beginning = prefix ? prefixOf(words.at(-1)!) : undefined;
  if (beginning !== undefined) terms.push(textTerm(logId, "prefix", beginning));
  return terms;
}
