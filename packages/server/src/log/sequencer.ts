/**
 * Group commit: requests that arrive while a commit is under way share the next one, across tenants.
 */
import { setImmediate as turn } from "node:timers/promises";
import type { TreeEdge } from "@tallystick/core/edge";
import { CommitUnknownError, type Database } from "../db/database.ts";
import { isConnectionError } from "../db/unavailable.ts";
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
  /** Told of each commit before its requests are answered: the new edge of each log that grew. */
  readonly onCommit?: (commit: {
    readonly events: number;
    readonly edges: ReadonlyMap<number, TreeEdge>;
    readonly durationMs: number;
  }) => void;
}

/** How a batch is committed: with everyone else's, or beside them because its log's lock is not to be had. */
type Way = "common" | "lane";

// How long to wait for the lock of a log that someone else holds: shorter where others wait with it.
const LOCK_TIMEOUT_MS: { readonly [way in Way]: number } = { common: 1_000, lane: 5_000 };

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
  /** Logs whose lock was not to be had in the common commit: tried on lanes of their own until it is. */
  readonly #contended = new Set<number>();
  /** Commits of contended logs that are under way, beside the common one. */
  readonly #lanes = new Map<number, Promise<void>>();

  constructor(database: Database, options: SequencerOptions) {
    this.#database = database;
    this.#options = options;
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
      this.#wake();
    });
  }

  /** Refuses new requests and resolves when every accepted one has been answered. */
  async drain(): Promise<void> {
    this.#draining = true;
    while (this.#running !== undefined || this.#lanes.size > 0)
      await Promise.all([this.#running, ...this.#lanes.values()]);
  }

  #wake(): void {
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    try {
      while (this.#queue.length > 0) {
        await turn(); // lets the requests that are already on the wire join this commit
        if (this.#contended.size > 0) this.#openLanes();
        const batch = this.#take(this.#queue);
        if (batch.length === 0) break; // what is left waits for its lane, whose end wakes us
        await this.#commit(batch, "common");
      }
    } finally {
      this.#running = undefined; // in the same turn as the last look at the queue: nobody comes between
    }
  }

  /** Sends what waits for contended logs on lanes of their own, so that nobody else waits for their locks. */
  #openLanes(): void {
    const aside = this.#queue.filter(({ request }) => this.#contended.has(request.logId));
    for (const [logId, waiting] of Map.groupBy(aside, ({ request }) => request.logId)) {
      if (!this.#lanes.has(logId)) this.#openLane(logId, this.#take(waiting));
    }
  }

  #openLane(logId: number, batch: readonly Waiting[]): void {
    const before = this.#lanes.get(logId) ?? Promise.resolve(); // one at a time in a log, also here
    const lane = before
      .then(() => this.#commit(batch, "lane"))
      .finally(() => {
        if (this.#lanes.get(logId) === lane) this.#lanes.delete(logId);
        if (this.#queue.length > 0) this.#wake();
      });
    this.#lanes.set(logId, lane);
  }

  /** Takes a batch from the front of `waiting`: what is not on a lane, up to the size of a commit. */
  #take(waiting: readonly Waiting[]): Waiting[] {
    const batch: Waiting[] = [];
    let events = 0;
    for (const next of waiting) {
      if (waiting === this.#queue && this.#contended.has(next.request.logId)) continue;
      if (batch.length > 0 && events + next.request.events.length > this.#options.maxBatchEvents) break;
      batch.push(next);
      events += next.request.events.length;
    }
    const taken = new Set(batch);
    this.#queue = this.#queue.filter((next) => !taken.has(next));
    this.#queuedEvents -= events;
    this.#queuedBytes -= batch.reduce((sum, { bytes }) => sum + bytes, 0);
    return batch;
  }

  /** Commits a batch and answers its requests. If it fails it is tried log by log, then request by request: only what is at fault fails. */
  async #commit(batch: readonly Waiting[], way: Way): Promise<void> {
    const startedAt = performance.now();
    let commit: Commit;
    try {
      commit = await this.#commitOnce(
        batch.map(({ request }) => request),
        way,
      );
    } catch (error) {
      if (isLockTimeout(error) && way === "common") return this.#moveToLanes(batch);
      const parts = split(batch, error);
      if (parts.length > 1) {
        for (const part of parts) await this.#commit(part, way);
        return;
      }
      const refusal = refusalOf(error);
      for (const { resolve } of batch) resolve(refusal);
      this.#options.onError(error);
      return;
    }
    const events = batch.reduce((sum, { request }) => sum + request.events.length, 0);
    this.#options.onCommit?.({ events, edges: commit.edges, durationMs: performance.now() - startedAt });
    for (const [index, { resolve }] of batch.entries()) resolve(commit.outcomes[index]!);
    for (const { request } of batch) this.#contended.delete(request.logId);
  }

  /** One of these logs is held by someone who does not let go, and only a try of its own tells which. */
  #moveToLanes(batch: readonly Waiting[]): void {
    for (const [logId, part] of Map.groupBy(batch, ({ request }) => request.logId)) {
      this.#contended.add(logId);
      this.#openLane(logId, part);
    }
  }

  async #commitOnce(requests: readonly AppendRequest[], way: Way): Promise<Commit> {
    const attempt = () =>
      this.#database.write(
        (transaction) => commitBatch(transaction, requests, this.#edges, this.#options),
        LOCK_TIMEOUT_MS[way],
      );
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof UnsettledError) {
        this.#options.onError(error);
        return (await this.#settle(error)) ? error.commit : await attempt();
      }
      // A pooled connection had died: nothing was committed, and a new one may do. After a time-out it would wait as long again.
      if (isConnectionError(error) && !isTimeout(error)) return await attempt();
      throw error;
    }
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
        if (attempt === SETTLE_ATTEMPTS || isTimeout(cause)) throw outcomeUnknown(cause);
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
  // After a lock time-out the next request would wait as long again.
  const shared = error instanceof AppendError && error.code !== "refused";
  return isLockTimeout(error) || shared ? [batch.slice()] : batch.map((waiting) => [waiting]);
}

function isLockTimeout(error: unknown): boolean {
  return (error as { code?: unknown }).code === "55P03";
}

/** The database was reached and does not answer: it hangs, or is stopped. */
function isTimeout(error: unknown): boolean {
  return /timeout/i.test((error as { message?: string }).message ?? "") && !isLockTimeout(error);
}
