/**
 * Threads that look for batches in which nothing is wrong.
 */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { CleanBatch } from "./clean.ts";
import type { WorkerAnswer, WorkerTask } from "./worker.ts";

const MAX_WORKERS = 4;
/** Batches that a thread has at a time: one is read while another is looked at. */
const BATCHES_EACH = 2;
// Rows live as long as their batch: with room for a batch, hardly any is copied by the garbage collector.
const YOUNG_GENERATION_MB = 64;
// Beside this file, in TypeScript or built.
const PROGRAM = new URL(import.meta.url.replace(/workers(\.[jt]s)/, "worker$1"));

/** Threads with connections of their own. They are started when they are first needed, and may serve any number of logs. */
export class VerifyWorkers {
  readonly #url: string;
  #workers: Worker[] | undefined;
  readonly #waiting = new Map<number, (clean: CleanBatch | undefined) => void>();
  #asked = 0;
  #failed = false;

  constructor(url: string) {
    this.#url = url;
  }

  /** How many batches to ask for at once. */
  get ahead(): number {
    return workerCount() * BATCHES_EACH;
  }

  /** Reads and checks a batch. Undefined where anything about it is in doubt: to be read again, and looked at closely. */
  check(task: Omit<WorkerTask, "number">): Promise<CleanBatch | undefined> {
    if (this.#failed) return Promise.resolve(undefined);
    this.#workers ??= Array.from({ length: workerCount() }, () => this.#start());
    const number = this.#asked++;
    const worker = this.#workers[number % this.#workers.length]!;
    return new Promise((resolve) => {
      this.#waiting.set(number, resolve);
      for (const each of this.#workers!) each.ref();
      worker.postMessage({ ...task, number } satisfies WorkerTask);
    });
  }

  /** Ends the threads, whatever they are doing; what they were asked stays in doubt. */
  async close(): Promise<void> {
    const workers = this.#workers ?? [];
    this.#workers = undefined;
    await Promise.all(workers.map((worker) => worker.terminate()));
    this.#giveUp();
  }

  #start(): Worker {
    const worker = new Worker(PROGRAM, {
      workerData: this.#url,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    worker.on("message", ({ number, clean }: WorkerAnswer) => this.#answer(number, clean));
    // Out of memory, or it cannot be started.
    worker.on("error", () => {
      this.#failed = true;
      this.#giveUp();
    });
    worker.unref();
    return worker;
  }

  #giveUp(): void {
    for (const number of [...this.#waiting.keys()]) this.#answer(number, undefined);
  }

  #answer(number: number, clean: CleanBatch | undefined): void {
    this.#waiting.get(number)?.(clean);
    this.#waiting.delete(number);
    // Idle threads keep no process from ending.
    if (this.#waiting.size === 0) for (const worker of this.#workers ?? []) worker.unref();
  }
}

function workerCount(): number {
  return Math.min(MAX_WORKERS, availableParallelism());
}
