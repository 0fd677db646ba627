/**
 * PostgreSQL's times against RFC 3339 text.
 */

const POSTGRES_EPOCH_MS = 946_684_800_000;
const TWO_32 = 2 ** 32;
const TEXT_LENGTH = "2026-01-02T03:04:05.123456Z".length;

/** Compares times of one column with text; entries of one commit, or of one day, share the work. */
export class TimeColumn {
  #text = "";
  #microseconds = Number.NaN;
  #day = "";
  #dayMs = 0;

  /** Whether the binary timestamptz at `at` is the time that `text` names, in UTC with six digits of fraction. */
  is(row: Buffer, at: number, text: string): boolean {
    if (text !== this.#text) {
      this.#text = text;
      this.#microseconds = this.#parse(text);
    }
    const stored = row.readInt32BE(at) * TWO_32 + row.readUInt32BE(at + 4);
    if (stored !== this.#microseconds) return false;
    // Beyond the years 1715 to 2285 microseconds are too large to be exact numbers.
    return Number.isSafeInteger(stored) || timeText(row, at) === text;
  }

  /** Microseconds since 2000, PostgreSQL's epoch; NaN for any other form. */
  #parse(text: string): number {
    if (text.length !== TEXT_LENGTH) return Number.NaN;
    const day = text.slice(0, 10);
    if (day !== this.#day) {
      this.#day = day;
      this.#dayMs = Date.parse(`${day}T00:00:00Z`);
    }
    const seconds = digits(text, 11, 13) * 3600 + digits(text, 14, 16) * 60 + digits(text, 17, 19);
    return (this.#dayMs - POSTGRES_EPOCH_MS + seconds * 1000) * 1000 + digits(text, 20, 26);
  }
}

function digits(text: string, from: number, to: number): number {
  let value = 0;
  for (let i = from; i < to; i++) value = value * 10 + text.charCodeAt(i) - 0x30;
  return value;
}

/** The millisecond of the binary timestamptz at `at`, since the Unix epoch. */
export function timeMs(row: Buffer, at: number): number {
  return Math.floor((row.readInt32BE(at) * TWO_32 + row.readUInt32BE(at + 4)) / 1000) + POSTGRES_EPOCH_MS;
}

/** The binary timestamptz at `at` as RFC 3339 UTC with six digits of fraction; beyond the years that RFC 3339 has, in words. */
export function timeText(row: Buffer, at: number): string {
  const stored = row.readBigInt64BE(at);
  const microseconds = ((stored % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const date = new Date(Number((stored - microseconds) / 1000n) + POSTGRES_EPOCH_MS);
  if (Number.isNaN(date.getTime())) return `${stored} microseconds since 2000`;
  return `${date.toISOString().slice(0, -4)}${String(microseconds).padStart(6, "0")}Z`;
}
