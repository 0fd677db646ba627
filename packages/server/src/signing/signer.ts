/**
 * Signing checkpoints, in a thread of its own (sign-worker.ts).
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { LogKey } from "./log-key.ts";
import type { SignedHead, SignedLog } from "./sign-lock.ts";
import type { SignAnswer, SignTask, SignWorkerData } from "./sign-worker.ts";

// Beside this file, in TypeScript or built.
const PROGRAM = new URL(import.meta.url.replace(/signer(\.[jt]s)/, "sign-worker$1"));

type Question<Task = SignTask> = Task extends unknown ? Omit<Task, "number"> : never;

/** The thread has ended, or the sign-lock cannot be written: nothing is signed. */
export class SignerError extends Error {
  constructor(path: string, cause: unknown) {
    super(`the sign-lock ${path} cannot be used (${(cause as Error).message}): nothing is signed until it can`, {
      cause,
    });
    this.name = "SignerError";
  }
}

export class Signer {
  readonly #worker: Worker;
  readonly #path: string;
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: unknown) => void }>();
  #asked = 0;
  #ended: unknown;

  private constructor(worker: Worker, path: string) {
    this.#worker = worker;
    this.#path = path;
    worker.on("message", ({ number, result, error }: SignAnswer) => {
      const waiting = this.#waiting.get(number);
      this.#waiting.delete(number);
      if (error === undefined) waiting?.resolve(result as never);
      else waiting?.reject(new SignerError(path, error));
    });
    worker.on("error", (error) => this.#end(error));
    worker.on("exit", () => this.#end(new Error("its thread has ended")));
    worker.unref();
  }

  /**
   * Opens the sign-lock at `path` and makes it where it is missing.
   * @throws {SignerError} where it cannot be opened.
   */
  static async open(path: string, key: LogKey): Promise<Signer> {
    const worker = new Worker(PROGRAM, { workerData: { path, seed: key.seed } satisfies SignWorkerData });
    try {
      await once(worker, "message"); // rejects where the thread fails before
    } catch (cause) {
      throw new SignerError(path, cause);
    }
    return new Signer(worker, path);
  }

  /** What was signed last, of every log. */
  all(): Promise<SignedLog[]> {
    return this.#ask({ kind: "all" });
  }

  /** What was signed last of a log, by whichever server shares the lock. */
  last(log: string): Promise<SignedLog | undefined> {
    return this.#ask({ kind: "last", log });
  }

  /**
   * Signs a head that the caller has shown to extend `seen`; the note, once the lock has it durably. Without a note somebody has
   * signed since, and `last` is what.
   *
   * @throws {SignerError}
   */
  sign(
    log: string,
    head: SignedHead,
    seen: SignedHead | undefined,
  ): Promise<{ note: string } | { note?: undefined; last: SignedHead | undefined }> {
    return this.#ask({ kind: "sign", log, head, seen });
  }

  /** Puts what was signed before, by this key, into the lock; false where the lock knows as much of the log, or more. */
  adopt(signed: SignedLog): Promise<boolean> {
    return this.#ask({ kind: "adopt", signed });
  }

  async close(): Promise<void> {
    if (this.#ended !== undefined) return;
    const ended = once(this.#worker, "exit");
    this.#worker.postMessage("close");
    await ended;
  }

  #ask<T>(question: Question): Promise<T> {
    if (this.#ended !== undefined) return Promise.reject(new SignerError(this.#path, this.#ended));
    const number = ++this.#asked;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#worker.postMessage({ ...question, number });
    });
  }

  #end(cause: unknown): void {
    this.#ended ??= cause;
    for (const { reject } of this.#waiting.values()) reject(new SignerError(this.#path, cause));
    this.#waiting.clear();
  }
}
