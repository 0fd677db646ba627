/**
 * Pages of filtered lists, over HTTP, one request after the other: in a large log, and in a small one.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Bench, onFreshServer, type Subject } from "./bench.ts";
import { type EventShape, RARE_ACTORS } from "./events.ts";
import { fill } from "./fill.ts";
import { LISTS, type ListKind, type LogFacts } from "./filters.ts";
import type { LoadReport } from "./load-program.ts";
import { compared, type Result } from "./result.ts";
import { type Tallystick, withClient } from "./tallystick.ts";

const GOAL_MS = 10;
const LIMIT = 50;
/** Most entries that a page may have. */
const MOST = 1_000;
const REQUESTS = 500;
const WARM_UP = 60;
/** Examples of each kind of list, with values of their own; they take turns. */
const EXAMPLES = 20;
const ENTRIES_OF_A_RARE_ACTOR = 120;

export async function page(bench: Bench): Promise<Result[]> {
  const [size, smallSize] = bench.quick ? [100_000, 20_000] : [1_000_000, 100_000];
  const at = (entries: number) =>
    onFreshServer(bench, async (subject) => {
      await fill(bench, subject, entries, listShape(entries));
      return measureLists(bench, subject);
    });
  const small = await at(smallSize);
  return comparedLists("page", { large: await at(size), size, small, smallSize });
}

/** Events for lists: with an address, and with as many entries of rare actors in a large log as in a small one. */
export function listShape(size: number): EventShape {
  return { personal: true, rareEvery: Math.max(1, Math.floor(size / (RARE_ACTORS * ENTRIES_OF_A_RARE_ACTOR))) };
}

export type ListFigures = ReadonlyMap<ListKind, LoadReport>;

export function comparedLists(
  benchmark: string,
  { large, size, small, smallSize }: { large: ListFigures; size: number; small: ListFigures; smallSize: number },
): Result[] {
  return LISTS.map((list) => {
    const { latencyP50Ms, latencyP99Ms } = large.get(list)!;
    return compared({
      benchmark,
      what: `${list.depth === undefined ? "first page, " : ""}${list.name}, p99 at ${size} (p50 ${latencyP50Ms.toFixed(1)} ms)`,
      value: latencyP99Ms,
      unit: "ms",
      yardstick: small.get(list)!.latencyP99Ms,
      against: `at ${smallSize}`,
      goal: list.goalMs ?? GOAL_MS,
      goalIs: "greatest value",
    });
  });
}

export async function measureLists(bench: Bench, { server, load }: Subject): Promise<ListFigures> {
  await indexed(server);
  const facts = await factsOf(server);
  const figures = new Map<ListKind, LoadReport>();
  for (const list of LISTS) {
    const examples: string[] = [];
    for (let n = 0; n < EXAMPLES; n++) {
      // The way to a deep page is long: all go there by one.
      examples.push(list.depth !== undefined && n > 0 ? examples[0]! : await pathOf(server, list, n, facts));
    }
    const paths = Array.from({ length: REQUESTS }, (_, request) => examples[request % EXAMPLES]!);
    await load.run(server.job(1, { kind: "get", paths: paths.slice(0, WARM_UP) }));
    const report = await load.run(server.job(1, { kind: "get", paths }));
    figures.set(list, report);
    bench.say(
      `lists at ${facts.size}: ${list.name}: p50 ${report.latencyP50Ms.toFixed(2)} ms, p99 ${report.latencyP99Ms.toFixed(2)} ms`,
    );
  }
  return figures;
}

/** The path of a list's page. */
async function pathOf(server: Tallystick, { depth = 0, query }: ListKind, n: number, facts: LogFacts): Promise<string> {
  const parameters = new URLSearchParams({ ...query(n, facts), limit: String(LIMIT) });
  for (let before = 0; before < depth; before += MOST) {
    parameters.set("limit", String(MOST));
    const { next_cursor } = await get(server, parameters);
    parameters.set("limit", String(LIMIT));
    if (typeof next_cursor !== "string") break; // a small log has no page so deep: its last one
    parameters.set("cursor", next_cursor);
  }
  const { data } = await get(server, parameters);
  if (data.length === 0) throw new Error(`${parameters} found nothing: the benchmark would measure an empty list`);
  return `/v1/logs?${parameters}`;
}

async function get({ url, headers }: Tallystick, parameters: URLSearchParams) {
  const response = await fetch(`${url}/v1/logs?${parameters}`, { headers });
  if (!response.ok) throw new Error(`${parameters} was answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as { data: unknown[]; next_cursor: string | null };
}

/** Waits until everything is indexed: what a search of a log that grows has to look at besides is measured by `index`. */
async function indexed({ url }: Tallystick): Promise<void> {
  for (;;) {
    const metrics = await (await fetch(`${url}/metrics`)).text();
    const lag = /^audit_index_lag_seconds (\S+)$/m.exec(metrics)?.[1];
    if (lag === undefined) throw new Error("/metrics does not say how far the index is behind");
    if (Number(lag) === 0) return;
    await delay(250);
  }
}

async function factsOf(server: Tallystick): Promise<LogFacts> {
  const size = await server.size();
  return withClient(server.databaseUrl, async (client) => {
    const timeAt = async (seq: number) => {
      const { rows } = await client.query<{ time: string }>(
        `select to_char(heads.recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as time
         from tallystick.heads join tallystick.logs on logs.id = heads.log_id
         where logs.slug = 'default' and heads.size > $1 order by heads.size limit 1`,
        [seq],
      );
      return rows[0]!.time;
    };
    return { size, from: await timeAt(Math.floor(size * 0.45)), to: await timeAt(Math.floor(size * 0.55)) };
  });
}
