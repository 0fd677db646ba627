/**
 * Rows of entries in COPY's binary form.
 */
import { termAt } from "../log/columns.ts";

/** What is read of an entry, in the order of {@link Fields}. */
export const ENTRY_COLUMNS =
  "e.seq, e.recorded_at, e.id, e.tenant_id, e.columns_version, e.leaf_hash, e.occurred_at, e.terms, e.action, e.leaf";

export const LENGTH_BYTES = 4;

/** Where the fields of a row begin. */
export interface Fields {
  readonly seq: number;
  readonly recordedAt: number;
  readonly id: number;
  readonly tenant: number;
  readonly version: number;
  readonly hash: number;
  readonly occurred: number;
  readonly terms: number;
  readonly action: number;
  readonly leaf: number;
  /** The end of the leaf. */
  readonly end: number;
}

/** Each field is its length, then its bytes. A null, which of most only a changed schema allows, reads as empty. */
export function fieldsOf(row: Buffer, at: number): Fields {
  const seq = at + LENGTH_BYTES;
  const recordedAt = fieldAfter(row, seq);
  const id = fieldAfter(row, recordedAt);
  const tenant = fieldAfter(row, id);
  const version = fieldAfter(row, tenant);
  const hash = fieldAfter(row, version);
  const occurred = fieldAfter(row, hash);
  const terms = fieldAfter(row, occurred);
  const action = fieldAfter(row, terms);
  const leaf = fieldAfter(row, action);
  const end = fieldAfter(row, leaf) - LENGTH_BYTES;
  return { seq, recordedAt, id, tenant, version, hash, occurred, terms, action, leaf, end };
}

/** Where the field after the one at `at` begins, behind its length. */
function fieldAfter(row: Buffer, at: number): number {
  return at + Math.max(0, row.readInt32BE(at - LENGTH_BYTES)) + LENGTH_BYTES;
}

/** Exact up to 2^53, beyond which no log grows. */
export function readInt64(row: Buffer, at: number): number {
  return row.readInt32BE(at) * 2 ** 32 + row.readUInt32BE(at + 4);
}

/** Where the bytes of a UUID stand in its text. */
const UUID_DIGITS = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/** Whether the UUID at `at` is the one that `text` names, in lower case. */
export function isUuid(row: Buffer, at: number, text: string): boolean {
  if (text.length !== 36) return false;
  for (let i = 0; i < 16; i++) {
    const digit = UUID_DIGITS[i]!;
    if (row[at + i] !== (hexDigit(text, digit) << 4) + hexDigit(text, digit + 1)) return false;
  }
  return text[8] === "-" && text[13] === "-" && text[18] === "-" && text[23] === "-";
}

/** Of a lower-case digit; no byte is made of anything else. */
function hexDigit(text: string, at: number): number {
  const code = text.charCodeAt(at);
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  return code >= 0x61 && code <= 0x66 ? code - 0x57 : 0x100;
}

export function uuidText(row: Buffer, at: number): string {
  const hex = row.toString("hex", at, at + 16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

// An array: dimensions, whether it has nulls, element type, then size and lower bound of the dimension; elements behind
// their lengths. (array_send in arrayfuncs.c)
const ARRAY_HEADER_BYTES = 20;
const TERM_BYTES = 4 + 8;

/** Whether the array between `at` and `end` is that of these terms at a position. */
export function sameTerms(row: Buffer, at: number, end: number, termHashes: readonly number[], seq: number): boolean {
  const count = Math.max(0, (end - at - ARRAY_HEADER_BYTES) / TERM_BYTES);
  if (count !== termHashes.length) return false;
  for (let i = 0; i < count; i++) {
    if (readInt64(row, at + ARRAY_HEADER_BYTES + TERM_BYTES * i + 4) !== termAt(termHashes[i]!, seq)) return false;
  }
  return true;
}

export function termsText(row: Buffer, at: number, end: number): string {
  const terms: number[] = [];
  for (let term = at + ARRAY_HEADER_BYTES; term + TERM_BYTES <= end; term += TERM_BYTES)
    terms.push(readInt64(row, term + 4));
  return `{${terms.join(",")}}`;
}
