/**
 * The batches of a log one after another, by this thread or by several.
 */
import type { LogIdentity } from "../log/identity.ts";
import type { CleanBatch } from "./clean.ts";
import type { PublisherHistory } from "./publishers.ts";
import { type Batch, readBatch } from "./read.ts";
import type { Snapshot, Span } from "./sql.ts";
import type { VerifyWorkers } from "./workers.ts";

/** What is read, and how. */
export interface BatchSource {
  readonly snapshot: Snapshot;
  readonly log: LogIdentity;
  readonly spans: readonly Span[];
  readonly batchSize: number;
  readonly serviceId: string | undefined;
  readonly publishers: PublisherHistory;
  /** How far the log is counted in roll-ups. */
  readonly rolledUp: number;
}

/** Threads, and what each of their transactions begins with: the same as that of the snapshots. */
export interface Threads {
  readonly workers: VerifyWorkers;
  readonly begin: string;
}

/** Each batch is read while the one before it is looked at. */
export async function* readAhead(source: BatchSource): AsyncGenerator<Batch> {
  let ahead: Promise<Batch[]> | undefined;
  try {
    for (const span of batchSpans(source)) {
      const current = ahead;
      ahead = read(source, span);
      ahead.catch(() => {}); // met when it is awaited
      if (current !== undefined) yield* await current;
    }
    if (ahead !== undefined) yield* await ahead;
  } finally {
    await ahead?.catch(() => {});
  }
}

/** Threads find the clean batches, of which `place` has to see only that they fit; all others are read here. */
export async function* inThreads(
  source: BatchSource,
  { workers, begin }: Threads,
  size: number,
  place: (clean: CleanBatch) => boolean,
): AsyncGenerator<Batch | CleanBatch> {
  const { log, publishers, rolledUp } = source;
  const asked: { span: Span; clean: Promise<CleanBatch | undefined> }[] = [];
  const next = async () => {
    const { span, clean } = asked.shift()!;
    const batch = await clean;
    return batch !== undefined && place(batch) ? [batch] : read(source, span);
  };
  for (const span of batchSpans(source)) {
    asked.push({ span, clean: workers.check({ begin, log: log, size: size, span, publishers, rolledUp }) });
    if (asked.length > workers.ahead) yield* await next();
  }
  while (asked.length > 0) yield* await next();
}

function* batchSpans({ spans, batchSize }: BatchSource): Generator<Span> {
  for (const { from, to, since, until } of spans) {
    for (let start = from; start < to; ) {
      const end = Math.min(to, (Math.floor(start / batchSize) + 1) * batchSize);
      yield { from: start, to: end, since, until };
      start = end;
    }
  }
}

/** Reads a batch. Where a row cannot be read it is found by halving, and everything else is read around it. */
async function read(source: BatchSource, span: Span): Promise<Batch[]> {
  const { snapshot, log, serviceId, publishers, rolledUp } = source;
  const readIt = (withEntries: boolean) =>
    snapshot((client) => readBatch(client, log, span, { serviceId, withEntries, publishers, rolledUp }));
  try {
    return [await readIt(true)];
  } catch (error) {
    if (!isUnreadable(error)) throw error;
    const { from, to } = span;
    if (to - from === 1) {
      const batch = await readIt(false);
      const reason = error instanceof Error ? error.message : String(error);
      batch.problems.add({
        seq: from,
        id: null,
        kind: "unreadable",
        detail: `PostgreSQL cannot read the entry at position ${from}: ${reason}`,
      });
      return [batch];
    }
    const middle = Math.floor((from + to) / 2);
    return [...(await read(source, { ...span, to: middle })), ...(await read(source, { ...span, from: middle }))];
  }
}

/** Whether an error is about the rows, as against the connection, a timeout or a right. */
export function isUnreadable(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  if (typeof code !== "string") return error instanceof RangeError || error instanceof TypeError;
  return /^(XX|22|54|58)...$/.test(code);
}
