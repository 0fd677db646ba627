/**
 * The second page of a filtered list, over HTTP, one request after the other: in a large log, and in a small one.
 */
import { type Bench, onFreshServer, type Subject } from "./bench.ts";
import { type EventShape, RARE_ACTORS } from "./events.ts";
import { fill } from "./fill.ts";
import { LISTS, type ListKind, type LogFacts } from "./filters.ts";
import type { LoadReport } from "./load-program.ts";
import { compared, type Result } from "./result.ts";
import { type Tallystick, withClient } from "./tallystick.ts";

const GOAL_MS = 10;
const LIMIT = 50;
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
      what: `second page, ${list.name}, p99 at ${size} (p50 ${latencyP50Ms.toFixed(1)} ms)`,
      value: latencyP99Ms,
      unit: "ms",
      yardstick: small.get(list)!.latencyP99Ms,
      against: `at ${smallSize}`,
      goal: GOAL_MS,
      goalIs: "greatest value",
    });
  });
}

export async function measureLists(bench: Bench, { server, load }: Subject): Promise<ListFigures> {
  const facts = await factsOf(server);
  const figures = new Map<ListKind, LoadReport>();
  for (const list of LISTS) {
    const examples: string[] = [];
    for (let n = 0; n < EXAMPLES; n++) examples.push(await secondPage(server, list.query(n, facts)));
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

/** The path of a list's second page; of its first, where there is no other. */
async function secondPage({ url, headers }: Tallystick, query: Readonly<Record<string, string>>): Promise<string> {
  const parameters = new URLSearchParams({ ...query, limit: String(LIMIT) });
  const path = `/v1/logs?${parameters}`;
  const response = await fetch(`${url}${path}`, { headers });
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
  const { data, next_cursor } = (await response.json()) as { data: unknown[]; next_cursor: string | null };
  if (data.length === 0) throw new Error(`${path} found nothing: the benchmark would measure an empty list`);
  if (typeof next_cursor !== "string") return path;
  parameters.set("cursor", next_cursor);
  return `/v1/logs?${parameters}`;
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
