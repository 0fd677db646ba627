/**
 * Text search: what indexing costs those who record, how far it is behind them, and how long a search takes in a large log.
 */
import { type Bench, onFreshServer, rate, type Subject } from "./bench.ts";
import { type EventShape, rareActor } from "./events.ts";
import { fill } from "./fill.ts";
import { listShape } from "./page.ts";
import { compared, type Result } from "./result.ts";
import { median } from "./rounds.ts";
import { withClient } from "./tallystick.ts";
import { WRITES, type Write } from "./writes.ts";

const INGEST_GOAL = 0.8;
/** Of the greatest rate. */
const PACE = 0.8;
const LAG_GOAL_SECONDS = 5;
const SEARCH_GOAL_MS = 100;
const GROWTH_GOAL = 1.5;
const REQUESTS = 400;
const WARM_UP = 40;
const EXAMPLES = 20;
const LOOK_MS = 100;

/** What is searched for, from what every entry has to what none has. */
const SEARCHES: readonly { readonly name: string; readonly query: (n: number) => string }[] = [
  { name: "phrase, in every entry", query: () => '"draft for the board"' },
  { name: "phrase, in 8 %", query: () => '"permission grant"' },
  { name: "phrase, in 1 %", query: () => '"api key revoke"' },
  { name: "phrase, in 120 entries, by openings", query: (n) => `"${rareActor(n % 20)}@customer.example"` },
  { name: "phrase, in none", query: () => '"board enterprise"' },
  { name: "beginning of a word, in one of 2,500", query: () => "contractor*" },
  { name: "metadata, in 0.05 %", query: (n) => `metadata.duration_ms:${1_000 + n}` },
  { name: "phrase and an actor", query: (n) => `"api key revoke" actor_id:user_0000000${n % 10}` },
];

export async function index(bench: Bench): Promise<Result[]> {
  return [...(await ingest(bench)), ...(await searches(bench))];
}

/** Long rounds: in short ones the worker would be left behind, and be paid for by nobody. */
async function ingest(bench: Bench): Promise<Result[]> {
  const results: Result[] = [];
  const rounds = bench.quick ? 2 : 5;
  for (const write of WRITES) {
    const count = write.kind === "bulk" ? (bench.quick ? 100_000 : 300_000) : bench.quick ? 20_000 : 100_000;
    const figures = { on: [] as number[], off: [] as number[] };
    let left = 0;
    for (let round = 0; round < rounds; round++) {
      for (const side of ["on", "off"] as const) {
        const settings = { INDEX_WORKER: String(side === "on") };
        await onFreshServer(
          bench,
          async (subject) => {
            await subject.record({ ...write, count: write.warmUp, shape: {} });
            figures[side].push(rate(await subject.record({ ...write, count, shape: {} })));
            if (side === "on") left = Math.max(left, (await lagOf(subject)).entries);
          },
          settings,
        );
      }
    }
    bench.say(`index: ${write.what}: ${left} entries were left to be indexed at the end of a round, at most`);
    results.push(
      compared({
        benchmark: "index",
        what: `${write.what}, indexing`,
        value: median(figures.on),
        unit: "events/s",
        yardstick: median(figures.off),
        against: "INDEX_WORKER=false",
        goal: INGEST_GOAL,
      }),
      await lagAtPace(bench, write, median(figures.on)),
    );
  }
  return results;
}

async function lagAtPace(bench: Bench, write: Write, greatest: number): Promise<Result> {
  const perSecond = greatest * PACE;
  const count = Math.round(perSecond * (bench.quick ? 8 : 30));
  return onFreshServer(bench, async (subject) => {
    await subject.record({ ...write, count: write.warmUp, shape: {} });
    let recording = true;
    let worst = 0;
    const looking = (async () => {
      while (recording) {
        worst = Math.max(worst, (await lagOf(subject)).seconds);
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
    })();
    const report = await subject.record({ ...write, count, shape: {}, perSecond });
    recording = false;
    await looking;
    return {
      benchmark: "index",
      what: `lag of the index, ${write.what}, at ${Math.round(rate(report))} events/s (80 % of the greatest), worst`,
      value: worst,
      unit: "s",
      goal: LAG_GOAL_SECONDS,
      goalIs: "greatest value",
    };
  });
}

async function lagOf({ server }: Subject): Promise<{ entries: number; seconds: number }> {
  return withClient(server.databaseUrl, async (client) => {
    const { rows } = await client.query<{ entries: number; seconds: number }>(
      `select coalesce(sum(size / 256 * 256 - segments * 256) filter (where waiting_since is not null), 0)::float8 as entries,
         coalesce(extract(epoch from clock_timestamp() - min(waiting_since)), 0)::float8 as seconds
       from tallystick.index_progress(null)`,
    );
    return rows[0]!;
  });
}

async function searches(bench: Bench): Promise<Result[]> {
  const [size, smallSize] = bench.quick ? [100_000, 20_000] : [10_000_000, 100_000];
  const at = (entries: number) =>
    onFreshServer(bench, async (subject) => {
      const shape: EventShape = listShape(entries);
      await fill(bench, subject, entries, shape);
      while ((await lagOf(subject)).entries > 0) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      return measure(bench, subject, entries);
    });
  const small = await at(smallSize);
  const large = await at(size);
  return SEARCHES.flatMap(({ name }) => {
    const { p50, p99 } = large.get(name)!;
    const result = compared({
      benchmark: "index",
      what: `${name}, p99 at ${size} (p50 ${p50.toFixed(1)} ms)`,
      value: p99,
      unit: "ms",
      yardstick: small.get(name)!.p99,
      against: `at ${smallSize}`,
      goal: SEARCH_GOAL_MS,
      goalIs: "greatest value",
    });
    return [result, { ...result, what: `${name}, growth of p99`, goal: GROWTH_GOAL, goalIs: "greatest ratio" }];
  });
}

async function measure(
  bench: Bench,
  { server, load }: Subject,
  size: number,
): Promise<Map<string, { p50: number; p99: number }>> {
  const figures = new Map<string, { p50: number; p99: number }>();
  for (const { name, query } of SEARCHES) {
    const paths = Array.from(
      { length: REQUESTS },
      (_, request) => `/v1/logs?${new URLSearchParams({ q: query(request % EXAMPLES), limit: "50" })}`,
    );
    await load.run(server.job(1, { kind: "get", paths: paths.slice(0, WARM_UP) }));
    const { latencyP50Ms: p50, latencyP99Ms: p99 } = await load.run(server.job(1, { kind: "get", paths }));
    figures.set(name, { p50, p99 });
    bench.say(`searches at ${size}: ${name}: p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`);
  }
  return figures;
}
