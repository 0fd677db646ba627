/**
 * Indexing in a thread of the server, so that no request waits for it (index-worker.ts).
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { IndexNews, IndexTask } from "./index-worker.ts";
import type { WriteAccess } from "./indexer.ts";

// Beside this file, in TypeScript or built.
const PROGRAM = new URL(import.meta.url.replace(/index-thread(\.[jt]s)/, "index-worker$1"));
/** Commits that come meanwhile wake the thread once. */
const TELL_MS = 50;
/** A thread that has ended is started again after this time. */
const RESTART_MS = 5_000;
// Leaves live as long as their segment: with room for them, hardly any is copied by the garbage collector.
const YOUNG_GENERATION_MB = 32;

export interface IndexThreadOptions {
  /** Asked for at the start, and whenever the database may have moved. */
  readonly access: () => WriteAccess;
  /** Told of the first of a row of failures, and of its end. */
  readonly onFailure: (error: unknown) => void;
  readonly onRecovery: () => void;
}

export class IndexThread {
  readonly #options: IndexThreadOptions;
  readonly #grown = new Set<number>();
  #worker: Worker | undefined;
  #timer: NodeJS.Timeout | undefined;
  #restart: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: IndexThreadOptions) {
    this.#options = options;
  }

  start(): void {
    const worker = new Worker(PROGRAM, {
      workerData: this.#options.access(),
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    worker.on("message", (news: IndexNews) => {
      if (news.kind === "recovered") return this.#options.onRecovery();
      this.#options.onFailure(news.error);
      this.#tell({ kind: "access", access: this.#options.access() });
    });
    worker.on("error", (error) => this.#options.onFailure(error));
    worker.on("exit", () => {
      this.#worker = undefined;
      if (!this.#stopped) this.#restart = setTimeout(() => this.start(), RESTART_MS).unref();
    });
    worker.unref();
    this.#worker = worker;
  }

  /** Told of a log that grew. Costs nothing. */
  grew(logId: number): void {
    this.#grown.add(logId);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#tell({ kind: "grew", logIds: [...this.#grown] });
      this.#grown.clear();
    }, TELL_MS).unref();
  }

  /** Ends after the transaction that is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#restart);
    if (this.#worker === undefined) return;
    const ended = once(this.#worker, "exit");
    this.#tell({ kind: "stop" });
    await ended;
  }

  #tell(task: IndexTask): void {
    this.#worker?.postMessage(task);
  }
}
