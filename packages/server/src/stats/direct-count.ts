/**
 * Counting entries one by one: those that are not rolled up yet, parts of a minute at the ends of a range, and whatever a filter asks for.
 */
import type { Leaf } from "@tallystick/core/leaf";
import type pg from "pg";
import { SearchTimeoutError } from "../log/find.ts";
import { knownLeaf } from "../search/segment-rows.ts";
import { type CountedField, countedValues } from "./counted-fields.ts";

/** Positions [from, to). */
export interface Positions {
  readonly from: number;
  readonly to: number;
}

/** Of one bucket. */
export interface ValueCounts {
  entries: number;
  without: number;
  /** By value, in the order in which the log has them first. */
  readonly values: Map<string, number>;
}

/** A few ms of parsing each: other requests get their turn in between. */
const ENTRIES_AT_ONCE = 1_024;

/** Counts of entries by bucket. */
export class DirectCounts {
  readonly #field: CountedField | undefined;
  readonly #starts: readonly number[];
  /** By the bucket's number; those without entries are not there. */
  readonly buckets = new Map<number, ValueCounts>();

  /** @param starts the first position of each bucket, ascending. */
  constructor(field: CountedField | undefined, starts: readonly number[]) {
    this.#field = field;
    this.#starts = starts;
  }

  add(seq: number, leaf: Leaf): void {
    const bucket = bucketAt(this.#starts, seq);
    let counts = this.buckets.get(bucket);
    if (counts === undefined) {
      counts = { entries: 0, without: 0, values: new Map() };
      this.buckets.set(bucket, counts);
    }
    counts.entries++;
    if (this.#field === undefined) return;
    const values = countedValues(this.#field, leaf);
    if (values.length === 0) counts.without++;
    for (const value of values) counts.values.set(value, (counts.values.get(value) ?? 0) + 1);
  }
}

/** The last of these places that is not behind a position or time: of several at the same one, the last. */
export function bucketAt(starts: readonly number[], at: number): number {
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (starts[middle]! <= at) low = middle + 1;
    else high = middle;
  }
  return Math.max(0, low - 1);
}

/**
 * Adds the entries at these positions, as they stand in the log: values behind commitments are not looked up.
 *
 * @param client sees the log's tenant. @param deadline of `performance.now()`.
 * @throws {SearchTimeoutError}
 */
export async function countDirectly(
  client: pg.ClientBase,
  logId: number,
  { from, to }: Positions,
  { add, deadline }: { readonly add: (seq: number, leaf: Leaf) => void; readonly deadline: number },
): Promise<void> {
  for (let next = from; next < to; next += ENTRIES_AT_ONCE) {
    if (performance.now() > deadline) throw new SearchTimeoutError();
    const { rows } = await client.query<{ seq: string; leaf: string }>(
      `select e.seq, e.leaf from tallystick.entries e
       where e.log_id = $1 and e.seq >= $2 and e.seq < $3
         and e.recorded_at >= tallystick.time_at($1, $2) and e.recorded_at <= tallystick.time_at($1, $3 - 1)
       order by e.seq`,
      [logId, next, Math.min(to, next + ENTRIES_AT_ONCE)],
    );
    for (const { seq, leaf: text } of rows) {
      const leaf = knownLeaf(text); // what is no leaf is counted nowhere, as by the worker; verification names it
      if (leaf !== undefined) add(Number(seq), leaf);
    }
  }
}
