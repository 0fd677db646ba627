/**
 * 300 live subscribers, each with a filter that about 1 % of the entries match, while 2,000 events a second arrive: what each was
 * sent against what the log has for it, how long entries were on their way, and what writers notice.
 */
import { type Bench, onFreshServer, rate, type Subject } from "./bench.ts";
import { nextMessage, startProgram, stopProgram } from "./child.ts";
import { MEDIUM_ACTORS, mediumActor, UNCOMMON_ACTION } from "./events.ts";
import type { LoadReport } from "./load-program.ts";
import { compared, type Result } from "./result.ts";
import { median } from "./rounds.ts";
import type { StreamJob, StreamReport } from "./stream-program.ts";

const SUBSCRIBERS = 300;
const EVENTS_A_SECOND = 2_000;
const CONNECTIONS = 32;
const SECONDS = { quick: 5, full: 30 };
const DELAY_GOAL_MS = 250;
const INGEST_GOAL = 0.9;
/** Of 0.1 % of the events each. */
const ACTORS_OF_ONE = 10;
const REVISIONS = 300;

/** Two thirds ask for one of ten actors, which finds them in a table; the others' filters are compared with each entry. */
function queryOf(index: number): string {
  if (index % 3 < 2) {
    const actors = Array.from({ length: ACTORS_OF_ONE }, (_, n) => mediumActor((index * 7 + n * 31) % MEDIUM_ACTORS));
    return actors.map((actor) => `actor_id=${actor}`).join("&");
  }
  if (index % 6 === 2) return `action=${UNCOMMON_ACTION}`;
  const revisions = [0, 1, 2].map((n) => (index + n * 17) % REVISIONS);
  return `q=${encodeURIComponent(`metadata.revision:${revisions.join(",")}`)}`;
}

export async function stream(bench: Bench): Promise<Result[]> {
  const seconds = bench.quick ? SECONDS.quick : SECONDS.full;
  const settings = { STREAM_HEARTBEAT_MS: "1000" }; // by which the subscribers know that they have had everything
  return onFreshServer(
    bench,
    async (subject) => {
      const { server, record } = subject;
      const paced = () =>
        record({
          ...{ kind: "single", connections: CONNECTIONS, shape: {} },
          ...{ count: EVENTS_A_SECOND * seconds, perSecond: EVENTS_A_SECOND },
        });
      const flatOut = () => record({ kind: "single", connections: CONNECTIONS, count: 20_000, shape: {} });
      await flatOut();
      const alone = await paced();
      const aloneFlatOut = rate(await flatOut());
      const queries = Array.from({ length: SUBSCRIBERS }, (_, index) => queryOf(index));
      const program = startProgram("./stream-program.ts");
      try {
        const ask = async (job: StreamJob) => {
          const answer = nextMessage<{ report?: StreamReport; error?: string }>(program);
          program.send(job);
          const { report, error } = await answer;
          if (error !== undefined) throw new Error(error);
          return report!;
        };
        const from = await server.size();
        await ask({ kind: "open", url: server.url, headers: { ...server.headers }, queries });
        const beside = await paced();
        const until = await server.size();
        const report = await ask({ kind: "report", until });
        await compare(subject, queries, report, { from, until });
        const besideFlatOut = rate(await flatOut());
        return resultsOf(bench, { alone, beside, report, aloneFlatOut, besideFlatOut });
      } finally {
        await stopProgram(program);
      }
    },
    settings,
  );
}

function resultsOf(
  bench: Bench,
  {
    alone,
    beside,
    report: { delaysMs, lagging },
    aloneFlatOut,
    besideFlatOut,
  }: { alone: LoadReport; beside: LoadReport; report: StreamReport; aloneFlatOut: number; besideFlatOut: number },
): Result[] {
  delaysMs.sort((a, b) => a - b);
  const p99 = delaysMs[Math.floor(delaysMs.length * 0.99)]!;
  bench.say(
    `stream: ${delaysMs.length} entries delivered, none missing, none twice; median ${median(delaysMs).toFixed(0)} ms, greatest ${delaysMs.at(-1)!.toFixed(0)} ms; ${lagging} times lagging; writers' p99 ${beside.latencyP99Ms.toFixed(1)} ms beside them, ${alone.latencyP99Ms.toFixed(1)} ms alone; as fast as they can ${besideFlatOut.toFixed(0)}/s beside them, ${aloneFlatOut.toFixed(0)}/s alone`,
  );
  const what = `${SUBSCRIBERS} subscribers, ${EVENTS_A_SECOND} events/s`;
  return [
    {
      ...{ benchmark: "stream", what: `${what}: from the time an entry was recorded at to its arrival, p99` },
      ...{ value: p99, unit: "ms", goal: DELAY_GOAL_MS, goalIs: "greatest value" as const },
    },
    compared({
      ...{ benchmark: "stream", what: `${what}: events recorded`, value: rate(beside), unit: "events/s" },
      ...{ yardstick: rate(alone), against: "without subscribers", goal: INGEST_GOAL },
    }),
  ];
}

/** @throws {Error} where a subscriber was not sent what the log has for it: each entry once, in order. */
async function compare(
  { server }: Subject,
  queries: readonly string[],
  { received }: StreamReport,
  { from, until }: { from: number; until: number },
): Promise<void> {
  for (const [index, query] of queries.entries()) {
    const expected: number[] = [];
    for (let cursor = ""; ; ) {
      const answer = await fetch(`${server.url}/v1/logs?${query}&order=desc&limit=1000${cursor}`, {
        headers: server.headers,
      });
      if (!answer.ok) throw new Error(`a list was answered ${answer.status}: ${await answer.text()}`);
      const { data, next_cursor } = (await answer.json()) as { data: { seq: number }[]; next_cursor: string | null };
      expected.push(...data.map(({ seq }) => seq).filter((seq) => seq >= from && seq < until));
      if (next_cursor === null || data.at(-1)!.seq < from) break;
      cursor = `&cursor=${encodeURIComponent(next_cursor)}`;
    }
    const got = received[index]!.filter((seq) => seq < until);
    if (expected.length === 0 || expected.reverse().join() !== got.join()) {
      throw new Error(
        `subscriber ${index} (${query}) was sent ${got.length} entries, and the log has ${expected.length}`,
      );
    }
  }
}
