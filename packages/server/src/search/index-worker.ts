/**
 * The thread that indexes.
 */
import { parentPort, workerData } from "node:worker_threads";
import { Indexer, type WriteAccess } from "./indexer.ts";

/** What it is told. */
export type IndexTask =
  | { readonly kind: "grew"; readonly logIds: readonly number[] }
  /** The database is elsewhere. */
  | { readonly kind: "access"; readonly access: WriteAccess }
  | { readonly kind: "stop" };

/** What it tells. */
export type IndexNews = { readonly kind: "failed"; readonly error: unknown } | { readonly kind: "recovered" };

let access = workerData as WriteAccess;
const tell = (news: IndexNews) => parentPort!.postMessage(news);
const indexer = new Indexer({
  access: () => access,
  onFailure: (error) => tell({ kind: "failed", error }),
  onRecovery: () => tell({ kind: "recovered" }),
});

parentPort!.on("message", (task: IndexTask) => {
  if (task.kind === "grew") for (const logId of task.logIds) indexer.grew(logId);
  else if (task.kind === "access") access = task.access;
  else void indexer.stop().then(() => parentPort!.close());
});
indexer.start();
