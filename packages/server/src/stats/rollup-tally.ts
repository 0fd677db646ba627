/**
 * Counting entries into roll-ups, in the transaction that indexes them.
 */
import type { Leaf } from "@tallystick/core/leaf";
import type pg from "pg";
import { COUNTED_FIELDS, type CountedField, countedValues } from "./counted-fields.ts";
import { LEVELS, minuteOf, startOf } from "./levels.ts";
import { NO_VALUE, packCounts, unpackCounts } from "./packed-counts.ts";
import { newestMinute, packedRows } from "./rollup-rows.ts";

/** Thrown when entries do not go on where the roll-ups end: counting them would count some twice, or leave some out. */
export class RollupGapError extends Error {
  constructor(rolledUp: number, from: number) {
    super(
      `the roll-ups of this log end at position ${rolledUp}, and the entries to be counted begin at ${from}: see docs/runbook.md, "Roll-ups that do not fit"`,
    );
    this.name = "RollupGapError";
  }
}

type ByValue = Map<string | undefined, number>;

/** The entries of one minute. */
class Minute {
  entries = 0;
  /** By the value; undefined is having none. */
  readonly counts = COUNTED_FIELDS.map((): ByValue => new Map());

  add(leaf: Leaf): void {
    this.entries++;
    for (const [i, field] of COUNTED_FIELDS.entries()) {
      const counts = this.counts[i]!;
      const values = countedValues(field, leaf);
      if (values.length === 0) counts.set(undefined, (counts.get(undefined) ?? 0) + 1);
      for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    }
  }
}

/** Counts by id, as they go into a row. */
class Stretch {
  entries = 0;
  endSeq = 0;
  readonly counts = COUNTED_FIELDS.map(() => new Map<number, number>());

  addPacked(entries: number, endSeq: number, packed: readonly Uint8Array[]): void {
    this.entries += entries;
    this.endSeq = Math.max(this.endSeq, endSeq);
    for (const [i, counts] of this.counts.entries()) {
      unpackCounts(packed[i]!, (id, more) => counts.set(id, (counts.get(id) ?? 0) + more));
    }
  }
}

/** Counts the entries of one transaction. */
export class RollupTally {
  readonly #log: { readonly logId: number; readonly tenantId: string };
  readonly #minutes = new Map<number, Minute>();
  #time = "";
  #minute = Number.NEGATIVE_INFINITY;
  #current = new Minute();

  constructor(log: { readonly logId: number; readonly tenantId: string }) {
    this.#log = log;
  }

  /** Counts an entry; in the log's order. */
  add(leaf: Leaf): void {
    const time = typeof leaf.recorded_at === "string" ? leaf.recorded_at.slice(0, 16) : "";
    if (time !== this.#time) {
      this.#time = time;
      const minute = minuteOf(time);
      // Times never go back in a log. In one that was tampered with they may: verify names that, and what is counted already stays.
      if (minute > this.#minute) {
        this.#minute = minute;
        this.#current = new Minute();
        this.#minutes.set(minute, this.#current);
      }
    }
    if (this.#minute > Number.NEGATIVE_INFINITY) this.#current.add(leaf);
  }

  /**
   * Writes what was counted. In a transaction of the writing role that names the log's tenant, one at a time for a log: where two meet,
   * the primary keys fail the second one as a whole.
   *
   * @param range the positions that were counted; entries that cannot be read count for their positions only.
   * @throws {RollupGapError}
   */
  async write(client: pg.ClientBase, range: { readonly from: number; readonly to: number }): Promise<void> {
    const { logId } = this.#log;
    const newest = await newestMinute(client, logId);
    if ((newest?.endSeq ?? 0) !== range.from) throw new RollupGapError(newest?.endSeq ?? 0, range.from);
    const ids = await this.#idsOf(client);
    const stretches = new Map<number, Stretch>();
    if (newest !== undefined) {
      const open = new Stretch();
      open.addPacked(newest.entries, newest.endSeq, newest.packed);
      stretches.set(newest.minute, open);
    }
    let last = newest?.minute ?? Number.NEGATIVE_INFINITY;
    for (const [minute, { entries, counts }] of this.#minutes) {
      last = Math.max(last, minute);
      const stretch = stretches.get(last) ?? new Stretch();
      stretches.set(last, stretch);
      stretch.entries += entries;
      for (const [i, byValue] of counts.entries()) {
        const into = stretch.counts[i]!;
        for (const [value, more] of byValue) {
          const id = value === undefined ? NO_VALUE : ids[i]!.get(value)!;
          into.set(id, (into.get(id) ?? 0) + more);
        }
      }
    }
    if (stretches.size === 0) {
      last = 0; // no entry of the log was ever readable: how far it was looked at has to stand somewhere
      stretches.set(last, new Stretch());
    }
    // Positions of unreadable entries go with what stands before them.
    let endSeq = newest?.endSeq ?? 0;
    for (const [minute, stretch] of stretches) {
      endSeq = minute === last ? range.to : endSeq + stretch.entries - (minute === newest?.minute ? newest.entries : 0);
      stretch.endSeq = endSeq;
    }
    await this.#upsert(client, 0, stretches);
    const first = stretches.keys().next().value!;
    for (let level = 1; level < LEVELS; level++) {
      const from = startOf(level, first);
      const to = startOf(level, last);
      if (from < to) await this.#close(client, level, from, to);
    }
  }

  /** Makes the rows of a level that begin in [from, to), and have ended, of the level below. */
  async #close(client: pg.ClientBase, level: number, from: number, to: number): Promise<void> {
    const stretches = new Map<number, Stretch>();
    const finer = await packedRows(client, this.#log.logId, [{ level: level - 1, from, to }], COUNTED_FIELDS);
    for (const { minute, entries, endSeq, packed } of finer) {
      const start = startOf(level, minute);
      const stretch = stretches.get(start) ?? new Stretch();
      stretches.set(start, stretch);
      stretch.addPacked(entries, endSeq, packed);
    }
    await this.#upsert(client, level, stretches);
  }

  async #upsert(client: pg.ClientBase, level: number, stretches: ReadonlyMap<number, Stretch>): Promise<void> {
    const all = [...stretches.values()];
    const columns = COUNTED_FIELDS.join(", ");
    const update =
      level > 0
        ? ""
        : `on conflict on constraint rollups_pkey do update set entries = excluded.entries, end_seq = excluded.end_seq,
      ${COUNTED_FIELDS.map((field) => `${field} = excluded.${field}`).join(", ")}`;
    await client.query(
      `insert into tallystick.rollups (log_id, tenant_id, level, bucket, entries, end_seq, ${columns})
       select $1, $2, $3, to_timestamp(minute * 60), entries, end_seq, ${columns}
       from unnest($4::bigint[], $5::bigint[], $6::bigint[], ${COUNTED_FIELDS.map((_, i) => `$${7 + i}::bytea[]`).join(", ")})
         as counted (minute, entries, end_seq, ${columns}) ${update}`,
      [
        ...[this.#log.logId, this.#log.tenantId, level],
        ...[[...stretches.keys()], all.map(({ entries }) => entries), all.map(({ endSeq }) => endSeq)],
        ...COUNTED_FIELDS.map((_, i) => all.map(({ counts }) => packCounts(counts[i]!))),
      ],
    );
  }

  /** The id of each value that was met, by field; values that are new get the next ones. */
  async #idsOf(client: pg.ClientBase): Promise<ReadonlyMap<string, number>[]> {
    const met = COUNTED_FIELDS.map(() => new Set<string>());
    for (const { counts } of this.#minutes.values()) {
      for (const [i, byValue] of counts.entries()) {
        for (const value of byValue.keys()) if (value !== undefined) met[i]!.add(value);
      }
    }
    const wanted = COUNTED_FIELDS.flatMap((field, i) => [...met[i]!].map((value) => ({ field, value })));
    const { logId, tenantId } = this.#log;
    const { rows: known } = await client.query<{ field: CountedField; value: string; id: number }>(
      `select field, value, id from unnest($2::text[], $3::text[]) as wanted (field, value)
       join tallystick.rollup_values using (field, value) where log_id = $1`,
      [logId, wanted.map(({ field }) => field), wanted.map(({ value }) => value)],
    );
    const ids = COUNTED_FIELDS.map(() => new Map<string, number>());
    const of = (field: CountedField) => ids[COUNTED_FIELDS.indexOf(field)]!;
    for (const { field, value, id } of known) of(field).set(value, id);
    const fresh = wanted.filter(({ field, value }) => !of(field).has(value));
    if (fresh.length === 0) return ids;
    const { rows: newest } = await client.query<{ field: CountedField; id: number }>(
      `select field, (select coalesce(max(id), 0) from tallystick.rollup_values v where v.log_id = $1 and v.field = fields.field) as id
       from unnest($2::text[]) as fields (field)`,
      [logId, COUNTED_FIELDS],
    );
    const next = new Map(newest.map(({ field, id }) => [field, id]));
    const added = fresh.map(({ field, value }) => {
      const id = next.get(field)! + 1;
      next.set(field, id);
      of(field).set(value, id);
      return id;
    });
    await client.query(
      `insert into tallystick.rollup_values (log_id, tenant_id, field, value, id)
       select $1, $2, field, value, id from unnest($3::text[], $4::text[], $5::integer[]) as fresh (field, value, id)`,
      [logId, tenantId, fresh.map(({ field }) => field), fresh.map(({ value }) => value), added],
    );
    return ids;
  }
}
