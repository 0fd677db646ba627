/**
 * The roll-ups against the entries that they count: one that was changed makes statistics wrong, and hides actions from searches.
 */
import type { Leaf } from "@tallystick/core/leaf";
import type pg from "pg";
import type { LogIdentity } from "../log/identity.ts";
import { COUNTED_FIELDS, type CountedField, countedValues } from "../stats/counted-fields.ts";
import { LEVELS, minuteOf, startOf } from "../stats/levels.ts";
import { NO_VALUE, unpackCounts } from "../stats/packed-counts.ts";
import { newestMinute, type PackedRow, packedRows } from "../stats/rollup-rows.ts";
import type { ProblemList } from "./report.ts";
import type { Snapshot } from "./sql.ts";

/** The roll-ups as they are when a verification begins: all rows before the newest minute are final, whatever the worker does meanwhile. */
export interface PinnedRollups {
  readonly newest: PackedRow | undefined;
  /** Rows behind the newest minute, or behind the log's end. */
  readonly strays: readonly { readonly level: number; readonly bucket: string; readonly end: number }[];
  readonly values: readonly { readonly field: CountedField; readonly count: number; readonly max: number }[];
}

/** In the snapshot that reads the newest head. */
export async function readPinnedRollups(client: pg.ClientBase, { logId }: LogIdentity): Promise<PinnedRollups> {
  const newest = await newestMinute(client, logId);
  const minute = newest?.minute ?? 0;
  const { rows: strays } = await client.query<PinnedRollups["strays"][number]>(
    `select level::integer, bucket::text, end_seq::float8 as "end"
     from unnest($2::integer[], $3::float8[]) as span (low, first)
     join tallystick.rollups on log_id = $1 and level = low and bucket >= to_timestamp(first * 60) order by level, rollups.bucket limit 1000`,
    [
      logId,
      Array.from({ length: LEVELS }, (_, level) => level),
      Array.from({ length: LEVELS }, (_, level) =>
        newest === undefined ? 0 : level === 0 ? minute + 1 : startOf(level, minute),
      ),
    ],
  );
  const { rows: values } = await client.query<PinnedRollups["values"][number]>(
    "select field, count(*)::float8 as count, max(id)::float8 as max from tallystick.rollup_values where log_id = $1 group by field",
    [logId],
  );
  return { newest, strays, values };
}

/** Entries of a minute, as a batch has them. */
export interface MinuteCounts {
  readonly minute: number;
  entries: number;
  /** The position behind the last of them. */
  endSeq: number;
  /** By field and value; undefined is having none. */
  readonly counts: readonly Map<string | undefined, number>[];
}

function noCounts(minute: number): MinuteCounts {
  return { minute, entries: 0, endSeq: 0, counts: COUNTED_FIELDS.map(() => new Map()) };
}

function addTo(counts: Map<string | undefined, number>, value: string | undefined, more: number): void {
  counts.set(value, (counts.get(value) ?? 0) + more);
}

/** Counts the entries of a batch by the minute; those before `rolledUp`, which are what the roll-ups should have. */
export class BatchTally {
  readonly minutes: MinuteCounts[] = [];
  readonly #rolledUp: number;
  #next = 0;
  #time = "";

  constructor(rolledUp: number) {
    this.#rolledUp = rolledUp;
  }

  /** Told of each leaf in the log's order; undefined where it cannot be read. */
  take(seq: number, leaf: Leaf | undefined): void {
    if (seq < this.#next || seq >= this.#rolledUp || leaf?.v !== 1) return; // a second row for a position, or not counted
    this.#next = seq + 1;
    const time = typeof leaf.recorded_at === "string" ? leaf.recorded_at.slice(0, 16) : "";
    if (time !== this.#time) {
      this.#time = time;
      const minute = minuteOf(time);
      if (minute > (this.minutes.at(-1)?.minute ?? Number.NEGATIVE_INFINITY)) this.minutes.push(noCounts(minute));
    }
    const counted = this.minutes.at(-1);
    if (counted === undefined) return;
    counted.entries++;
    counted.endSeq = seq + 1;
    for (const [i, field] of COUNTED_FIELDS.entries()) {
      const values = countedValues(field, leaf);
      if (values.length === 0) addTo(counted.counts[i]!, undefined, 1);
      for (const value of values) addTo(counted.counts[i]!, value, 1);
    }
  }
}

/** Adds up what batches have counted, and compares each stretch of time once it has ended. Keeps the values of a log, not its stretches. */
export class RollupCheck {
  readonly #snapshot: Snapshot;
  readonly #log: LogIdentity;
  readonly #size: number;
  readonly #pinned: PinnedRollups;
  readonly #problems: ProblemList;
  /** Of each level: the stretches that are not compared yet, the last of which goes on. */
  readonly #stretches = Array.from({ length: LEVELS }, (): MinuteCounts[] => []);
  /** Of each level: where what was compared ends. */
  readonly #compared = new Array<number>(LEVELS).fill(0);
  readonly #met = COUNTED_FIELDS.map(() => new Set<string>());
  readonly #values = COUNTED_FIELDS.map(() => new Map<number, string>());

  constructor(snapshot: Snapshot, log: LogIdentity, size: number, pinned: PinnedRollups, problems: ProblemList) {
    this.#snapshot = snapshot;
    this.#log = log;
    this.#size = size;
    this.#pinned = pinned;
    this.#problems = problems;
  }

  /** Takes the next batch's counts. */
  async add(minutes: readonly MinuteCounts[]): Promise<void> {
    for (const counted of minutes) {
      for (const [i, counts] of counted.counts.entries()) {
        for (const value of counts.keys()) if (value !== undefined) this.#met[i]!.add(value);
      }
      // Times never go back in a log. In one that was tampered with they may: what is counted already stays.
      const minute = Math.max(counted.minute, this.#stretches[0]!.at(-1)?.minute ?? Number.NEGATIVE_INFINITY);
      for (const [level, stretches] of this.#stretches.entries()) {
        const start = startOf(level, minute);
        if (stretches.at(-1)?.minute !== start) stretches.push(noCounts(start));
        const stretch = stretches.at(-1)!;
        stretch.entries += counted.entries;
        stretch.endSeq = counted.endSeq;
        for (const [i, counts] of counted.counts.entries()) {
          for (const [value, more] of counts) addTo(stretch.counts[i]!, value, more);
        }
      }
    }
    if (this.#stretches[0]!.length > 1) await this.#snapshot((client) => this.#compareEnded(client));
  }

  /** Behind the last batch. */
  async finish(): Promise<void> {
    const { newest, strays, values } = this.#pinned;
    for (const { level, bucket, end } of strays) {
      const detail = `there is a roll-up of level ${level} and ${bucket} behind the last entry that is counted`;
      this.#report(Math.min(end, this.#size), "bucket", detail, { stored: bucket });
    }
    if (newest === undefined) return;
    await this.#snapshot(async (client) => {
      for (let level = 1; level < LEVELS; level++) await this.#compare(client, level, startOf(level, newest.minute));
      await this.#compare(client, 0, newest.minute);
      await this.#readValues(client, [newest]);
    });
    const last = this.#stretches[0]!.shift();
    const end = last === undefined ? undefined : { ...last, endSeq: newest.endSeq };
    // Where no entry can be read, how far the log was looked at stands in a row of its own.
    if (end !== undefined || newest.entries > 0) this.#compareRow(0, newest, end);
    for (const [i, field] of COUNTED_FIELDS.entries()) {
      const { count, max } = values.find((row) => row.field === field) ?? { count: 0, max: 0 };
      const met = this.#met[i]!.size;
      if (count === met && max === met) continue;
      const detail = `the entries have ${met} values of ${field}, and rollup_values has ${count}, numbered up to ${max}: searches by patterns and statistics go by them`;
      this.#report(newest.endSeq, "rollup_values", detail, { stored: `${count}`, expected: `${met}` });
    }
  }

  async #compareEnded(client: pg.ClientBase): Promise<void> {
    for (const [level, stretches] of this.#stretches.entries()) {
      if (stretches.length > 1) await this.#compare(client, level, stretches.at(-1)!.minute);
    }
  }

  /** Compares the stretches of a level that begin before `to`. */
  async #compare(client: pg.ClientBase, level: number, to: number): Promise<void> {
    const from = this.#compared[level]!;
    if (from >= to) return;
    this.#compared[level] = to;
    const stretches = this.#stretches[level]!;
    const going = stretches.findIndex(({ minute }) => minute >= to);
    const made = new Map(stretches.splice(0, going < 0 ? stretches.length : going).map((one) => [one.minute, one]));
    const rows = await packedRows(client, this.#log.logId, [{ level, from, to }], COUNTED_FIELDS);
    await this.#readValues(client, rows);
    for (const row of rows) {
      this.#compareRow(level, row, made.get(row.minute));
      made.delete(row.minute);
    }
    for (const { minute, endSeq } of made.values()) {
      this.#report(endSeq, "bucket", `there is no roll-up ${placeOf(level, minute)}`, { expected: timeOf(minute) });
    }
  }

  /** Reads the values of ids that were not met yet. */
  async #readValues(client: pg.ClientBase, rows: readonly PackedRow[]): Promise<void> {
    for (const [i, field] of COUNTED_FIELDS.entries()) {
      const known = this.#values[i]!;
      const asked = new Set<number>();
      for (const { packed } of rows) {
        for (const [id] of unpacked(packed[i]!) ?? []) if (!known.has(id) && id <= MAX_ID) asked.add(id);
      }
      asked.delete(NO_VALUE);
      if (asked.size === 0) continue;
      const { rows: values } = await client.query<{ id: number; value: string }>(
        "select id, value from tallystick.rollup_values where log_id = $1 and field = $2 and id = any ($3::integer[])",
        [this.#log.logId, field, [...asked]],
      );
      for (const { id, value } of values) known.set(id, value);
    }
  }

  #compareRow(level: number, row: PackedRow, made: MinuteCounts | undefined): void {
    const place = placeOf(level, row.minute);
    if (made === undefined) {
      const detail = `there is a roll-up ${place}, and no entry of that time is counted`;
      this.#report(Math.min(row.endSeq, this.#size), "bucket", detail, { stored: timeOf(row.minute) });
      return;
    }
    for (const [field, stored, expected] of [
      ["entries", row.entries, made.entries],
      ["end_seq", row.endSeq, made.endSeq],
    ] as const) {
      if (stored === expected) continue;
      const detail = `the roll-up ${place} has another ${field} than the entries make`;
      this.#report(made.endSeq, field, detail, { stored: `${stored}`, expected: `${expected}` });
    }
    for (const [i, field] of COUNTED_FIELDS.entries()) {
      if (this.#isMade(i, row.packed[i]!, made.counts[i]!)) continue;
      this.#report(
        made.endSeq,
        field,
        `the roll-up ${place} counts other values of ${field} than the entries have`,
        {},
      );
    }
  }

  #isMade(field: number, packed: Uint8Array, made: ReadonlyMap<string | undefined, number>): boolean {
    const pairs = unpacked(packed);
    if (pairs === undefined || pairs.length !== made.size) return false;
    const values = this.#values[field]!;
    return pairs.every(([id, entries]) =>
      id === NO_VALUE ? made.get(undefined) === entries : values.has(id) && made.get(values.get(id)) === entries,
    );
  }

  #report(endSeq: number, field: string, detail: string, values: { stored?: string; expected?: string }): void {
    const seq = endSeq > 0 ? endSeq - 1 : null;
    this.#problems.add({ seq, id: null, kind: "rollup", field, ...values, detail });
  }
}

const MAX_ID = 2 ** 31 - 1;

/** Undefined where the bytes are no pairs. */
function unpacked(packed: Uint8Array): [id: number, entries: number][] | undefined {
  const pairs: [number, number][] = [];
  try {
    unpackCounts(packed, (id, entries) => pairs.push([id, entries]));
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
  return pairs;
}

function timeOf(minute: number): string {
  return new Date(minute * 60_000).toISOString();
}

function placeOf(level: number, minute: number): string {
  return `of level ${level} and ${timeOf(minute)}`;
}
