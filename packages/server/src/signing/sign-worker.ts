/**
 * The thread that signs. It holds the log key and the sign-lock, so that a slow disk holds up receipts and nothing else.
 */
import { parentPort, workerData } from "node:worker_threads";
import { signCheckpoint } from "@tallystick/core/checkpoint";
import { noteSigner } from "@tallystick/core/verifier-key";
import { type SignedHead, type SignedLog, SignLock } from "./sign-lock.ts";

/** What the thread starts with. */
export interface SignWorkerData {
  readonly path: string;
  readonly seed: Uint8Array;
}

/** What it is asked. */
export type SignTask =
  | { readonly number: number; readonly kind: "all" }
  | { readonly number: number; readonly kind: "last"; readonly log: string }
  | { readonly number: number; readonly kind: "adopt"; readonly signed: SignedLog }
  | {
      readonly number: number;
      readonly kind: "sign";
      readonly log: string;
      readonly head: SignedHead;
      /** What the asker has shown the head to extend. */
      readonly seen: SignedHead | undefined;
    };

export interface SignAnswer {
  readonly number: number;
  readonly result?: unknown;
  readonly error?: unknown;
}

const { path, seed } = workerData as SignWorkerData;
const lock = new SignLock(path);

function answerTo(task: SignTask): unknown {
  if (task.kind === "all") return lock.all();
  if (task.kind === "last") return lock.last(task.log);
  if (task.kind === "adopt") return lock.adopt(task.signed).done;
  const { log, head, seen } = task;
  const note = signCheckpoint({ origin: log, ...head }, [noteSigner(log, seed)]);
  // The signature exists in this thread only until the lock has the head: a crash before leaves nothing that anyone has seen.
  const advance = lock.advance({ log, ...head, note }, seen);
  return advance.done ? { note } : { last: advance.last };
}

parentPort!.on("message", (task: SignTask | "close") => {
  if (task === "close") {
    lock.close();
    parentPort!.close();
    return;
  }
  const { number } = task;
  try {
    parentPort!.postMessage({ number, result: answerTo(task) } satisfies SignAnswer);
  } catch (error) {
    parentPort!.postMessage({ number, error } satisfies SignAnswer);
  }
});
parentPort!.postMessage({ number: 0 } satisfies SignAnswer); // the lock is open
