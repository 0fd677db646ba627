/**
 * GET /v1/logs/stats
 */
import type { Filter } from "@tallystick/core/filter";
import { type FilterError, filterOf, type Parameters } from "@tallystick/core/filter-parameters";
import type { FastifyInstance } from "fastify";
import { SearchTimeoutError } from "../../log/find.ts";
import { Reader } from "../../log/reader.ts";
import type { CountedField } from "../../stats/counted-fields.ts";
import type { FieldCounts } from "../../stats/rolled-counts.ts";
import { RollupsBehindError, type Statistics, type StatisticsQuery, StatisticsReader } from "../../stats/statistics.ts";
import { type Interval, MAX_BUCKETS, TooManyBucketsError, UnknownTimeZoneError } from "../../stats/zone-buckets.ts";
import { logOf } from "../log-of.ts";
import { type FieldError, Problem } from "../problem.ts";
import { statisticsSchema } from "../schemas/stats.ts";
import type { Services } from "../server.ts";
import { byOf } from "../watched.ts";

const DEFAULT_TOP = 10;
const MAX_TOP = 100;
const NO_ZONE = 'must be the IANA name of a time zone such as "Europe/Berlin", or "UTC"';

export function statsRoutes(app: FastifyInstance, { database, tenants, watch }: Services): void {
  const statistics = new StatisticsReader(database, new Reader(database));

  app.get("/v1/logs/stats", { schema: statisticsSchema, config: { scope: "read" } }, async (request) => {
    const { log: slug, tenant_id: _, ...parameters } = request.query as { log?: string } & Parameters;
    const log = await logOf(tenants, request.access.log, slug);
    const query = parseStatisticsQuery(parameters);
    const found = await statistics.count(log, query).catch((error: unknown) => {
      throw problemOf(error, query);
    });
    watch.read({ log, by: byOf(request), asked: parameters, entries: 0 });
    return bodyOf(found, query);
  });
}

function parseStatisticsQuery(parameters: Parameters): StatisticsQuery {
  const { interval, by, top: topText, time_zone: timeZone = "UTC", ...rest } = parameters as Record<string, string>;
  const errors: FieldError[] = [];
  const refused: FilterError[] = [];
  const filter: Filter = filterOf(rest, refused);
  for (const { path, message } of refused) errors.push({ path, message });
  const top = topText === undefined ? DEFAULT_TOP : Number(topText);
  if (!(top >= 1 && top <= MAX_TOP)) {
    errors.push({
      path: "top",
      message: `must be a whole number from 1 to ${MAX_TOP}, not "${topText!.slice(0, 100)}"`,
    });
  }
  if (!isTimeZone(timeZone)) errors.push({ path: "time_zone", message: `${NO_ZONE}, not "${timeZone.slice(0, 100)}"` });
  if (errors.length > 0) throw refusal(errors);
  return { filter, timeZone, interval: interval as Interval | undefined, by: by as CountedField | undefined, top };
}

/** A name, and no offset: PostgreSQL reads those with the sign turned round. */
function isTimeZone(text: string): boolean {
  if (!/^[A-Za-z]/.test(text)) return false;
  try {
    new Intl.DateTimeFormat("en", { timeZone: text });
    return true;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

function refusal(errors: readonly FieldError[]): Problem {
  return new Problem(400, "invalid-request", "The query was refused: mend the parameters in errors.", { errors });
}

/** Errors that only this route can say something about; any other as it is. */
function problemOf(error: unknown, { interval, timeZone }: StatisticsQuery): unknown {
  if (error instanceof TooManyBucketsError) {
    return refusal([
      {
        path: "interval",
        message: `must be longer than ${interval}, or from and to closer together: an answer has at most ${MAX_BUCKETS} buckets`,
      },
    ]);
  }
  if (error instanceof UnknownTimeZoneError) {
    return refusal([{ path: "time_zone", message: `${NO_ZONE}: the database does not know "${timeZone}"` }]);
  }
  if (error instanceof RollupsBehindError) {
    const { rolledUp, size } = error;
    return new Problem(
      422,
      "query-too-slow",
      `The query was stopped after 5 s: of the log's ${size} entries only ${rolledUp} are rolled up yet. Narrow from and to, or ask again when the worker has come further.`,
      { cause: error },
    );
  }
  if (error instanceof SearchTimeoutError) {
    return new Problem(
      422,
      "query-too-slow",
      "The query was stopped after 5 s: narrow it by from and to, or ask by one field alone (action, actor_id, outcome, severity or service_id), which roll-ups answer.",
      { cause: error },
    );
  }
  return error;
}

function bodyOf({ asOf, rolledUp, from, to, entries, values, counts, buckets }: Statistics, query: StatisticsQuery) {
  return {
    as_of: { size: asOf.size, recorded_at: asOf.recordedAt },
    rolled_up: rolledUp,
    from: from ?? null,
    to: to ?? null,
    time_zone: query.timeZone,
    interval: query.interval ?? null,
    by: query.by ?? null,
    entries,
    ...(values !== undefined && { values }),
    ...restOf(counts),
    ...(buckets !== undefined && {
      buckets: buckets.map(({ start, local, entries: ofBucket, counts: each }) => ({
        ...{ start, local, entries: ofBucket },
        ...(each !== undefined && { counts: each.top }),
        ...restOf(each),
      })),
    }),
  };
}

function restOf(counts: FieldCounts | undefined) {
  return counts === undefined ? {} : { other: counts.other, without: counts.without };
}
