/**
 * PostgreSQL's times as text.
 */

const POSTGRES_EPOCH_MS = 946_684_800_000;
const TWO_32 = 2 ** 32;

/** Writes times of one column; entries of one commit, or of one second, share the work. */
export class TimeText {
  #high = 0;
  #low = -1;
  #text = "";
  #second = Number.NaN;
  #prefix = "";
  #ms = 0;

  /** The millisecond of the last time, since the Unix epoch. */
  get ms(): number {
    return this.#ms;
  }

  /** The binary timestamptz at `at` as RFC 3339 UTC with six digits of fraction; `infinity` and years beyond 9999 as words. */
  of(row: Buffer, at: number): string {
    const high = row.readInt32BE(at);
    const low = row.readUInt32BE(at + 4);
    if (high === this.#high && low === this.#low) return this.#text;
    this.#high = high;
    this.#low = low;
    // Microseconds since 2000 of the years 1715 to 2285 are exact numbers.
    const exact = Math.abs(high) < 2 ** 21;
    const [ms, us] = exact ? split(high * TWO_32 + low) : splitBig(row.readBigInt64BE(at));
    this.#ms = ms;
    const second = Math.floor(ms / 1000);
    if (second !== this.#second) {
      const date = new Date(second * 1000);
      this.#second = second;
      this.#prefix = Number.isNaN(date.getTime()) ? "a time out of range " : date.toISOString().slice(0, -4);
    }
    this.#text = `${this.#prefix}${String((ms - second * 1000) * 1000 + us).padStart(6, "0")}Z`;
    return this.#text;
  }
}

/** Milliseconds since the Unix epoch, and the microseconds beyond. */
function split(microseconds: number): [number, number] {
  const ms = Math.floor(microseconds / 1000);
  return [ms + POSTGRES_EPOCH_MS, microseconds - ms * 1000];
}

function splitBig(microseconds: bigint): [number, number] {
  const us = ((microseconds % 1000n) + 1000n) % 1000n;
  return [Number((microseconds - us) / 1000n) + POSTGRES_EPOCH_MS, Number(us)];
}
