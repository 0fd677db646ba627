/**
 * Files that may be compressed by gzip.
 */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";

/**
 * The bytes themselves, decompressed where they are compressed. Where compressed bytes end too early, those that were there end as
 * well: what is read from them says that it is cut off.
 *
 * @throws {SyntaxError} where they are damaged.
 */
export async function* unzipped(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = chunks[Symbol.asyncIterator]();
  try {
    let head = Buffer.alloc(0);
    let ended = false;
    while (head.length < 2 && !ended) {
      const next = await iterator.next();
      ended = next.done === true;
      if (!next.done) head = head.length === 0 ? Buffer.from(next.value) : Buffer.concat([head, next.value]);
    }
    const whole = (async function* () {
      yield head;
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value;
    })();
    if (head[0] === 0x1f && head[1] === 0x8b) yield* decompressed(whole);
    else yield* whole;
  } finally {
    await iterator.return?.();
  }
}

async function* decompressed(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip();
  // What goes wrong comes out of the stream that is read, or out of this.
  const fed = pipeline(Readable.from(chunks), gunzip);
  fed.catch(() => {});
  try {
    for await (const chunk of gunzip) yield chunk as Uint8Array;
    await fed;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "Z_BUF_ERROR") return; // it ends too early
    if (!code?.startsWith("Z_")) throw cause;
    throw new SyntaxError(`it is damaged, and cannot be decompressed (${(cause as Error).message})`, { cause });
  }
}
