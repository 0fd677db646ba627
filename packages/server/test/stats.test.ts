/** Statistics, from roll-ups and beside them, against a plain count of the same entries. */
import { type Filter, matcherOf, NO_FILTER } from "@tallystick/core/filter";
import { filterOf } from "@tallystick/core/filter-parameters";
import type { Leaf } from "@tallystick/core/leaf";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Reader } from "../src/log/reader.ts";
import type { TenantLog } from "../src/log/tenants.ts";
import { COUNTED_FIELDS, type CountedField, countedValues } from "../src/stats/counted-fields.ts";
import { cover, LEVELS, nextStartOf, startOf } from "../src/stats/levels.ts";
import { packCounts, unpackCounts } from "../src/stats/packed-counts.ts";
import { RollupGapError } from "../src/stats/rollup-tally.ts";
import { type Statistics, type StatisticsQuery, StatisticsReader } from "../src/stats/statistics.ts";
import { expandPattern } from "../src/stats/vocabulary.ts";
import { INTERVALS, type Interval, MAX_BUCKETS, TooManyBucketsError } from "../src/stats/zone-buckets.ts";
import { reportOf, TestDatabase } from "../src/testing/log.ts";
import { type PastEvent, recordInThePast, rollUp } from "../src/testing/past-entries.ts";

const SEED = Number(process.env.TALLYSTICK_TEST_SEED ?? Date.now() % 2 ** 31);
const RUNS = Number(process.env.TALLYSTICK_TEST_STATS_RUNS ?? 15);

let database: TestDatabase;
let statistics: StatisticsReader;

beforeAll(async () => {
  database = await TestDatabase.create();
  statistics = new StatisticsReader(database.database, new Reader(database.database));
});
afterAll(() => database.close());

const ZONES = [
  "UTC",
  "Asia/Kolkata",
  "Asia/Kathmandu",
  "America/New_York",
  "Europe/Berlin",
  "America/Havana", // its clocks are set at midnight
  "Africa/Cairo",
  "Australia/Lord_Howe", // by half an hour
  "Pacific/Apia",
];

/** Times around which clocks are set in one of the zones, months and days begin, and others. */
const MOMENTS = [
  "2026-03-08T05:00:00Z",
  "2026-03-08T07:00:00Z",
  "2026-03-29T01:00:00Z",
  "2026-04-04T15:00:00Z",
  "2026-04-23T22:00:00Z",
  "2026-06-30T18:30:00Z",
  "2026-10-03T15:30:00Z",
  "2026-10-25T01:00:00Z",
  "2026-10-29T21:00:00Z",
  "2026-11-01T04:30:00Z",
  "2026-11-01T06:00:00Z",
  "2027-01-01T00:00:00Z",
].map((time) => Date.parse(time));

const time = fc
  .record({
    moment: fc.constantFrom(...MOMENTS),
    /** In steps of 7.5 minutes, which are whole minutes or not. */
    steps: fc.oneof(fc.integer({ min: -40, max: 40 }), fc.integer({ min: -3_000, max: 3_000 })),
    micros: fc.constantFrom(0, 0, 1, 59_999_999),
  })
  .map(({ moment, steps, micros }) => {
    const ms = moment + steps * 450_000 + Math.floor(micros / 1_000);
    return `${new Date(ms).toISOString().slice(0, 23)}${String(micros % 1_000).padStart(3, "0")}Z`;
  });

const event = fc
  .record({
    action: fc.constantFrom("user.login", "order.update", "report.export", "a"),
    actor: fc.constantFrom("alice", "bob", "carol", undefined),
    resource: fc.constantFrom("order", "report", undefined),
    related: fc.subarray(["order", "customer", "report"]),
    outcome: fc.constantFrom("success" as const, "failure" as const, undefined),
    severity: fc.constantFrom("INFO" as const, "ERROR" as const, undefined),
    service: fc.constantFrom("orders", undefined),
  })
  .map(({ action, actor, resource, related, outcome, severity, service }) => ({
    action,
    actor: actor === undefined ? { type: "anonymous" } : { id: actor },
    ...(resource && { resource: { type: resource, id: "1" } }),
    ...(related.length > 0 && { related: related.map((type) => ({ type, id: "2" })) }),
    ...(outcome && { outcome }),
    ...(severity && { severity }),
    ...(service && { service_id: service }),
  }));

const parameters = fc.oneof(
  { weight: 3, arbitrary: fc.constant({}) },
  fc.constantFrom(
    { action: "user.login" },
    { action: ["user.login", "none"] },
    { action: "*o*" },
    { q: "-actor:alice" },
    { q: "-outcome:failure" },
    { actor_id: ["alice", "bob"] },
    { severity: "INFO" },
    { resource_type: "order" },
    { resource_type: ["order", "report"] },
    { q: "-resource_type:order" },
    { service_id: "default" },
    { action: "user.login", outcome: "failure" },
    { occurred_from: "2026-06-01" },
  ),
);

const query = fc.record({
  parameters,
  range: fc
    .tuple(fc.option(time, { nil: undefined }), fc.option(time, { nil: undefined }))
    // A range that ends before it begins is refused.
    .map(([from, to]) => (from !== undefined && to !== undefined && from > to ? { from: to, to: from } : { from, to })),
  timeZone: fc.constantFrom(...ZONES),
  interval: fc.option(fc.constantFrom(...INTERVALS), { nil: undefined }),
  by: fc.option(fc.constantFrom(...COUNTED_FIELDS), { nil: undefined }),
  top: fc.integer({ min: 1, max: 4 }),
});

test(`numbers equal a full count (seed ${SEED})`, { timeout: 60_000 + RUNS * 2_000 }, async () => {
  const log = fc.record({
    events: fc.array(fc.record({ at: time, event }), { maxLength: 120 }),
    /** Sizes of the worker's runs; what is left is not rolled up. */
    runs: fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 4 }),
    queries: fc.array(query, { minLength: 12, maxLength: 12 }),
  });
  let answers = 0;
  await fc.assert(
    fc.asyncProperty(log, async ({ events, runs, queries }) => {
      const { log, leaves, rolledUp } = await logOf(events as PastEvent[], runs);
      expect(await rollupProblems(log)).toEqual([]);
      for (const {
        parameters,
        range: { from, to },
        ...rest
      } of queries) {
        const errors: unknown[] = [];
        const filter: Filter = filterOf({ ...parameters, ...(from && { from }), ...(to && { to }) }, errors as never);
        expect(errors).toEqual([]);
        const asked: StatisticsQuery = { filter, ...rest };
        let found: Statistics;
        try {
          found = await statistics.count(log, asked);
        } catch (error) {
          if (!(error instanceof TooManyBucketsError)) throw error;
          expect(tooMany(leaves, asked)).toBe(true);
          continue;
        }
        expect(found.rolledUp).toBe(rolledUp);
        expect(found.asOf).toEqual({ size: leaves.length, recordedAt: leaves.at(-1)?.recorded_at ?? null });
        compare(found, leaves, asked);
        answers++;
      }
    }),
    { seed: SEED, numRuns: RUNS },
  );
  expect(answers).toBeGreaterThan(RUNS * 3);
});

async function rollupProblems(log: TenantLog) {
  const { problems } = await reportOf(database, log, "tallystick_auditor");
  return problems.filter(({ kind }) => kind === "rollup" || kind === "more");
}

async function logOf(events: readonly PastEvent[], runs: readonly number[]) {
  const log = await database.tenant();
  const leaves = await recordInThePast(
    database,
    log,
    events.toSorted((a, b) => (a.at < b.at ? -1 : 1)),
  );
  let rolledUp = 0;
  for (const run of runs) {
    const part = leaves.slice(rolledUp, rolledUp + run);
    await rollUp(database.url("tallystick_writer"), log, part);
    rolledUp += part.length;
  }
  return { log, leaves, rolledUp };
}

/** Compares an answer with what a loop over all entries counts. */
function compare(found: Statistics, leaves: readonly Leaf[], { filter, timeZone, interval, by, top }: StatisticsQuery) {
  const matches = matcherOf(filter);
  const matching = leaves.filter((leaf) => matches(leaf));
  expect(found.entries).toBe(matching.length);
  const expected = by === undefined ? undefined : countsOf(matching, by);
  if (expected === undefined) expect(found.values).toBeUndefined();
  else {
    const best = [...expected.values.values()].toSorted((a, b) => b - a).slice(0, top);
    expect(found.values!.map(({ entries }) => entries)).toEqual(best);
    for (const { value, entries } of found.values!) expect(expected.values.get(value), value).toBe(entries);
    expect(found.counts!.without).toBe(expected.without);
    expect(found.counts!.other).toBe(sum(expected.values.values()) - sum(best));
  }
  if (interval === undefined) {
    expect(found.buckets).toBeUndefined();
    return;
  }
  const labelled = labelOf(timeZone, interval);
  for (const [i, { start, local, entries, counts }] of found.buckets!.entries()) {
    const next = found.buckets![i + 1]?.start;
    const label = labelled(start);
    expect(labelled(before(start)), `${start} begins a ${interval} in ${timeZone}`).not.toBe(label);
    expect(localTime(timeZone)(start)).toBe(local);
    if (next !== undefined) expect(labelled(before(next))).toBe(label);
    const here = matching.filter(({ recorded_at: at }) => at >= start && (next === undefined || at < next));
    expect(entries, `${timeZone} ${start}`).toBe(here.length);
    for (const { recorded_at } of here) expect(labelled(recorded_at)).toBe(label);
    if (by === undefined) continue;
    const inBucket = countsOf(here, by);
    const top = found.values!.map(({ value }) => inBucket.values.get(value) ?? 0);
    expect(counts).toEqual({ top, without: inBucket.without, other: sum(inBucket.values.values()) - sum(top) });
  }
  expect(found.buckets!.reduce((all, { entries }) => all + entries, 0)).toBe(matching.length);
}

function countsOf(leaves: readonly Leaf[], by: CountedField) {
  const values = new Map<string, number>();
  let without = 0;
  for (const leaf of leaves) {
    const found = countedValues(by, leaf);
    if (found.length === 0) without++;
    for (const value of found) values.set(value, (values.get(value) ?? 0) + 1);
  }
  return { values, without };
}

function tooMany(leaves: readonly Leaf[], { filter, interval }: StatisticsQuery): boolean {
  const from = filter.from ?? leaves[0]!.recorded_at;
  const to = filter.to ?? leaves.at(-1)!.recorded_at;
  const leastMs = { minute: 60_000, hour: 1_800_000, day: 0, week: 0, month: 0 }[interval!];
  return leastMs > 0 && (Date.parse(to) - Date.parse(from)) / leastMs >= MAX_BUCKETS;
}

const sum = (numbers: Iterable<number>) => [...numbers].reduce((a, b) => a + b, 0);
const before = (time: string) => new Date(Date.parse(time) - 1_000).toISOString();

/** What a clock of the zone shows, by Intl. */
function localTime(timeZone: string): (time: string) => string {
  const format = new Intl.DateTimeFormat("sv-SE", { timeZone, dateStyle: "short", timeStyle: "medium" });
  return (time) => format.format(new Date(time)).replace(" ", "T");
}

/** A text that all moments of a stretch share, and no others. */
function labelOf(timeZone: string, interval: Interval): (time: string) => string {
  const local = localTime(timeZone);
  return (time) => {
    const shown = local(time);
    if (interval === "minute") return time.slice(0, 16);
    if (interval === "day") return shown.slice(0, 10);
    if (interval === "month") return shown.slice(0, 7);
    if (interval === "week") {
      const day = Date.parse(`${shown.slice(0, 10)}T00:00:00Z`) / 86_400_000;
      return String(Math.floor((day + 3) / 7)); // 1970 began on a Thursday
    }
    // An hour that comes twice is two, but for a zone where only half of it does.
    const offset =
      timeZone === "Australia/Lord_Howe" ? 0 : Date.parse(`${shown}Z`) - Date.parse(`${time.slice(0, 19)}Z`);
    return `${shown.slice(0, 13)} ${offset}`;
  };
}

describe("roll-ups", () => {
  const at = (n: number) => `${new Date(Date.UTC(2026, 4, 31, 23, 50) + n * 7_000).toISOString().slice(0, 23)}000Z`;
  const events = Array.from({ length: 500 }, (_, n): PastEvent => {
    return { at: at(n), event: { action: `action.${n % 7}`, actor: { id: `u-${n % 90}` } } };
  });

  test("are the same whatever the worker's runs are", async () => {
    const rows = async (runs: readonly number[]) => {
      const { log } = await logOf(events, runs);
      const { rows } = await database.superuser.query(
        `select level, bucket, entries, end_seq, ${COUNTED_FIELDS.join()} from tallystick.rollups where log_id = $1 order by 1, 2`,
        [log.logId],
      );
      return rows;
    };
    const once = await rows([500]);
    const often = await rows(Array.from({ length: 50 }, () => 10));
    expect(often).toEqual(once);
    expect(new Set(once.map(({ level }) => level)).size).toBe(LEVELS); // up to the month of May, which has ended
  });

  test("say the same to psql", async () => {
    const { log } = await logOf(events, [500]);
    const { rows } = await database.superuser.query(
      `select v.value, sum(c.entries)::integer as entries from tallystick.rollups r, tallystick.rollup_counts(r.action) c
       join tallystick.rollup_values v on v.log_id = $1 and v.field = 'action' and v.id = c.id
       where r.log_id = $1 and r.level = 0 group by 1 order by 1`,
      [log.logId],
    );
    expect(rows[0]).toEqual({ value: "action.0", entries: 72 });
    expect(rows.length).toBe(7);
  });

  test("refuse entries that do not go on where they end, and what fails leaves nothing", async () => {
    const { log, leaves } = await logOf(events, [100]);
    const url = database.url("tallystick_writer");
    for (const from of [99, 101])
      await expect(rollUp(url, log, leaves.slice(from, 200))).rejects.toThrow(RollupGapError);
    await rollUp(url, log, leaves.slice(100));
    const { values, rolledUp } = await statistics.count(log, {
      ...{ filter: NO_FILTER, timeZone: "UTC", interval: undefined, by: "actor", top: 1 },
    });
    expect({ values, rolledUp }).toEqual({ values: [{ value: "u-0", entries: 6 }], rolledUp: 500 });
  });

  test("are a tenant's own", async () => {
    const { log } = await logOf(events, [500]);
    const other = await database.tenant();
    const set = `select set_config('tallystick.tenant_id', '${other.tenantId}', false)`;
    for (const table of ["rollups", "rollup_values"]) {
      expect(await database.as("tallystick_reader", set, `select * from tallystick.${table}`)).toEqual([]);
      await expect(
        database.as(
          "tallystick_writer",
          set,
          `insert into tallystick.rollup_values (log_id, tenant_id, field, id, value)
          values (${log.logId}, '${log.tenantId}', 'action', 99, 'x')`,
        ),
      ).rejects.toThrow(/row-level security/);
    }
  });

  test("expandPattern() gives the values of a pattern, and how far they go", async () => {
    const { log } = await logOf(events, [500 - 1]);
    const expand = (parts: readonly string[], limit: number) =>
      database.database.read(log.tenantId, (client) => expandPattern(client, log.logId, "action", parts, limit));
    expect(await expand(["", ".3"], 10)).toEqual({ values: ["action.3"], upTo: 499 });
    expect((await expand(["action", ""], 10))!.values.length).toBe(7);
    expect(await expand(["action", ""], 6)).toBeUndefined();
  });
});

test("cover() takes each minute once, and of coarse stretches only those that have ended", () => {
  const minutes = fc.integer({ min: 29_000_000, max: 29_100_000 });
  fc.assert(
    fc.property(minutes, minutes, minutes, (from, to, open) => {
      let at = from;
      for (const span of cover(from, to, open)) {
        expect(span.from).toBe(at);
        expect(span.to).toBeGreaterThan(span.from);
        expect([startOf(span.level, span.from), nextStartOf(span.level, span.to)]).toEqual([span.from, span.to]);
        if (span.level > 0) expect(span.to).toBeLessThanOrEqual(open);
        at = span.to;
      }
      expect(at).toBe(Math.max(from, Math.min(at, to)));
      if (from < to) expect(at).toBe(to);
    }),
    { seed: SEED },
  );
});

test("packCounts() and unpackCounts() are each other's reverse", () => {
  const pairs = fc.uniqueArray(fc.tuple(fc.nat(2 ** 31 - 1), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })), {
    selector: ([id]) => id,
  });
  fc.assert(
    fc.property(pairs, (pairs) => {
      const read: [number, number][] = [];
      unpackCounts(packCounts(new Map(pairs)), (id, entries) => read.push([id, entries]));
      expect(read).toEqual(pairs.toSorted(([a], [b]) => a - b));
    }),
    { seed: SEED },
  );
});

test("verification finds coarse roll-ups as the worker makes them, and names one that is missing or was changed", async () => {
  const times = [
    "2026-01-31T23:59:30",
    "2026-02-01T00:00:10",
    "2026-02-01T00:16:00",
    "2026-02-03T05:00:00",
    "2026-03-09T10:20:00",
  ];
  const events = times.map((at, i) => ({
    at: `${at}.000000Z`,
    event: { action: `a.${i % 2}`, actor: { id: `u${i}` } },
  }));
  const { log } = await logOf(events, [2, 2, 1]);
  const kinds = () => rollupProblems(log);
  expect(await kinds()).toEqual([]);
  for (const level of [0, 1, 2, 3, 4]) {
    const where = `log_id = ${log.logId} and level = ${level} and bucket = (select min(bucket) from tallystick.rollups where log_id = ${log.logId} and level = ${level})`;
    const { rows } = await database.superuser.query(`select actor from tallystick.rollups where ${where}`);
    await database.tamper(`update tallystick.rollups set actor = '\\x0109' where ${where}`, []);
    expect(await kinds()).toEqual([expect.objectContaining({ field: "actor" })]);
    await database.superuser.query(`update tallystick.rollups set actor = $1 where ${where}`, [rows[0].actor]);
    expect(await kinds()).toEqual([]);
  }
  await database.tamper(`delete from tallystick.rollups where log_id = ${log.logId} and level > 0`, []);
  expect((await kinds()).map(({ field }) => field)).toEqual(expect.arrayContaining(["bucket"]));
});
