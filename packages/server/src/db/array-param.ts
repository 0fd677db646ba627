/**
 * A PostgreSQL array in binary form, written straight into one buffer: the driver sends a Buffer as a binary parameter, so
 * that a batch of thousands of rows goes to `unnest` with no text to escape and parse. (PostgreSQL: array_recv in arrayfuncs.c.)
 */

const HEADER_BYTES = 20;
const LENGTH_BYTES = 4;

/** Type OIDs of pg_type, which never change. */
export const OID = { bytea: 17, int8: 20, text: 25, timestamptz: 1184, uuid: 2950 } as const;

/** Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

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

  text(value: string): void {
    this.#reserve(value.length * 3); // UTF-16 to UTF-8 grows at most threefold
    const size = this.#buffer.write(value, this.#at + LENGTH_BYTES);
    this.#advance(size);
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
    let from = 0;
    for (const group of [8, 4, 4, 4, 12]) {
      at += this.#buffer.write(value.slice(from, from + group), at, "hex");
      from += group + 1;
    }
    this.#advance(16);
  }

  int8(value: number): void {
    this.#reserve(8);
    this.#buffer.writeBigInt64BE(BigInt(value), this.#at + LENGTH_BYTES);
    this.#advance(8);
  }

  /** An RFC 3339 time in UTC with six digits of fraction, or null. */
  timestamptz(value: string | undefined): void {
    if (value === undefined) {
      this.null();
      return;
    }
    this.#reserve(8);
    const microseconds = BigInt(Date.parse(`${value.slice(0, 19)}Z`)) * 1000n + BigInt(value.slice(20, 26));
    this.#buffer.writeBigInt64BE(microseconds - POSTGRES_EPOCH_US, this.#at + LENGTH_BYTES);
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
