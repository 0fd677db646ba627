/**
 * Counts by value as roll-ups keep them: pairs of a value's id, less the id before it, and its number of entries, each number as
 * LEB128. Two to three bytes a pair, so that a year of a log with 200,000 actors is read in a few megabytes.
 */

/** The id that stands for having no value. */
export const NO_VALUE = 0;

/** @param counts by id. */
export function packCounts(counts: ReadonlyMap<number, number>): Buffer {
  const ids = Uint32Array.from(counts.keys()).sort();
  const packed = Buffer.allocUnsafe(ids.length * 2 * MAX_BYTES);
  let at = 0;
  const put = (number: number) => {
    let rest = number;
    for (; rest >= 128; rest = Math.floor(rest / 128)) packed[at++] = (rest % 128) | 128;
    packed[at++] = rest;
  };
  let before = 0;
  for (const id of ids) {
    put(id - before);
    put(counts.get(id)!);
    before = id;
  }
  return packed.subarray(0, at);
}

/** Bytes of 2^53. */
const MAX_BYTES = 8;

/**
 * Calls `visit` for each pair, in the order of ids.
 * @throws {RangeError} where the bytes end within a pair: nobody but the worker writes them.
 */
export function unpackCounts(packed: Uint8Array, visit: (id: number, entries: number) => void): void {
  let id = 0;
  for (let at = 0; at < packed.length; ) {
    let octet = packed[at++]!;
    let delta = octet & 127;
    for (let scale = 128; octet >= 128; scale *= 128) {
      octet = packed[at++] ?? cutOff();
      delta += (octet & 127) * scale;
    }
    octet = packed[at++] ?? cutOff();
    let entries = octet & 127;
    for (let scale = 128; octet >= 128; scale *= 128) {
      octet = packed[at++] ?? cutOff();
      entries += (octet & 127) * scale;
    }
    id += delta;
    visit(id, entries);
  }
}

function cutOff(): never {
  throw new RangeError("a roll-up is cut off: it was changed by somebody else (docs/runbook.md)");
}

/** Numbers by id, for ids that are dense: a year's pairs are added up in the time that a Map takes for a tenth of them. */
export class IdCounts {
  #counts = new Float64Array(1_024);
  #end = 0;

  add(id: number, entries: number): void {
    if (id >= this.#counts.length) {
      const larger = new Float64Array(Math.max(id + 1, this.#counts.length * 2));
      larger.set(this.#counts);
      this.#counts = larger;
    }
    if (id >= this.#end) this.#end = id + 1;
    this.#counts[id]! += entries;
  }

  of(id: number): number {
    return this.#counts[id] ?? 0;
  }

  /** Those that are not 0, without {@link NO_VALUE}. */
  *pairs(): IterableIterator<[id: number, entries: number]> {
    for (let id = NO_VALUE + 1; id < this.#end; id++) if (this.#counts[id]! > 0) yield [id, this.#counts[id]!];
  }
}
