/**
 * The stretches of time that roll-ups are kept by, and how a range is made up of them. Times are whole minutes since 1970, in UTC.
 */

/** From the finest to the coarsest; a level's number is its place here. Zones are multiples of a quarter of an hour from UTC. */
const MINUTES = [1, 15, 60, 1_440] as const;
const MONTH: number = MINUTES.length;
export const LEVELS = MONTH + 1;

/** Stretches of one level that begin in [from, to). */
export interface Span {
  readonly level: number;
  readonly from: number;
  readonly to: number;
}

/** When the stretch begins that a time is in. */
export function startOf(level: number, minute: number): number {
  if (level < MONTH) return Math.floor(minute / MINUTES[level]!) * MINUTES[level]!;
  const time = new Date(minute * 60_000);
  return Date.UTC(time.getUTCFullYear(), time.getUTCMonth()) / 60_000;
}

/** The first stretch that does not begin before a time. */
export function nextStartOf(level: number, minute: number): number {
  const start = startOf(level, minute);
  if (start === minute) return minute;
  if (level < MONTH) return start + MINUTES[level]!;
  const time = new Date(start * 60_000);
  return Date.UTC(time.getUTCFullYear(), time.getUTCMonth() + 1) / 60_000;
}

/**
 * Spans that make up [from, to), as few stretches as there can be.
 * @param open the newest minute that is counted: coarser stretches are there where they end before it or at it.
 */
export function cover(from: number, to: number, open: number, level = MONTH): Span[] {
  if (from >= to) return [];
  if (level === 0) return [{ level, from, to }];
  const low = nextStartOf(level, from);
  const high = startOf(level, Math.min(to, open));
  if (low >= high) return cover(from, to, open, level - 1);
  return [...cover(from, low, open, level - 1), { level, from: low, to: high }, ...cover(high, to, open, level - 1)];
}

/** Spans of one level that touch, made one. Each of `spans` begins where the last one ended, or behind it. */
export function joined(spans: readonly Span[]): Span[] {
  const all: Span[] = [];
  for (let level = 0; level < LEVELS; level++) {
    let last: Span | undefined;
    for (const span of spans) {
      if (span.level !== level) continue;
      if (last?.to === span.from) all.pop();
      last = { level, from: last?.to === span.from ? last.from : span.from, to: span.to };
      all.push(last);
    }
  }
  return all;
}

/** The minute that an RFC 3339 time in UTC is in. */
export function minuteOf(time: string): number {
  return Date.parse(`${time.slice(0, 16)}Z`) / 60_000;
}
