/**
 * Counts by value and bucket that come from roll-ups, with those of entries that were counted one by one beside them.
 */
import type pg from "pg";
import { SearchTimeoutError } from "../log/find.ts";
import type { CountedField } from "./counted-fields.ts";
import { bucketAt, type ValueCounts } from "./direct-count.ts";
import { joined, type Span, startOf } from "./levels.ts";
import { IdCounts, NO_VALUE, unpackCounts } from "./packed-counts.ts";
import { packedRows } from "./rollup-rows.ts";

/** A value and how many entries have it. */
export interface ValueCount {
  readonly value: string;
  readonly entries: number;
}

/** The counts of one field in a stretch of time; `top` in the order of the values that are the most frequent in all. */
export interface FieldCounts {
  readonly top: number[];
  /** Of all other values. */
  other: number;
  /** Entries that have no value. */
  without: number;
}

/** Stretches of a query: unpacking them takes a few ms, and other requests get their turn in between. */
const STRETCHES_AT_ONCE = 1_000;
/** In minutes, for the longest of each level. */
const LENGTHS = [1, 15, 60, 1_440, 44_640] as const;

export interface RolledOptions {
  readonly logId: number;
  readonly field: CountedField;
  /** Values that count; all unless given. `undefined` is having none. */
  readonly counts?: ((value: string | undefined) => boolean) | undefined;
  /** Where `counts` holds for these values at most. */
  readonly exact?: readonly string[] | undefined;
  readonly deadline: number;
}

export class RolledCounts {
  readonly #client: pg.ClientBase;
  readonly #options: RolledOptions;
  /** By id, whether it counts; all do where there is none. */
  #wanted: ReadonlySet<number> | undefined;

  constructor(client: pg.ClientBase, options: RolledOptions) {
    this.#client = client;
    this.#options = options;
  }

  /**
   * The `limit` most frequent values; of equal ones those that came first in the log.
   *
   * @param spans what of the roll-ups counts. @param direct what counts beside them, by bucket.
   */
  async top(spans: readonly Span[], direct: ReadonlyMap<number, ValueCounts>, limit: number): Promise<Top> {
    await this.#chooseValues();
    const sums = new IdCounts();
    for await (const { packed } of this.#rows(spans)) unpackCounts(packed[0]!, (id, entries) => sums.add(id, entries));
    const fresh = new Map<string, number>();
    const ids = await this.#idsOf(direct);
    for (const { values } of direct.values()) {
      for (const [value, entries] of values) {
        if (!this.#counts(value)) continue;
        const id = ids.get(value);
        if (id === undefined) fresh.set(value, (fresh.get(value) ?? 0) + entries);
        else sums.add(id, entries);
      }
    }
    const best: { id: number | undefined; value: string | undefined; entries: number }[] = [];
    for (const [id, entries] of sums.pairs()) {
      if (this.#wanted?.has(id) === false) continue;
      insertBest(best, { id, value: undefined, entries }, limit);
    }
    // What is not rolled up yet came later than all that is.
    for (const [value, entries] of fresh) insertBest(best, { id: undefined, value, entries }, limit);
    const names = await this.#valuesOf(best.flatMap(({ id }) => id ?? []));
    return {
      values: best.map(({ id, value, entries }) => ({ value: value ?? names.get(id!) ?? "", entries })),
      ids: new Map(best.flatMap(({ id }, place) => (id === undefined ? [] : [[id, place]]))),
    };
  }

  /**
   * The counts of `top` in each bucket.
   * @param starts of each bucket, in minutes; ascending. @param spans stretches that each lie in one bucket.
   */
  async byBucket(
    starts: readonly number[],
    spans: readonly Span[],
    direct: ReadonlyMap<number, ValueCounts>,
    { values, ids }: Top,
  ): Promise<FieldCounts[]> {
    const buckets = starts.map((): FieldCounts => ({ top: new Array(values.length).fill(0), other: 0, without: 0 }));
    const wanted = this.#wanted;
    for await (const { minute, packed } of this.#rows(spans)) {
      const bucket = buckets[bucketAt(starts, minute)]!;
      unpackCounts(packed[0]!, (id, entries) => {
        const place = ids.get(id);
        if (place !== undefined) bucket.top[place]! += entries;
        else if (wanted?.has(id) === false) return;
        else if (id === NO_VALUE) bucket.without += entries;
        else bucket.other += entries;
      });
    }
    const places = new Map(values.map(({ value }, place) => [value, place]));
    for (const [number, counts] of direct) {
      const bucket = buckets[number]!;
      if (this.#counts(undefined)) bucket.without += counts.without;
      for (const [value, entries] of counts.values) {
        const place = places.get(value);
        if (place !== undefined) bucket.top[place]! += entries;
        else if (this.#counts(value)) bucket.other += entries;
      }
    }
    return buckets;
  }

  #counts(value: string | undefined): boolean {
    return this.#options.counts?.(value) ?? true;
  }

  async *#rows(spans: readonly Span[]) {
    const { logId, field, deadline } = this.#options;
    for (const part of parted(joined(spans))) {
      if (performance.now() > deadline) throw new SearchTimeoutError();
      yield* await packedRows(this.#client, logId, part, [field]);
    }
  }

  async #chooseValues(): Promise<void> {
    const { logId, field, counts, exact } = this.#options;
    if (counts === undefined || this.#wanted !== undefined) return;
    const { rows } = await this.#client.query<{ id: number; value: string }>(
      "select id, value from tallystick.rollup_values where log_id = $1 and field = $2 and ($3::text[] is null or value = any ($3))",
      [logId, field, exact ?? null],
    );
    const wanted = new Set(rows.filter(({ value }) => counts(value)).map(({ id }) => id));
    if (counts(undefined)) wanted.add(NO_VALUE);
    this.#wanted = wanted;
  }

  async #idsOf(direct: ReadonlyMap<number, ValueCounts>): Promise<ReadonlyMap<string, number>> {
    const values = new Set([...direct.values()].flatMap((counts) => [...counts.values.keys()]));
    if (values.size === 0) return new Map();
    const { rows } = await this.#client.query<{ id: number; value: string }>(
      "select id, value from tallystick.rollup_values where log_id = $1 and field = $2 and value = any ($3)",
      [this.#options.logId, this.#options.field, [...values]],
    );
    return new Map(rows.map(({ id, value }) => [value, id]));
  }

  async #valuesOf(ids: readonly number[]): Promise<ReadonlyMap<number, string>> {
    if (ids.length === 0) return new Map();
    const { rows } = await this.#client.query<{ id: number; value: string }>(
      "select id, value from tallystick.rollup_values where log_id = $1 and field = $2 and id = any ($3)",
      [this.#options.logId, this.#options.field, ids],
    );
    return new Map(rows.map(({ id, value }) => [id, value]));
  }
}

/** The most frequent values, and the place of each by its id; those that are not rolled up have none. */
export interface Top {
  readonly values: readonly ValueCount[];
  readonly ids: ReadonlyMap<number, number>;
}

/** Keeps `best` the `limit` largest, the largest first; of equal ones the one that came first. */
export function insertBest<T extends { readonly entries: number }>(best: T[], one: T, limit: number): void {
  if (best.length === limit && best.at(-1)!.entries >= one.entries) return;
  let place = best.length;
  while (place > 0 && best[place - 1]!.entries < one.entries) place--;
  best.splice(place, 0, one);
  if (best.length > limit) best.pop();
}

/** Spans in groups that are read at once. */
function* parted(spans: readonly Span[]): IterableIterator<Span[]> {
  let part: Span[] = [];
  let stretches = 0;
  for (const span of spans) {
    const step = LENGTHS[span.level]! * STRETCHES_AT_ONCE;
    for (let from = span.from; from < span.to; from += step) {
      // Months differ in length: a part begins where a stretch does.
      const start = from === span.from ? from : startOf(span.level, from);
      const next = from + step >= span.to ? span.to : startOf(span.level, from + step);
      part.push({ level: span.level, from: start, to: next });
      stretches += (next - start) / LENGTHS[span.level]!;
      if (stretches < STRETCHES_AT_ONCE) continue;
      yield part;
      part = [];
      stretches = 0;
    }
  }
  if (part.length > 0) yield part;
}
