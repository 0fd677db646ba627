/**
 * Verifications by a server: one at a time, in threads that are kept for the next.
 */
import type { Database } from "../db/database.ts";
import type { TenantLog } from "../log/tenants.ts";
import { Turns } from "../turns.ts";
import { verifyLog } from "./log.ts";
import type { VerifyReport } from "./report.ts";
import { VerifyWorkers } from "./workers.ts";

// A batch that is not in PostgreSQL's cache comes from disk.
const BATCH_TIMEOUT_MS = 12_000;
// Threads that have run for a while are several times as fast as new ones; idle ones only take memory.
const THREADS_IDLE_MS = 60_000;

/** Thrown where a log has no entry of the service that was asked for: a typo must not read as a clean bill. */
export class UnknownServiceError extends Error {
  constructor(serviceId: string) {
    super(`The log has no entry of a service "${serviceId}".`);
    this.name = "UnknownServiceError";
  }
}

export interface VerifierOptions {
  readonly serviceId: string | undefined;
  /** Ends the verification, or keeps it from beginning; it then rejects with the signal's reason. */
  readonly signal: AbortSignal;
  /** Told when its turn has come. */
  readonly onStart?: (() => void) | undefined;
  readonly onProgress?: ((checked: number, size: number) => void) | undefined;
}

export class Verifier {
  readonly #database: Database;
  // Each takes what it can get of this machine's processors, and those who write need the rest.
  readonly #turns = new Turns();
  #threads: { readonly url: string; readonly workers: VerifyWorkers } | undefined;
  #idle: NodeJS.Timeout | undefined;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * Verifies a log, or one service's chain in it, when those before it have ended.
   * @throws {UnknownServiceError}; the signal's reason; what the driver throws where the database cannot be read.
   */
  async verify(log: TenantLog, { serviceId, signal, onStart, onProgress }: VerifierOptions): Promise<VerifyReport> {
    const report = await this.#turns.take(async () => {
      signal.throwIfAborted();
      onStart?.();
      clearTimeout(this.#idle);
      const { url, begin } = this.#database.readAccess(log.tenantId, BATCH_TIMEOUT_MS);
      if (this.#threads?.url !== url) await this.close(); // PostgreSQL came back on another port
      this.#threads ??= { url, workers: new VerifyWorkers(url) };
      const { workers } = this.#threads;
      const snapshot = <T>(work: Parameters<Database["read"]>[1]) =>
        this.#database.read(log.tenantId, work, BATCH_TIMEOUT_MS) as Promise<T>;
      try {
        return await verifyLog(snapshot, log, { serviceId, signal, onProgress, threads: { workers, begin } });
      } finally {
        this.#idle = setTimeout(() => this.close(), THREADS_IDLE_MS).unref();
      }
    });
    if (serviceId !== undefined && report.ok && report.checked === 0) throw new UnknownServiceError(serviceId);
    return report;
  }

  /** Ends the threads; the next verification starts new ones. */
  async close(): Promise<void> {
    clearTimeout(this.#idle);
    const closing = this.#threads?.workers.close();
    this.#threads = undefined;
    await closing;
  }
}
