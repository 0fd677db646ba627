/**
 * A thread that reads batches and says which of them are clean. Those that are not are read again by who asked.
 */
import { parentPort, workerData } from "node:worker_threads";
import type { LogIdentity } from "../log/identity.ts";
import { openAccess } from "./access.ts";
import { type CleanBatch, cleanBatch } from "./clean.ts";
import type { PublisherHistory } from "./publishers.ts";
import { readBatch } from "./read.ts";
import type { Span } from "./sql.ts";

/** What a thread is asked. */
export interface WorkerTask {
  /** Stands in the answer. */
  readonly number: number;
  /** What a transaction begins with. */
  readonly begin: string;
  readonly log: LogIdentity;
  /** Of the log. */
  readonly size: number;
  readonly span: Span;
  readonly publishers: PublisherHistory;
  readonly rolledUp: number;
}

export interface WorkerAnswer {
  readonly number: number;
  readonly clean: CleanBatch | undefined;
}

const { snapshot } = openAccess(workerData as string);

async function check({ begin, log, size, span, publishers, rolledUp }: WorkerTask): Promise<CleanBatch | undefined> {
  try {
    const options = { serviceId: undefined, withEntries: true, publishers, rolledUp };
    const batch = await snapshot(begin, (client) => readBatch(client, log, span, options));
    return cleanBatch(log, batch, size);
  } catch {
    return undefined; // whoever reads it again meets the same error, and can say what it means
  }
}

parentPort!.on("message", async (task: WorkerTask) => {
  const clean = await check(task);
  const answer: WorkerAnswer = { number: task.number, clean };
  parentPort!.postMessage(answer, clean === undefined ? [] : [clean.hashes.buffer as ArrayBuffer]);
});
