/**
 * Where minutes, hours, days, weeks and months of a time zone begin. By PostgreSQL, whose rules of zones the database's dates go by
 * as well; Node 24 has no Temporal.
 */
import type pg from "pg";
import { TIME } from "../db/time.ts";

export const INTERVALS = ["minute", "hour", "day", "week", "month"] as const;
export type Interval = (typeof INTERVALS)[number];

/** No answer has more: a chart shows fewer, and each costs a look-up. */
export const MAX_BUCKETS = 2_000;

/** Thrown where a range has more than {@link MAX_BUCKETS}. */
export class TooManyBucketsError extends Error {
  constructor() {
    super(`there would be more than ${MAX_BUCKETS} buckets`);
    this.name = "TooManyBucketsError";
  }
}

/** Thrown where PostgreSQL does not know a zone. */
export class UnknownTimeZoneError extends Error {
  constructor(timeZone: string, options?: ErrorOptions) {
    super(`the time zone "${timeZone}" is not known`, options);
    this.name = "UnknownTimeZoneError";
  }
}

/** Where a bucket begins. */
export interface BucketStart {
  /** RFC 3339 UTC, microseconds. */
  readonly start: string;
  /** What a clock in the zone shows then, without an offset. */
  readonly local: string;
}

/** The greatest length of each, in ms: what is longer than so many of them has too many, whatever the zone. */
const LENGTH_MS: { readonly [interval in Interval]: number } = {
  minute: 60_000,
  hour: 3_600_000,
  day: 90_000_000,
  week: 608_400_000,
  month: 2_682_000_000,
};

/** The first moment in a day, week or month of a zone: where midnight comes twice the first one, where it is left out what follows. */
const CALENDAR = `
  select distinct start from (select date_trunc($4::text, $1::timestamptz at time zone $3::text) as first, $2::timestamptz at time zone $3::text as last) range,
    generate_series(first, last, ('1 ' || $4::text)::interval) wall,
    lateral (
      -- Of two moments that clocks show the same, PostgreSQL takes the second.
      select min(moment) as start from unnest(array[0, 15, 30, 60, 120]) as earlier,
        lateral (select (wall at time zone $3::text) - earlier * interval '1 minute' as moment) candidate
      where moment at time zone $3::text >= wall
    ) begins
  where start < $2::timestamptz`;

/** Whenever a clock of the zone shows a full hour, and where it is set forward over one. */
const HOURS = `
  select moment as start
  from generate_series(date_bin('15 minutes', $1::timestamptz, 'epoch') - interval '3 hours', $2::timestamptz, interval '15 minutes') moment
  where moment < $2::timestamptz and $4::text = 'hour' and (extract(minute from moment at time zone $3::text) = 0
    or date_trunc('hour', moment at time zone $3::text) > date_trunc('hour', (moment - interval '15 minutes') at time zone $3::text))`;

const MINUTES = `
  select moment as start
  from generate_series(date_bin('1 minute', $1::timestamptz, 'epoch'), $2::timestamptz, interval '1 minute') moment
  where moment < $2::timestamptz and $4::text = 'minute'`;

/**
 * The buckets of [from, to), the oldest first. The first one begins at `from` or before it.
 *
 * @param from RFC 3339 UTC, as `to`, which is later.
 * @param timeZone an IANA name.
 * @throws {TooManyBucketsError} @throws {UnknownTimeZoneError}
 */
export async function bucketsOf(
  client: pg.ClientBase,
  { from, to, timeZone, interval }: { from: string; to: string; timeZone: string; interval: Interval },
): Promise<BucketStart[]> {
  if (Date.parse(to) - Date.parse(from) > (MAX_BUCKETS + 1) * LENGTH_MS[interval]) throw new TooManyBucketsError();
  const starts = interval === "minute" ? MINUTES : interval === "hour" ? HOURS : CALENDAR;
  const rows = await client
    .query<BucketStart & { after: boolean }>(
      `select ${TIME("start")} as start, to_char(start at time zone $3::text, 'YYYY-MM-DD"T"HH24:MI:SS') as local, start > $1::timestamptz as after
       from (${starts}) buckets order by buckets.start`,
      [from, to, timeZone, interval],
    )
    .then(
      (result) => result.rows,
      (error: unknown) => {
        const { code } = error as { code?: unknown };
        if (code === INVALID_PARAMETER) throw new UnknownTimeZoneError(timeZone, { cause: error });
        throw error;
      },
    );
  const firstAfter = rows.findIndex(({ after }) => after);
  const buckets = rows.slice(Math.max(0, (firstAfter < 0 ? rows.length : firstAfter) - 1));
  if (buckets.length > MAX_BUCKETS) throw new TooManyBucketsError();
  return buckets.map(({ start, local }) => ({ start, local }));
}

const INVALID_PARAMETER = "22023";
