/**
 * A PostgreSQL array in binary form, written straight into one buffer: the driver sends a Buffer as a binary parameter, so
 * that a batch of thousands of rows goes to `unnest` with no text to escape and parse. (PostgreSQL: array_recv in arrayfuncs.c.)
 */

const HEADER_BYTES = 20;
const LENGTH_BYTES = 4;

/** Type OIDs of pg_type, which never change. */
export const OID = { bytea: 17, int8: 20, int4: 23, text: 25, timestamptz: 1184, uuid: 2950 } as const;

/** PostgreSQL's epoch, 2000-01-01, in ms since the Unix epoch. */
const POSTGRES_EPOCH_MS = 946_684_800_000;

export class ArrayParam {
  #buffer: Buffer;
  #at = HEADER_BYTES;
  #count = 0;
  #hasNull = false;

  constructor(oid: number, expectedBytes: number) {
    this.#buffer = Buffer.allocUnsafe(HEADER_BYTES + expectedBytes);
    this.#buffer.writeInt32BE(1, 0); // dimensions
    this.#buffer.writeInt32BE(oid, 8);
    this.#buffer.writeInt32BE(1, 16); // lower bound
  }

  get count(): number {
    return this.#count;
  }

  /** Returns the bytes that were written, as a view that is good until the next write. */
  text(value: string): Uint8Array {
    this.#reserve(value.length * 3); // UTF-16 to UTF-8 grows at most threefold
    const start = this.#at + LENGTH_BYTES;
    const size = this.#buffer.write(value, start);
    this.#advance(size);
    return this.#buffer.subarray(start, start + size);
  }

  bytes(value: Uint8Array): void {
    this.#reserve(value.length);
    this.#buffer.set(value, this.#at + LENGTH_BYTES);
    this.#advance(value.length);
  }

  /** A UUID in its text form. */
  uuid(value: string): void {
    this.#reserve(16);
    let at = this.#at + LENGTH_BYTES;
    for (let i = 0; i < value.length; i += 2) {
      if (value.charCodeAt(i) === HYPHEN) i++;
      this.#buffer[at++] = (hexDigit(value, i) << 4) | hexDigit(value, i + 1);
    }
    this.#advance(16);
  }

  int4(value: number): void {
    this.#reserve(4);
    this.#buffer.writeInt32BE(value, this.#at + LENGTH_BYTES);
    this.#advance(4);
  }

  /** A safe integer. */
  int8(value: number): void {
    this.#reserve(8);
    this.#buffer.writeInt32BE(Math.floor(value / 2 ** 32), this.#at + LENGTH_BYTES);
    this.#buffer.writeUInt32BE(value >>> 0, this.#at + LENGTH_BYTES + 4); // >>> takes the value modulo 2^32
    this.#advance(8);
  }

  /** An RFC 3339 time in UTC with six digits of fraction, or null. */
  timestamptz(value: string | undefined): void {
    if (value === undefined) {
      this.null();
      return;
    }
    const milliseconds = Date.parse(value) - POSTGRES_EPOCH_MS; // which cuts the last three digits off
    const microseconds = milliseconds * 1000 + Number(value.slice(23, 26));
    if (Number.isSafeInteger(microseconds)) {
      this.int8(microseconds);
      return;
    }
    this.#reserve(8); // 285 years and more from 2000
    const exact = BigInt(milliseconds) * 1000n + BigInt(value.slice(23, 26));
    this.#buffer.writeBigInt64BE(exact, this.#at + LENGTH_BYTES);
    this.#advance(8);
  }

  null(): void {
    this.#reserve(0);
    this.#buffer.writeInt32BE(-1, this.#at);
    this.#at += LENGTH_BYTES;
    this.#count++;
    this.#hasNull = true;
  }

  /** The parameter; the array must not be written to afterwards. */
  finish(): Buffer {
    this.#buffer.writeInt32BE(this.#hasNull ? 1 : 0, 4);
    this.#buffer.writeInt32BE(this.#count, 12);
    return this.#buffer.subarray(0, this.#at);
  }

  #advance(size: number): void {
    this.#buffer.writeInt32BE(size, this.#at);
    this.#at += LENGTH_BYTES + size;
    this.#count++;
  }

  #reserve(size: number): void {
    const needed = this.#at + LENGTH_BYTES + size;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }
}

const HYPHEN = 0x2d;

/** The value of a lower-case hex digit. */
function hexDigit(text: string, at: number): number {
  const code = text.charCodeAt(at);
  return code < 0x3a ? code - 0x30 : code - 0x57;
}
