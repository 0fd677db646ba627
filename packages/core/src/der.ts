/**
 * What of DER (X.690) a public key needs: definite lengths in their shortest form, and nothing behind the end.
 */

/** Thrown for bytes that are not the DER that was expected. */
export class DerError extends Error {
  override readonly name = "DerError";
}

export const DER_TAG = { integer: 0x02, bitString: 0x03, null: 0x05, oid: 0x06, sequence: 0x30 } as const;

/** Reads the values that follow each other in some bytes. Every method throws {@link DerError} for anything else than it names. */
export class DerReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** The contents of the next value, which has this tag. */
  read(tag: number): Uint8Array {
    if (this.#bytes[this.#at] !== tag) throw new DerError(`expected tag 0x${tag.toString(16)} at byte ${this.#at}`);
    this.#at++;
    const length = this.#length();
    const start = this.#at;
    if (start + length > this.#bytes.length) throw new DerError("a value is longer than what holds it");
    this.#at = start + length;
    return this.#bytes.subarray(start, this.#at);
  }

  /** The next value is a SEQUENCE. */
  sequence(): DerReader {
    return new DerReader(this.read(DER_TAG.sequence));
  }

  /** The next value is a positive INTEGER: its bytes without the zero that keeps it positive. */
  positiveInteger(): Uint8Array {
    const bytes = this.read(DER_TAG.integer);
    const padded = bytes[0] === 0;
    if (bytes.length === 0 || bytes[0]! >= 0x80 || (padded && (bytes.length === 1 || bytes[1]! < 0x80))) {
      throw new DerError("an integer is not positive, or not in its shortest form");
    }
    return padded ? bytes.subarray(1) : bytes;
  }

  /** The next value is a BIT STRING of whole bytes. */
  bitString(): Uint8Array {
    const bytes = this.read(DER_TAG.bitString);
    if (bytes[0] !== 0) throw new DerError("a bit string does not end with a whole byte");
    return bytes.subarray(1);
  }

  end(): void {
    if (!this.atEnd) throw new DerError(`${this.#bytes.length - this.#at} bytes are left over`);
  }

  #length(): number {
    const first = this.#bytes[this.#at++];
    if (first === undefined) throw new DerError("a length is missing");
    if (first < 0x80) return first;
    const count = first & 0x7f;
    if (count === 0 || count > 3) throw new DerError("a length is indefinite, or too large");
    let length = 0;
    for (let i = 0; i < count; i++) length = length * 256 + (this.#bytes[this.#at++] ?? Number.NaN);
    if (!(length >= 0x80 && length >= 256 ** (count - 1))) throw new DerError("a length is not in its shortest form");
    return length;
  }
}

/** A value in DER. */
export function der(tag: number, ...contents: Uint8Array[]): Uint8Array {
  const size = contents.reduce((sum, part) => sum + part.length, 0);
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  const bytes = new Uint8Array(1 + length.length + size);
  bytes.set([tag, ...length]);
  let at = 1 + length.length;
  for (const part of contents) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
