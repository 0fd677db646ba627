/** Lines out of bytes that arrive in pieces. */

const NEWLINE = 0x0a;

/** Cuts bytes, or text, at newlines. Holds no more than one unfinished line, and that only up to a limit. */
export class LineSplitter {
  readonly #limit: number;
  readonly #utf8 = new TextEncoder();
  #parts: Uint8Array[] = [];
  #pending = 0;
  /** The first half of a pair whose second is in the next piece of text. */
  #half = "";
  #overflown = false;

  /** `limit`: bytes that a line may have. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Bytes after the last newline. */
  get pending(): number {
    return this.#pending + this.#half.length;
  }

  /** Whether a line was longer than the limit; nothing more comes out then. */
  get overflown(): boolean {
    return this.#overflown;
  }

  /** Takes a piece, and hands on each line that it ends, without its newline. The bytes are copied where they are kept. */
  push(chunk: Uint8Array | string, onLine: (line: Uint8Array) => void): void {
    const bytes = typeof chunk === "string" ? this.#encode(chunk) : chunk;
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0 && !this.#overflown; end = bytes.indexOf(NEWLINE, start)) {
      const line = this.#join(bytes.subarray(start, end));
      start = end + 1;
      if (line.length > this.#limit) this.#overflown = true;
      else onLine(line);
    }
    if (this.#overflown || start === bytes.length) return;
    this.#parts.push(bytes.slice(start));
    this.#pending += bytes.length - start;
    if (this.#pending > this.#limit) {
      this.#overflown = true;
      this.#parts = [];
    }
  }

  #join(tail: Uint8Array): Uint8Array {
    if (this.#parts.length === 0) return tail;
    const line = new Uint8Array(this.#pending + tail.length);
    let offset = 0;
    for (const part of [...this.#parts, tail]) {
      line.set(part, offset);
      offset += part.length;
    }
    this.#parts = [];
    this.#pending = 0;
    return line;
  }

  #encode(text: string): Uint8Array {
    const whole = this.#half + text;
    const last = whole.charCodeAt(whole.length - 1);
    const cut = last >= 0xd800 && last < 0xdc00 ? whole.length - 1 : whole.length;
    this.#half = whole.slice(cut);
    return this.#utf8.encode(whole.slice(0, cut));
  }
}
