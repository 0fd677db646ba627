/**
 * Threads that look for batches in which nothing is wrong.
 */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { CleanBatch } from "./verify-clean.ts";
import type { Span } from "./verify-read.ts";
import type { WorkerTask } from "./verify-worker.ts";

const MAX_WORKERS = 4;
/** Batches that a thread has at a time: one is read while another is looked at. */
const BATCHES_EACH = 2;
// Rows live as long as their batch: with room for a batch, hardly any is copied by the garbage collector.
const YOUNG_GENERATION_MB = 64;
// Beside this file, in TypeScript or built.
const PROGRAM = new URL(import.meta.url.replace(/verify-workers(\.[jt]s)/, "verify-worker$1"));

export class VerifyWorkers {
  readonly #workers: Worker[];
  readonly #waiting = new Map<number, (clean: CleanBatch | undefined) => void>();
  #next = 0;
  #failed = false;

  constructor(task: WorkerTask) {
    this.#workers = Array.from({ length: Math.min(MAX_WORKERS, availableParallelism()) }, () => {
      const worker = new Worker(PROGRAM, {
        workerData: task,
        resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
      });
      worker.on("message", ({ from, clean }: { from: number; clean: CleanBatch | undefined }) =>
        this.#answer(from, clean),
      );
      // Out of memory, or it cannot be started: what it was asked is in doubt, and is read by who asked.
      worker.on("error", () => {
        this.#failed = true;
        for (const from of [...this.#waiting.keys()]) this.#answer(from, undefined);
      });
      return worker;
    });
  }

  /** How many batches to ask for at once. */
  get ahead(): number {
    return this.#workers.length * BATCHES_EACH;
  }

  /** Reads and checks a batch. Undefined where anything about it is in doubt. */
  check(span: Span): Promise<CleanBatch | undefined> {
    if (this.#failed) return Promise.resolve(undefined);
    const worker = this.#workers[this.#next++ % this.#workers.length]!;
    return new Promise((resolve) => {
      this.#waiting.set(span.from, resolve);
      worker.postMessage(span);
    });
  }

  /** Ends the threads, whatever they are doing. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #answer(from: number, clean: CleanBatch | undefined): void {
    this.#waiting.get(from)?.(clean);
    this.#waiting.delete(from);
  }
}
