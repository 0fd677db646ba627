/**
 * A thread that reads batches and says which of them are clean. Those that are not are read again by who asked.
 */
import { parentPort, workerData } from "node:worker_threads";
import { openAccess, type ReadAccess } from "./verify-access.ts";
import { cleanBatch } from "./verify-clean.ts";
import type { LogIdentity } from "./verify-entry.ts";
import { readBatch, type Span } from "./verify-read.ts";

/** What a thread is started with. */
export interface WorkerTask {
  readonly access: ReadAccess;
  readonly log: LogIdentity;
  readonly size: number;
}

const { access, log, size } = workerData as WorkerTask;
const { snapshot } = openAccess(access);

async function check(span: Span) {
  try {
    const batch = await snapshot((client) => readBatch(client, log, span, { serviceId: undefined, withEntries: true }));
    return cleanBatch(log, batch, size);
  } catch {
    return undefined; // whoever reads it again meets the same error, and can say what it means
  }
}

parentPort!.on("message", async (span: Span) => {
  const clean = await check(span);
  parentPort!.postMessage({ from: span.from, clean }, clean === undefined ? [] : [clean.hashes.buffer as ArrayBuffer]);
});
