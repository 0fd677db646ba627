/**
 * Group commit: requests that arrive while a commit is under way share the next one, across tenants.
 */
import { setImmediate as turn } from "node:timers/promises";
import { CommitUnknownError, type Database } from "../db/database.ts";
import {
  type AppendLimits,
  type AppendOutcome,
  type AppendRequest,
  type Commit,
  commitBatch,
  isCommitted,
  UnsettledError,
} from "./append.ts";
import { Edges } from "./edges.ts";
import { AppendError } from "./errors.ts";

export interface SequencerOptions extends AppendLimits {
  /** Most events in one commit; a single request may exceed it. */
  readonly maxBatchEvents: number;
  /** Most events and leaf bytes that wait; beyond it requests are refused. */
  readonly maxQueuedEvents: number;
  readonly maxQueuedBytes: number;
  /** Waits between attempts to settle an unknown COMMIT. */
  readonly pause: (attempt: number) => Promise<void>;
  /** Told of each failure to commit, with its cause. */
  readonly onError: (error: unknown) => void;
  /** Told of each commit. */
  readonly onCommit?: (commit: { readonly events: number; readonly logs: number; readonly durationMs: number }) => void;
}

interface Waiting {
  readonly request: AppendRequest;
  readonly bytes: number;
  readonly resolve: (outcome: AppendOutcome) => void;
}

// A settlement that takes longer is given up: the client is told to retry with its key, which is always safe.
const SETTLE_ATTEMPTS = 5;

export class Sequencer {
  readonly #database: Database;
  readonly #options: SequencerOptions;
  readonly #edges = new Edges();
  #queue: Waiting[] = [];
  #queuedEvents = 0;
  #queuedBytes = 0;
  #running: Promise<void> | undefined;
  #draining = false;

  constructor(database: Database, options: SequencerOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** Events that wait for a commit. */
  get queuedEvents(): number {
    return this.#queuedEvents;
  }

  /**
   * Records the events of a request; resolves once they are durable. An outcome for each event, or the error that refused all.
   * Never rejects. Errors: see {@link AppendError}.
   */
  append(request: AppendRequest): Promise<AppendOutcome> {
    const bytes = request.events.reduce((sum, event) => sum + event.leafBytes, 0);
    if (this.#draining)
      return Promise.resolve(new AppendError("unavailable", "the server is shutting down: try another or try again"));
    if (
      this.#queue.length > 0 &&
      (this.#queuedEvents + request.events.length > this.#options.maxQueuedEvents ||
        this.#queuedBytes + bytes > this.#options.maxQueuedBytes)
    ) {
      return Promise.resolve(
        new AppendError("overloaded", "more events are waiting than the server holds: try again later"),
      );
    }
    return new Promise((resolve) => {
      this.#queue.push({ request, bytes, resolve });
      this.#queuedEvents += request.events.length;
      this.#queuedBytes += bytes;
      this.#running ??= this.#run();
    });
  }

  /** Refuses new requests and resolves when every accepted one has been answered. */
  async drain(): Promise<void> {
    this.#draining = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      await turn(); // lets the requests that are already on the wire join this commit
      const batch = this.#take();
      await this.#commit(batch);
    }
    this.#running = undefined;
  }

  #take(): Waiting[] {
    let events = 0;
    let count = 0;
    for (const { request } of this.#queue) {
      if (count > 0 && events + request.events.length > this.#options.maxBatchEvents) break;
      events += request.events.length;
      count++;
    }
    const batch = this.#queue.splice(0, count);
    this.#queuedEvents -= events;
    this.#queuedBytes -= batch.reduce((sum, { bytes }) => sum + bytes, 0);
    return batch;
  }

  /** Commits a batch and answers its requests. If it fails it is tried log by log, then request by request: only what is at fault fails. */
  async #commit(batch: readonly Waiting[]): Promise<void> {
    try {
      const commit = await this.#commitOnce(batch.map(({ request }) => request));
      for (const [index, { resolve }] of batch.entries()) resolve(commit.outcomes[index]!);
    } catch (error) {
      const parts = split(batch, error);
      if (parts.length > 1) {
        for (const part of parts) await this.#commit(part);
        return;
      }
      this.#options.onError(error);
      const refusal = refusalOf(error);
      for (const { resolve } of batch) resolve(refusal);
    }
  }

  async #commitOnce(requests: readonly AppendRequest[]): Promise<Commit> {
    const startedAt = performance.now();
    const attempt = () =>
      this.#database.write((transaction) => commitBatch(transaction, requests, this.#edges, this.#options));
    let commit: Commit;
    try {
      commit = await attempt();
    } catch (error) {
      if (error instanceof UnsettledError) {
        this.#options.onError(error);
        commit = (await this.#settle(error)) ? error.commit : await attempt();
      } else if (isConnectionError(error)) {
        commit = await attempt(); // a pooled connection had died: nothing was committed, and a new one may do
      } else {
        throw error;
      }
    }
    const events = requests.reduce((sum, { events }) => sum + events.length, 0);
    this.#options.onCommit?.({ events, logs: commit.edges.size, durationMs: performance.now() - startedAt });
    return commit;
  }

  /** Looks up whether a commit is in the database. Nothing is appended by this server meanwhile. */
  async #settle(unsettled: UnsettledError): Promise<boolean> {
    // With a warning the commit is here, but the standby that was asked for may not have it: that is no acknowledgement.
    if (unsettled.cause instanceof CommitUnknownError && unsettled.cause.cause === undefined)
      throw outcomeUnknown(unsettled);
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#database.write((transaction) => isCommitted(transaction, unsettled.commit));
      } catch (cause) {
        if (attempt === SETTLE_ATTEMPTS) throw outcomeUnknown(cause);
        await this.#options.pause(attempt);
      }
    }
  }
}

function outcomeUnknown(cause: unknown): AppendError {
  return new AppendError(
    "outcome_unknown",
    "outcome unknown, retry with the same key: the database did not answer COMMIT, and cannot be asked now",
    { cause },
  );
}

function refusalOf(error: unknown): AppendError {
  if (error instanceof AppendError) return error;
  if (error instanceof UnsettledError) return outcomeUnknown(error);
  return new AppendError("unavailable", "the database cannot be written to now: nothing was recorded, try again", {
    cause: error,
  });
}

/** The parts to try on their own after a failure: one, where the database is away or may have committed. */
function split(batch: readonly Waiting[], error: unknown): Waiting[][] {
  const mayBeRecorded =
    error instanceof UnsettledError || (error instanceof AppendError && error.code === "outcome_unknown");
  if (mayBeRecorded || isConnectionError(error)) return [batch.slice()];
  const byLog = Map.groupBy(batch, ({ request }) => request.logId);
  if (byLog.size > 1) return [...byLog.values()];
  const lockTimeout = (error as { code?: unknown }).code === "55P03"; // the next request would wait as long again
  return lockTimeout || error instanceof AppendError ? [batch.slice()] : batch.map((waiting) => [waiting]);
}

const CONNECTION_ERRORS = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ENOENT",
  "ETIMEDOUT",
  "57P01",
  "57P02",
  "57P03",
  "08000",
  "08003",
  "08006",
]);

/** Whether the database could not be reached, or went away, as against refusing a statement. */
export function isConnectionError(error: unknown): boolean {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return (
    (typeof code === "string" && CONNECTION_ERRORS.has(code)) ||
    (typeof message === "string" &&
      /connection (terminated|timeout|error)|timeout exceeded when trying to connect|query read timeout|not queryable|Connection ended/i.test(
        message,
      ))
  );
}
