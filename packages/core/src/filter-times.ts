/**
 * Times in filters: RFC 3339, or a date, which stands for its whole day in UTC.
 */
import type { TimeRange } from "./filter.ts";
import { normalizeTimestamp, TimestampError } from "./timestamp.ts";

export const TIME_FORM = "an RFC 3339 time such as 2026-01-31T12:00:00Z, or a date";

const BARE_DATE = /^\d{4}-\d{2}-\d{2}$/;
const LAST_DATE = "9999-12-31";
const LAST_TIME = `${LAST_DATE}T23:59:59.999999Z`;
const DAY_US = 86_400_000_000n;

/** When a time or a day begins; undefined where the text is neither. */
export function startOf(text: string): string | undefined {
  return parseTime(BARE_DATE.test(text) ? `${text}T00:00:00Z` : text);
}

/** The end that a time, or the day of a date, is before: of a time itself, of a date the next day's start. */
export function endOf(text: string): string | undefined {
  return BARE_DATE.test(text) ? pastOf(text) : parseTime(text);
}

/** The first moment behind a time or a day. */
function pastOf(text: string): string | undefined {
  const start = startOf(text);
  return start === undefined ? undefined : later(start, BARE_DATE.test(text) ? DAY_US : 1n);
}

/**
 * `A`, `A..B`, `A..`, `..B`, `>A`, `>=A`, `<A`, `<=A`, where `A` and `B` are times or dates; `A..B` ends as the parameters `from` and `to` do.
 * Undefined where the text is none of these.
 */
export function parseTimeRange(text: string): TimeRange | undefined {
  const compared = /^(>=|<=|>|<)(.+)$/.exec(text);
  if (compared !== null) {
    const [, sign, time] = compared as unknown as [string, ">=" | "<=" | ">" | "<", string];
    const bound = sign === ">=" || sign === "<" ? startOf(time) : pastOf(time);
    if (bound === undefined) return undefined;
    return sign[0] === ">" ? { from: bound } : { to: bound };
  }
  const dots = text.indexOf("..");
  if (dots < 0) {
    const [from, to] = [startOf(text), pastOf(text)];
    return from === undefined ? undefined : { from, to };
  }
  const [start, end] = [text.slice(0, dots), text.slice(dots + 2)];
  if (start === "" && end === "") return undefined;
  const from = start === "" ? undefined : startOf(start);
  const to = end === "" ? undefined : endOf(end);
  if ((start !== "" && from === undefined) || (end !== "" && to === undefined)) return undefined;
  return { ...(from !== undefined && { from }), ...(to !== undefined && { to }) };
}

function parseTime(text: string): string | undefined {
  try {
    return normalizeTimestamp(text);
  } catch (error) {
    if (error instanceof TimestampError) return undefined; // the caller names what it stands in, and says what would be right
    throw error;
  }
}

/** A time so many microseconds later; the last one there is where the years end. */
function later(time: string, byUs: bigint): string {
  const us = BigInt(Date.parse(`${time.slice(0, 19)}Z`)) * 1_000n + BigInt(time.slice(20, 26)) + byUs;
  const ms = us / 1_000_000n - (us % 1_000_000n < 0n ? 1n : 0n);
  const seconds = new Date(Number(ms) * 1_000);
  if (seconds.getUTCFullYear() > 9999) return LAST_TIME; // there is no later time to name
  return `${seconds.toISOString().slice(0, 19)}.${String(us - ms * 1_000_000n).padStart(6, "0")}Z`;
}
