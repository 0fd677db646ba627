/**
 * Connections and transactions. No state outlives a transaction, so that PgBouncer in transaction mode fits between.
 */
import pg from "pg";
import { openPool } from "./pool.ts";

/** Thrown when COMMIT may or may not have happened: no answer, or one with a warning (a cancelled wait for a standby). */
export class CommitUnknownError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "CommitUnknownError";
  }
}

export interface DatabaseOptions {
  /** The writing role's URL, or a privileged one. */
  readonly url: string;
  /** The reading role's URL; without it reads use `url`. */
  readonly readerUrl?: string;
  readonly poolSize: number;
  /** Told of errors on idle connections; each is replaced when it is next needed. */
  readonly onIdleError: (error: Error) => void;
  /** Told each time that no connection could be had, whoever asked for one. */
  readonly onConnectError?: (error: unknown) => void;
}

const CONNECT_TIMEOUT_MS = 2_000;
const LOCK_TIMEOUT_MS = 5_000;
const READ_TIMEOUT_MS = 5_000;
// A server that is frozen between two statements would keep the locks of its logs until it thaws: PostgreSQL ends it.
const FROZEN_TIMEOUT_MS = 10_000;
// Longer than any statement of ours may take: an answer that never comes must not hold a log's queue for ever.
const ANSWER_TIMEOUT_MS = 15_000;

// A new connection plans every statement anew, which costs its first search some 10 ms.
const IDLE_TIMEOUT_MS = 300_000;

// What requests wait for before anyone knows who sends them must not wait behind commits, nor commits behind it.
const CONTROL_POOL_SIZE = 3;
// What reads entries that were recorded a moment ago, to prove them: a standby may not have them yet.
const LATEST_POOL_SIZE = 3;

/** The server's connections: a pool that writes entries, one that reads them, and a small one for everything else. */
export class Database {
  readonly #writers: pg.Pool;
  readonly #readers: pg.Pool;
  readonly #control: pg.Pool;
  readonly #latest: pg.Pool;
  #url: string;
  #readerUrl: string;
  readonly #onConnectError: (error: unknown) => void;
  /** Set where the server was given a role with more rights than it needs; each transaction then drops them. */
  #dropRights = { writer: false, reader: false };

  constructor(options: DatabaseOptions) {
    const pool = (connectionString: string, name: string, max = options.poolSize) =>
      openPool(
        {
          connectionString,
          max,
          connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
          query_timeout: ANSWER_TIMEOUT_MS,
          idleTimeoutMillis: IDLE_TIMEOUT_MS,
          application_name: `tallystick ${name}`,
          pipeline: true, // statements of a transaction are sent without waiting for each other's answers
        },
        options.onIdleError,
      );
    this.#writers = pool(options.url, "writer");
    this.#onConnectError = options.onConnectError ?? (() => {});
    this.#url = options.url;
    this.#readerUrl = options.readerUrl ?? options.url;
    this.#readers = pool(this.#readerUrl, "reader");
    this.#control = pool(options.url, "control", CONTROL_POOL_SIZE);
    this.#latest = pool(options.url, "prover", LATEST_POOL_SIZE);
  }

  /** The database is elsewhere from now on: new connections go there. Those that are open end by themselves. */
  moveTo(url: string, readerUrl: string): void {
    this.#url = url;
    this.#readerUrl = readerUrl;
    this.#readers.options.connectionString = readerUrl;
    for (const pool of [this.#writers, this.#control, this.#latest]) pool.options.connectionString = url;
  }

  /** Where the writer connects now: for a connection of one's own that listens. */
  get url(): string {
    return this.#url;
  }

  /**
   * Looks at the roles that the URLs log in as. To be called once before use.
   * @returns the promises that are not met because of them, in words for an operator; empty when all is well.
   */
  async checkRoles(): Promise<string[]> {
    const unmet: string[] = [];
    for (const [kind, pool] of [
      ["writer", this.#writers],
      ["reader", this.#readers],
    ] as const) {
      const { rows } = await pool.query<{ name: string }>("select current_user as name");
      const name = rows[0]!.name;
      const least = name === "tallystick_writer" || name === `tallystick_${kind}`;
      this.#dropRights[kind] = !least;
      if (!least) {
        unmet.push(
          `the server's ${kind} logs in as "${name}", not as tallystick_${kind}: code that is compromised could RESET ROLE and use that role's rights`,
        );
      }
    }
    return unmet;
  }

  /** Runs `work` in a writing transaction; `work` ends it by `commit`, everything else rolls it back. */
  async write<T>(work: (transaction: Transaction) => Promise<T>, lockTimeoutMs = LOCK_TIMEOUT_MS): Promise<T> {
    return this.#writeBy(this.#writers, work, lockTimeoutMs);
  }

  /** The same for what is no entry: keys, tenants, the state of things. Commits do not wait for it, nor it for them. */
  async control<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    return this.#writeBy(this.#control, work, LOCK_TIMEOUT_MS);
  }

  async #writeBy<T>(pool: pg.Pool, work: (transaction: Transaction) => Promise<T>, lockTimeoutMs: number): Promise<T> {
    return this.#inTransaction(pool, this.#beginWriting(lockTimeoutMs), work);
  }

  #beginWriting(lockTimeoutMs: number): string {
    const role = this.#dropRights.writer ? "set local role tallystick_writer;" : "";
    return `begin isolation level read committed; ${role} set local lock_timeout = ${lockTimeoutMs};
       set local idle_in_transaction_session_timeout = ${FROZEN_TIMEOUT_MS}`;
  }

  /**
   * Runs `work` in a read-only transaction that sees one tenant's rows.
   * A statement that takes longer than 5 s fails with PostgreSQL's 57014 (query_canceled).
   */
  async read<T>(
    tenantId: string,
    work: (client: pg.ClientBase) => Promise<T>,
    timeoutMs = READ_TIMEOUT_MS,
  ): Promise<T> {
    const { begin } = this.readAccess(tenantId, timeoutMs);
    return this.#inTransaction(this.#readers, begin, async (transaction) => {
      const result = await work(transaction.client);
      await endOfReading(transaction);
      return result;
    });
  }

  /** As {@link read}, and never from a standby: what was committed before is there. */
  async readLatest<T>(tenantId: string, work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    const role = this.#dropRights.writer ? "set local role tallystick_reader;" : "";
    return this.#inTransaction(this.#latest, beginReading(role, tenantId, READ_TIMEOUT_MS), async (transaction) => {
      const result = await work(transaction.client);
      await endOfReading(transaction);
      return result;
    });
  }

  /** How another thread reads as {@link read} does: by this URL, with this at the beginning of each transaction. */
  readAccess(tenantId: string, timeoutMs = READ_TIMEOUT_MS): { url: string; begin: string } {
    const role = this.#dropRights.reader ? "set local role tallystick_reader;" : "";
    return { url: this.#readerUrl, begin: beginReading(role, tenantId, timeoutMs) };
  }

  /** How another thread writes: by this URL, with this at the beginning of each transaction. */
  writeAccess(): { url: string; begin: string } {
    return { url: this.#writers.options.connectionString!, begin: this.#beginWriting(LOCK_TIMEOUT_MS) };
  }

  /** One statement as the writer, outside any tenant. */
  async query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    return this.control(async (transaction) => {
      const { rows } = await transaction.client.query<Row>(text, values);
      await (/^\s*select/i.test(text) ? endOfReading(transaction) : transaction.commit([]));
      return rows;
    });
  }

  /** The same for one tenant, whose rows alone the statement sees. */
  async queryOf<Row extends object>(tenantId: string, text: string, values: unknown[]): Promise<Row[]> {
    return this.control(async (transaction) => {
      const [, { rows }] = await transaction.together([
        transaction.client.query("select set_config('tallystick.tenant_id', $1, true)", [tenantId]),
        transaction.client.query<Row & pg.QueryResultRow>(text, values),
      ]);
      await transaction.commit([]);
      return rows;
    });
  }

  async #inTransaction<T>(pool: pg.Pool, begin: string, work: (transaction: Transaction) => Promise<T>): Promise<T> {
    let client: pg.PoolClient;
    try {
      client = await pool.connect();
    } catch (error) {
      this.#onConnectError(error);
      throw error;
    }
    return inTransaction(client, begin, work);
  }

  /** Closes all connections once they are returned. */
  async close(): Promise<void> {
    await Promise.all([this.#writers, this.#readers, this.#control, this.#latest].map((pool) => pool.end()));
  }
}

/** A transaction that has begun. */
export class Transaction {
  readonly client: pg.PoolClient;
  readonly #begin: Promise<unknown>;
  #ended = false;

  constructor(client: pg.PoolClient, begin: string) {
    this.client = client;
    this.#begin = client.query(begin);
    this.#begin.catch(() => {}); // reported by whichever statement is awaited first: all behind it fail as well
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Waits for statements that were sent together. All are awaited, so that none fails unheard; the first failure is thrown. */
  async together<const Queries extends readonly Promise<unknown>[]>(
    queries: Queries,
  ): Promise<{ -readonly [K in keyof Queries]: Awaited<Queries[K]> }> {
    const [, ...results] = await allSettledOrThrow([this.#begin, ...queries]);
    return results as { -readonly [K in keyof Queries]: Awaited<Queries[K]> };
  }

  /**
   * Sends COMMIT behind statements that are on their way, and waits for all.
   *
   * @throws {CommitUnknownError} when COMMIT was not answered, or with a warning.
   * @throws the first failed statement's error when PostgreSQL answered COMMIT by rolling back.
   */
  async commit(queries: readonly Promise<unknown>[]): Promise<void> {
    const warnings: string[] = [];
    const onNotice = (notice: { code?: string | undefined; message?: string | undefined }) => {
      // By its code: severities come in the language of the server. 00000 is a notice, anything else a warning.
      if (notice.code !== "00000") warnings.push(notice.message ?? "");
    };
    this.client.on("notice", onNotice);
    const [commit, ...earlier] = await Promise.allSettled([this.client.query("commit"), this.#begin, ...queries]);
    this.client.off("notice", onNotice);
    const failed = earlier.find((result) => result.status === "rejected");
    if (commit.status === "rejected") {
      throw new CommitUnknownError("COMMIT was sent and not answered", { cause: commit.reason });
    }
    this.#ended = true;
    if (failed !== undefined) throw failed.reason;
    if (commit.value.command !== "COMMIT") throw new Error(`PostgreSQL answered COMMIT by ${commit.value.command}`);
    // "canceled wait for synchronous replication": committed here, and perhaps nowhere else.
    if (warnings.length > 0) throw new CommitUnknownError(`COMMIT was answered with a warning: ${warnings.join("; ")}`);
  }
}

function beginReading(role: string, tenantId: string, timeoutMs: number): string {
  return `begin isolation level repeatable read read only; ${role} set local statement_timeout = ${timeoutMs};
    select set_config('tallystick.tenant_id', ${pg.escapeLiteral(tenantId)}, true)`;
}

/** Where nothing was written there is nothing unknown: a lost answer is a lost connection and no more. */
async function endOfReading(transaction: Transaction): Promise<void> {
  try {
    await transaction.commit([]);
  } catch (error) {
    throw error instanceof CommitUnknownError && error.cause !== undefined ? error.cause : error;
  }
}

async function allSettledOrThrow(promises: readonly Promise<unknown>[]): Promise<unknown[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

async function inTransaction<T>(
  client: pg.PoolClient,
  begin: string,
  work: (transaction: Transaction) => Promise<T>,
): Promise<T> {
  const transaction = new Transaction(client, begin);
  let broken: Error | undefined;
  const onError = (error: Error) => {
    broken = error;
  };
  client.on("error", onError); // a checked-out client reports a lost connection here as well as to its queries
  try {
    return await work(transaction);
  } finally {
    if (!transaction.ended && broken === undefined) {
      await client.query("rollback").catch((error: Error) => {
        broken = error;
      });
    }
    client.off("error", onError);
    client.release(broken);
  }
}
