/**
 * Statistics of a log: how many entries there are, by bucket of time and by value. They are those of the log at the size that the
 * answer names, exactly: what roll-ups do not have yet is counted one by one.
 */
import { type Clause, type Filter, isTimeRange, isWanted, type TextField, type Wanted } from "@tallystick/core/filter";
import type pg from "pg";
import type { Database } from "../db/database.ts";
import { TIME } from "../db/time.ts";
import { SearchTimeoutError } from "../log/find.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { Reader } from "../log/reader.ts";
import { COUNTED_FIELDS, type CountedField, FILTER_FIELD } from "./counted-fields.ts";
import { countDirectly, DirectCounts } from "./direct-count.ts";
import { cover, minuteOf, type Span } from "./levels.ts";
import { type FieldCounts, insertBest, RolledCounts, type ValueCount } from "./rolled-counts.ts";
import { newestMinute } from "./rollup-rows.ts";
import { type BucketStart, bucketsOf, type Interval } from "./zone-buckets.ts";

export interface StatisticsQuery {
  readonly filter: Filter;
  /** An IANA name. */
  readonly timeZone: string;
  readonly interval: Interval | undefined;
  readonly by: CountedField | undefined;
  /** So many values are named. */
  readonly top: number;
}

export interface Bucket extends BucketStart {
  readonly entries: number;
  /** With `by`. */
  readonly counts: FieldCounts | undefined;
}

export interface Statistics {
  /** The log's size, and when its newest entry was recorded; null where it has none. */
  readonly asOf: { readonly size: number; readonly recordedAt: string | null };
  /** Positions before this one are rolled up. */
  readonly rolledUp: number;
  /** What was counted: [from, to), RFC 3339 UTC. Undefined where the log is empty, or up to the newest entry, it too. */
  readonly from: string | undefined;
  readonly to: string | undefined;
  readonly entries: number;
  /** With `by`. */
  readonly values: readonly ValueCount[] | undefined;
  readonly counts: FieldCounts | undefined;
  /** With `interval`. */
  readonly buckets: readonly Bucket[] | undefined;
}

/** The roll-ups are far behind the log, and what they lack could not be counted in time. */
export class RollupsBehindError extends Error {
  readonly rolledUp: number;
  readonly size: number;
  constructor(rolledUp: number, size: number) {
    super(`only ${rolledUp} of ${size} entries are rolled up yet`);
    this.name = "RollupsBehindError";
    this.rolledUp = rolledUp;
    this.size = size;
  }
}

const TIMEOUT_MS = 5_000;
/** Entries that are counted one by one within any time limit; where more are missing, waiting for the roll-ups helps. */
const FAR_BEHIND = 100_000;
const PAGE = 2_000;

/** What is to be counted, found out once. */
interface Plan {
  readonly size: number;
  readonly recordedAt: string | null;
  readonly from: string | undefined;
  readonly to: string | undefined;
  readonly starts: readonly BucketStart[];
  /** The first position of each bucket, and the end of the last. */
  readonly positions: readonly number[];
}

export class StatisticsReader {
  readonly #database: Database;
  readonly #reader: Reader;

  constructor(database: Database, reader: Reader) {
    this.#database = database;
    this.#reader = reader;
  }

  /**
   * @throws {SearchTimeoutError} after 5 s. @throws {RollupsBehindError}
   * @throws {TooManyBucketsError} @throws {UnknownTimeZoneError}
   */
  async count(log: LogIdentity, query: StatisticsQuery): Promise<Statistics> {
    const deadline = performance.now() + TIMEOUT_MS;
    const rolled = rolledFieldOf(query);
    const { plan, result } = await this.#database.read(log.tenantId, async (client) => {
      const plan = await planOf(client, log.logId, query);
      if (rolled === undefined) {
        const rolledUp = (await newestMinute(client, log.logId))?.endSeq ?? 0;
        return { plan, result: isTimeRange(query.filter) ? byPositions(plan, query, rolledUp) : { rolledUp } };
      }
      return { plan, result: await countRolled(client, log.logId, query, { plan, rolled, deadline }) };
    });
    if ("entries" in result) return result;
    return this.#countMatching(log, query, { plan, rolledUp: result.rolledUp, deadline });
  }

  /** Counts what a filter finds, page by page. */
  async #countMatching(
    log: LogIdentity,
    { filter, by, top, interval }: StatisticsQuery,
    { plan, rolledUp, deadline }: { plan: Plan; rolledUp: number; deadline: number },
  ): Promise<Statistics> {
    const counted = new DirectCounts(by, plan.positions.slice(0, -1));
    let after: { seq: number } | undefined;
    do {
      if (performance.now() > deadline) throw new SearchTimeoutError();
      const page = await this.#reader.page(log, filter, { order: "asc", limit: PAGE, after, before: plan.size });
      for (const { seq, opened } of page.entries) counted.add(seq, opened);
      after = page.next;
    } while (after !== undefined);
    const sums = new Map<string, number>();
    for (const { values } of counted.buckets.values()) {
      for (const [value, entries] of values) sums.set(value, (sums.get(value) ?? 0) + entries);
    }
    const best: ValueCount[] = [];
    for (const [value, entries] of sums) insertBest(best, { value, entries }, top);
    const places = new Map(best.map(({ value }, place) => [value, place]));
    const buckets = plan.starts.map((start, number): Bucket => {
      const counts: FieldCounts = { top: new Array(best.length).fill(0), other: 0, without: 0 };
      const found = counted.buckets.get(number);
      counts.without = found?.without ?? 0;
      for (const [value, entries] of found?.values ?? []) {
        const place = places.get(value);
        if (place === undefined) counts.other += entries;
        else counts.top[place]! += entries;
      }
      return { ...start, entries: found?.entries ?? 0, counts: by === undefined ? undefined : counts };
    });
    return answer(plan, {
      rolledUp,
      entries: buckets.reduce((sum, { entries }) => sum + entries, 0),
      values: by === undefined ? undefined : best,
      buckets,
      interval,
    });
  }
}

/**
 * The field that roll-ups answer by, and which of its values count: where nothing but a time range is asked for, or beside it only
 * values of that very field. Undefined where they do not, or where positions alone tell.
 */
function rolledFieldOf({ filter, by }: StatisticsQuery): Rolled | undefined {
  if (isTimeRange(filter)) return by === undefined ? undefined : { field: by };
  if (filter.clauses.length > 1 || filter.occurredFrom !== undefined || filter.occurredTo !== undefined)
    return undefined;
  const clause = filter.clauses[0] as Clause & { field: TextField; anyOf: readonly Wanted[] };
  const field = COUNTED_FIELDS.find((one) => FILTER_FIELD[one] === clause.field);
  if (field === undefined || (by !== undefined && by !== field)) return undefined;
  // An entry with several of the values would count several times; and the other values of an entry that has one are not known.
  if (
    field === "resource_type" &&
    (by !== undefined || clause.negated || clause.anyOf.length > 1 || clause.anyOf[0]!.kind !== "exact")
  )
    return undefined;
  const { anyOf, negated } = clause;
  const exact = anyOf.flatMap((wanted) => (wanted.kind === "exact" ? wanted.value : []));
  return {
    field,
    counts: (value) => anyOf.some((wanted) => isWanted(wanted, value)) !== negated,
    exact: negated || exact.length < anyOf.length ? undefined : exact,
  };
}

interface Rolled {
  readonly field: CountedField;
  readonly counts?: (value: string | undefined) => boolean;
  readonly exact?: readonly string[] | undefined;
}

async function planOf(client: pg.ClientBase, logId: number, query: StatisticsQuery): Promise<Plan> {
  const { filter, interval, timeZone } = query;
  const { rows: heads } = await client.query<{ size: string; recorded_at: string; first: string | null }>(
    `select size, ${TIME("recorded_at")} as recorded_at, ${TIME("tallystick.time_at($1, 0)")} as first
     from tallystick.heads where log_id = $1 order by size desc limit 1`,
    [logId],
  );
  const size = Number(heads[0]?.size ?? 0);
  const recordedAt = size === 0 ? null : heads[0]!.recorded_at;
  const from = filter.from ?? heads[0]?.first ?? undefined;
  const end = filter.to ?? (recordedAt === null ? undefined : justAfter(recordedAt));
  const whole = [{ start: from ?? "", local: "" }];
  const isEmpty = from === undefined || end === undefined || from >= end;
  const starts =
    interval === undefined ? whole : isEmpty ? [] : await bucketsOf(client, { from, to: end, timeZone, interval });
  const { rows } = await client.query<{ position: string }>(
    `select tallystick.size_before($1, time) as position from unnest($2::timestamptz[]) with ordinality as bound (time, n) order by n`,
    [logId, [from ?? null, ...starts.slice(1).map(({ start }) => start), filter.to ?? null]],
  );
  const positions = rows.map(({ position }) => Number(position));
  if (filter.to === undefined) positions[positions.length - 1] = size;
  if (isEmpty) positions.fill(positions[0] ?? 0);
  return { size, recordedAt, from, to: filter.to, starts, positions };
}

/** The next microsecond. */
function justAfter(time: string): string {
  const micros = Number(time.slice(20, 26)) + 1;
  if (micros < 1_000_000) return `${time.slice(0, 20)}${String(micros).padStart(6, "0")}Z`;
  return `${new Date(Date.parse(`${time.slice(0, 19)}Z`) + 1_000).toISOString().slice(0, 19)}.000000Z`;
}

/** Heads alone tell how many entries there are between two times. */
function byPositions(plan: Plan, { interval }: StatisticsQuery, rolledUp: number): Statistics {
  const { starts, positions } = plan;
  const buckets = starts.map(
    (start, i): Bucket => ({ ...start, entries: positions[i + 1]! - positions[i]!, counts: undefined }),
  );
  const entries = positions.at(-1)! - positions[0]!;
  return answer(plan, { rolledUp, entries, values: undefined, buckets, interval });
}

async function countRolled(
  client: pg.ClientBase,
  logId: number,
  { by, top, interval }: StatisticsQuery,
  { plan, rolled, deadline }: { plan: Plan; rolled: Rolled; deadline: number },
): Promise<Statistics> {
  const { starts, positions, size, from, to } = plan;
  const newest = await newestMinute(client, logId);
  const rolledUp = newest?.endSeq ?? 0;
  const [first, end] = [positions[0]!, positions.at(-1)!];
  // Whole minutes come from roll-ups, the newest one as far as it is counted.
  const open = newest?.minute ?? Number.NEGATIVE_INFINITY;
  const low = from === undefined ? 0 : minuteOf(from) + (from.slice(16) === ":00.000000Z" ? 0 : 1);
  const high = Math.min(to === undefined ? Number.POSITIVE_INFINITY : minuteOf(to), open + 1);
  const direct = new DirectCounts(rolled.field, positions.slice(0, -1));
  const counting = { add: direct.add.bind(direct), deadline };
  const edges = low < high && first < end ? await edgesOf(client, logId, { low, high, open, rolledUp }) : [end, end];
  try {
    await countDirectly(client, logId, { from: first, to: Math.min(end, edges[0]!) }, counting);
    await countDirectly(client, logId, { from: Math.max(first, edges[1]!), to: end }, counting);
  } catch (error) {
    if (error instanceof SearchTimeoutError && size - rolledUp > FAR_BEHIND)
      throw new RollupsBehindError(rolledUp, size);
    throw error;
  }
  const counts = new RolledCounts(client, { logId, ...rolled, deadline });
  const minutes = starts.map(({ start }, i) => (i === 0 ? low : minuteOf(start)));
  const covered = first < end;
  const best = await counts.top(covered ? cover(low, high, open) : [], direct.buckets, top);
  const spans = minutes.flatMap((start, i): Span[] =>
    covered ? cover(Math.max(low, start), Math.min(high, minutes[i + 1] ?? high), open) : [],
  );
  const byBucket = await counts.byBucket(minutes, spans, direct.buckets, best);
  const buckets = starts.map((start, i): Bucket => {
    const { top: each, other, without } = byBucket[i]!;
    const entries =
      rolled.counts === undefined
        ? positions[i + 1]! - positions[i]!
        : each.reduce((sum, one) => sum + one, 0) + other + without;
    return { ...start, entries, counts: by === undefined ? undefined : byBucket[i] };
  });
  return answer(plan, {
    rolledUp,
    entries: buckets.reduce((sum, { entries }) => sum + entries, 0),
    values: by === undefined ? undefined : best.values,
    buckets,
    interval,
  });
}

/** The positions where the minutes that come from roll-ups begin and end. */
async function edgesOf(
  client: pg.ClientBase,
  logId: number,
  { low, high, open, rolledUp }: { low: number; high: number; open: number; rolledUp: number },
): Promise<[number, number]> {
  const { rows } = await client.query<{ low: string; high: string }>(
    `select tallystick.size_before($1, to_timestamp($2::bigint * 60)) as low, tallystick.size_before($1, to_timestamp($3::bigint * 60)) as high`,
    [logId, low, high],
  );
  return [Number(rows[0]!.low), high > open ? rolledUp : Number(rows[0]!.high)];
}

function answer(
  { size, recordedAt, from, to }: Plan,
  {
    buckets,
    interval,
    values,
    ...rest
  }: Pick<Statistics, "rolledUp" | "entries" | "values"> & { buckets: Bucket[]; interval: Interval | undefined },
): Statistics {
  const counts = values && {
    top: values.map(({ entries }) => entries),
    other: sumOf(buckets, ({ other }) => other),
    without: sumOf(buckets, ({ without }) => without),
  };
  return {
    ...{ asOf: { size, recordedAt }, from, to, ...rest },
    ...{ values, counts, buckets: interval === undefined ? undefined : buckets },
  };
}

function sumOf(buckets: readonly Bucket[], of: (counts: FieldCounts) => number): number {
  return buckets.reduce((sum, { counts }) => sum + (counts === undefined ? 0 : of(counts)), 0);
}
