/**
 * Indexing of all logs of a database, behind the commits: in a thread of the server, or in `tallystick worker`.
 */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { indexRun, reopenRun } from "./index-run.ts";
import type { SegmentLog } from "./segment-rows.ts";
import { SegmentTexts } from "./segment-text.ts";
import { SEGMENT_ENTRIES } from "./text-terms.ts";

/** How to come to the database as the writing role. */
export interface WriteAccess {
  readonly url: string;
  /** What begins each transaction. */
  readonly begin: string;
}

export interface IndexerOptions {
  /** Asked for before each new connection. */
  readonly access: () => WriteAccess;
  /** Told of the first of a row of failures, and of its end. */
  readonly onFailure: (error: unknown) => void;
  readonly onRecovery: () => void;
  /** Told after each transaction that has indexed entries. */
  readonly onIndexed?: ((logId: number, entries: number) => void) | undefined;
  /** Least time between two looks at all logs. */
  readonly sweepMs?: number | undefined;
}

/** Where nobody wakes it, it looks by itself: NOTIFY may not get through, as with PgBouncer. */
const SWEEP_MS = 1_000;
/** A look at all logs takes no more than this part of the time, however many there are. */
const SWEEP_SHARE = 20;
/** Entries come together meanwhile, which costs less than each commit by itself. */
const PAUSE_MS = 100;
const MAX_BACK_OFF_MS = 5_000;
const CONNECT_TIMEOUT_MS = 2_000;
/** Of logs whose values are remembered from one run to the next. */
const MAX_REMEMBERED_LOGS = 8;

interface Progress extends SegmentLog {
  readonly size: number;
  readonly segments: number;
  readonly due: boolean;
}

export class Indexer {
  readonly #options: IndexerOptions;
  readonly #woken = new Set<number>();
  readonly #texts = new Map<number, SegmentTexts>();
  readonly #stop = new AbortController();
  #client: pg.Client | undefined;
  /** Logs that failed: how often in a row, and when they get their next turn. */
  readonly #failed = new Map<number, { readonly times: number; readonly until: number }>();
  #broken = false;
  #failing = false;
  #nextSweep = 0;
  /** Whether something was indexed that the index on terms may not have merged. */
  #unsettled = false;
  #wake: (() => void) | undefined;
  #running: Promise<void> | undefined;

  constructor(options: IndexerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Told of a log that may have grown. Costs nothing. */
  grew(logId: number): void {
    this.#woken.add(logId);
    this.#wake?.();
  }

  /** Ends after the transaction that is under way. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#running;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stop.signal.aborted) {
      let more = false;
      try {
        more = await this.#turn();
        failures = 0;
        if (this.#failing && this.#failed.size === 0) {
          this.#options.onRecovery();
          this.#failing = false;
        }
      } catch (error) {
        failures++;
        // An hour without PostgreSQL is one line, not thousands.
        if (!this.#failing) this.#options.onFailure(error);
        this.#failing = true;
        this.#nextSweep = 0;
        await this.#disconnect();
      }
      if (failures > 0) await this.#sleep(Math.min(MAX_BACK_OFF_MS, 100 * 2 ** failures));
      else if (!more) await this.#idle();
    }
    await this.#disconnect();
  }

  /** Goes once through the logs that may have grown. Whether some of them have more. */
  async #turn(): Promise<boolean> {
    const client = await this.#connect();
    const { begin } = this.#options.access();
    const swept = performance.now() >= this.#nextSweep;
    const logs = await this.#logsToIndex(client);
    let more = false;
    let failed = false;
    for (const log of logs) {
      if (this.#stop.signal.aborted) return false;
      if (performance.now() < (this.#failed.get(log.logId)?.until ?? 0)) continue;
      try {
        const options = { begin, texts: this.#textsOf(log.logId) };
        const due = log.due && (await reopenRun(client, log, options)) > 0;
        const full = log.size >= (log.segments + 1) * SEGMENT_ENTRIES;
        const entries = full ? await indexRun(client, log, options) : 0;
        if (entries > 0) this.#options.onIndexed?.(log.logId, entries);
        this.#failed.delete(log.logId);
        if (due || entries > 0) {
          this.#unsettled = true;
          this.#woken.add(log.logId); // looked at again: there may be more
          more = true;
        }
      } catch (error) {
        if (this.#broken) throw error;
        // One log's trouble does not keep the others from being indexed, nor slows them.
        const times = (this.#failed.get(log.logId)?.times ?? 0) + 1;
        this.#failed.set(log.logId, { times, until: performance.now() + Math.min(MAX_BACK_OFF_MS, 100 * 2 ** times) });
        failed = true;
        if (!this.#failing) this.#options.onFailure(error);
        this.#failing = true;
      }
    }
    // What another worker has done meanwhile is not waited for.
    if (swept)
      for (const id of this.#failed.keys()) if (!logs.some(({ logId }) => logId === id)) this.#failed.delete(id);
    if (swept && !more) await this.#settle(client);
    if (failed) await this.#disconnect(); // whatever state it was left in
    return more;
  }

  /** Merges what searches would have to read, once nothing else is to be done. */
  async #settle(client: pg.Client): Promise<void> {
    if (!this.#unsettled) return;
    const { begin } = this.#options.access();
    await client.query(`${begin}; select tallystick.settle_text_index(); commit`);
    this.#unsettled = false;
  }

  async #logsToIndex(client: pg.Client): Promise<Progress[]> {
    const sweeps = performance.now() >= this.#nextSweep;
    const woken = [...this.#woken];
    this.#woken.clear();
    if (!sweeps && woken.length === 0) return [];
    const startedAt = performance.now();
    const { rows } = await client.query<Progress>(
      `select log_id as "logId", tenant_id as "tenantId", size::float8 as size, segments::float8 as segments, due
       from tallystick.index_progress($1) where due or size >= (segments + 1) * ${SEGMENT_ENTRIES} order by log_id`,
      [sweeps ? null : woken],
    );
    if (sweeps) {
      const took = performance.now() - startedAt;
      this.#nextSweep = performance.now() + Math.max(this.#options.sweepMs ?? SWEEP_MS, took * SWEEP_SHARE);
    }
    return rows;
  }

  #textsOf(logId: number): SegmentTexts {
    const texts = this.#texts.get(logId) ?? new SegmentTexts(logId);
    this.#texts.delete(logId);
    this.#texts.set(logId, texts); // the one that was used last stands last
    if (this.#texts.size > MAX_REMEMBERED_LOGS) this.#texts.delete(this.#texts.keys().next().value!);
    return texts;
  }

  async #connect(): Promise<pg.Client> {
    if (this.#client !== undefined && !this.#broken) return this.#client;
    await this.#disconnect();
    const { url } = this.#options.access();
    const client = new pg.Client({
      connectionString: url,
      application_name: "tallystick index",
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    });
    client.on("error", () => {
      this.#broken = true; // the statement that is under way reports it, or the next one
    });
    this.#broken = false;
    this.#client = client;
    await client.connect();
    return client;
  }

  async #disconnect(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    this.#texts.clear(); // a run that failed has left half a segment there
    await client?.end().catch(() => {});
  }

  /** Until somebody wakes it or all logs are to be looked at again, and no shorter than the pause. */
  async #idle(): Promise<void> {
    await this.#sleep(PAUSE_MS);
    if (this.#woken.size > 0 || this.#stop.signal.aborted) return;
    const timer = new AbortController();
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    await Promise.race([
      woken,
      delay(Math.max(0, this.#nextSweep - performance.now()), undefined, timer).catch(() => {}),
    ]);
    timer.abort();
    this.#wake = undefined;
  }

  async #sleep(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#stop.signal }).catch(() => {});
  }
}
