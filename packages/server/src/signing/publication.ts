/**
 * When checkpoints are published: every interval for each log that grew, so that whoever follows a log is never far behind.
 */
import type { Database } from "../db/database.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { Checkpoints } from "./checkpoints.ts";

export interface PublicationOptions {
  readonly database: Database;
  readonly checkpoints: Checkpoints;
  readonly intervalMs: number;
  /** Told of the first of a row of failures, and of its end. */
  readonly onFailure: (error: unknown) => void;
  readonly onRecovery: () => void;
}

// Logs at a time: each waits for the database and the sign-lock in turn, and there are others who need them.
const CONCURRENCY = 2;
// Logs that a server left behind which died before it published: seldom, and any other may take them.
const SWEEP_MS = 60_000;

export class Publication {
  readonly #options: PublicationOptions;
  readonly #grown = new Set<number>();
  readonly #identities = new Map<number, LogIdentity>();
  #timer: NodeJS.Timeout | undefined;
  #sweptAt = Number.NEGATIVE_INFINITY;
  #running: Promise<void> = Promise.resolve();
  #stopped = false;
  #failure: unknown;

  constructor(options: PublicationOptions) {
    this.#options = options;
  }

  /** Why nothing, or not everything, could be published when it was last tried; undefined where all was. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Publishes what is unpublished, then goes on every interval. */
  start(): void {
    this.#schedule(0);
  }

  /** Told of a log that grew. Costs nothing. */
  grew(logId: number): void {
    this.#grown.add(logId);
  }

  /** Publishes what has grown until now, and stops. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
    await this.#turn();
  }

  #schedule(delayMs: number): void {
    this.#timer = setTimeout(() => {
      this.#running = this.#turn().finally(() => {
        if (!this.#stopped) this.#schedule(this.#options.intervalMs);
      });
    }, delayMs).unref();
  }

  async #turn(): Promise<void> {
    const grown = [...this.#grown];
    this.#grown.clear();
    let failure: unknown;
    try {
      const logs = await this.#identify(grown);
      for (const log of await this.#refused()) logs.add(log); // the right database may be back
      if (!this.#stopped && performance.now() - this.#sweptAt >= SWEEP_MS) {
        for (const log of await this.#unpublished()) logs.add(log);
        this.#sweptAt = performance.now();
      }
      const queue = [...logs];
      const failures = await Promise.all(Array.from({ length: CONCURRENCY }, () => this.#publishAll(queue)));
      failure = failures.find((one) => one !== undefined);
    } catch (error) {
      for (const logId of grown) this.#grown.add(logId);
      failure = error;
    }
    // Not before the turn is over: one that fails takes seconds, and nothing is known to be better meanwhile.
    const before = this.#failure;
    this.#failure = failure;
    // An hour without PostgreSQL is one line, not thousands.
    if (before === undefined && failure !== undefined) this.#options.onFailure(failure);
    if (before !== undefined && failure === undefined) this.#options.onRecovery();
  }

  /** @returns the first error. */
  async #publishAll(queue: LogIdentity[]): Promise<unknown> {
    let failure: unknown;
    for (let log = queue.pop(); log !== undefined; log = queue.pop()) {
      try {
        await this.#options.checkpoints.publish(log);
      } catch (error) {
        // A refusal has been told once, and stays until the log is right again or has a successor.
        if (this.#options.checkpoints.refusalOf(log.logId) !== undefined) continue;
        this.#grown.add(log.logId);
        failure ??= error;
      }
    }
    return failure;
  }

  async #identify(logIds: readonly number[]): Promise<Set<LogIdentity>> {
    const unknown = logIds.filter((logId) => !this.#identities.has(logId));
    if (unknown.length > 0) {
      const rows = await this.#options.database.query<LogIdentity & Record<string, unknown>>(
        `select id as "logId", tenant_id as "tenantId", name from tallystick.logs where id = any ($1)`,
        [unknown],
      );
      for (const row of rows) this.#identities.set(row.logId, row);
    }
    return new Set(logIds.flatMap((logId) => this.#identities.get(logId) ?? []));
  }

  /** The logs that are refused, but for those that have been given a successor, by this server or another. */
  async #refused(): Promise<Set<LogIdentity>> {
    const { checkpoints, database } = this.#options;
    if (checkpoints.refusals.length === 0) return new Set();
    const logIds = checkpoints.refusals.map(({ logId }) => logId);
    const closed = await database.query<{ logId: number }>(
      `select predecessor_id as "logId" from tallystick.logs where predecessor_id = any ($1)`,
      [logIds],
    );
    for (const { logId } of closed) checkpoints.close(logId);
    return this.#identify(checkpoints.refusals.map(({ logId }) => logId));
  }

  async #unpublished(): Promise<LogIdentity[]> {
    const rows = await this.#options.database.query<LogIdentity & Record<string, unknown>>(
      `select log_id as "logId", tenant_id as "tenantId", name from tallystick.unpublished_logs()`,
    );
    for (const row of rows) this.#identities.set(row.logId, this.#identities.get(row.logId) ?? row);
    return rows.map(({ logId }) => this.#identities.get(logId)!);
  }
}
