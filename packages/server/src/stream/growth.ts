/**
 * Which logs have grown: told to whoever follows them in this process, and in every other server of the database.
 *
 * A wake-up and no more. Nothing of it is taken for a fact, and any of it may be lost: whoever listens has a cursor of its own, reads
 * the log from there, and looks now and then without being told (a second is usual). So a database behind PgBouncer in transaction
 * mode, where LISTEN hears nothing, makes followers slower and nothing else.
 */
import { randomBytes } from "node:crypto";
import pg from "pg";

export interface GrowthOptions {
  /** Where to listen; asked again for each connection, since PostgreSQL of our own may move. Undefined: nothing is heard of other servers. */
  readonly url: (() => string) | undefined;
  /** Runs `select pg_notify(...)` in a transaction of its own. Undefined in a process that writes nothing. */
  readonly send: ((statement: string, values: string[]) => Promise<unknown>) | undefined;
  /** Told when the connection is lost or cannot be had; once, until it is there again. */
  readonly onError?: (error: unknown) => void;
  /** Told when it is there, each time. */
  readonly onListening?: () => void;
}

/** At most this often others are told: what grew meanwhile goes together. */
const NOTIFY_INTERVAL_MS = 50;
const CHANNEL = "tallystick_growth";
/** Of one payload, which PostgreSQL takes with less than 8,000 bytes. */
const MAX_LOGS_TOLD = 500;
const CONNECT_TIMEOUT_MS = 5_000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;
/** The transaction's commit is not waited for by the disk: a wake-up that a crash loses had nobody left to wake. */
const NOTIFY = "select set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";

export class Growth {
  readonly #options: GrowthOptions;
  readonly #listeners = new Set<(logId: number) => void>();
  /** Names this process among those that notify: what it has said itself it need not hear. */
  readonly #self = randomBytes(8).toString("hex");
  readonly #grown = new Set<number>();
  readonly #untold = new Set<number>();
  #told: NodeJS.Timeout | undefined;
  #lastToldMs = Number.NEGATIVE_INFINITY;
  #retry: NodeJS.Timeout | undefined;
  #client: pg.Client | undefined;
  #pauseMs = FIRST_PAUSE_MS;
  #failed = false;
  #running = false;

  constructor(options: GrowthOptions) {
    this.#options = options;
  }

  /** A log has grown by a commit of this process. Costs nothing: it may be called between two commits. */
  grew(logId: number): void {
    this.#note(logId);
    if (!this.#running || this.#options.send === undefined) return;
    this.#untold.add(logId);
    this.#told ??= setTimeout(
      () => this.#tellOthers(),
      Math.max(0, this.#lastToldMs + NOTIFY_INTERVAL_MS - performance.now()),
    );
  }

  /**
   * Calls `listener` with each log that has grown, once for many commits, until the function that is returned is called. It must not
   * throw, and must not take long.
   */
  onGrowth(listener: (logId: number) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Begins to listen, and goes on trying where that fails. */
  start(): void {
    this.#running = true;
    void this.#listen();
  }

  /** Ends the connection. What has grown is told in this process only from now on. */
  async stop(): Promise<void> {
    this.#running = false;
    clearTimeout(this.#told);
    this.#told = undefined;
    clearTimeout(this.#retry);
    const client = this.#client;
    this.#client = undefined;
    await client?.end().catch(() => {}); // it is gone either way
  }

  #tellListeners(): void {
    const grown = [...this.#grown];
    this.#grown.clear();
    for (const logId of grown) for (const listener of this.#listeners) listener(logId);
  }

  #tellOthers(): void {
    this.#told = undefined;
    this.#lastToldMs = performance.now();
    const logs = [...this.#untold];
    this.#untold.clear();
    for (let next = 0; next < logs.length; next += MAX_LOGS_TOLD) {
      const payload = `${this.#self}:${logs.slice(next, next + MAX_LOGS_TOLD).join(",")}`;
      // Others find it when they look next. Whatever ails the database is told by whoever needs it for more.
      this.#options.send!(NOTIFY, [CHANNEL, payload]).catch(() => {});
    }
  }

  async #listen(): Promise<void> {
    const url = this.#options.url?.();
    if (url === undefined || !this.#running) return;
    const client = new pg.Client({
      connectionString: url,
      application_name: "tallystick listener",
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true, // nothing is ever sent: a connection that is dead would not be noticed
    });
    this.#client = client;
    let isLost = false;
    const lost = (error: unknown) => {
      if (isLost) return;
      isLost = true;
      client.end().catch(() => {});
      if (this.#client === client) this.#tryAgain(error);
    };
    client.on("error", lost);
    client.on("end", () => lost(new Error("the connection that listens has ended")));
    client.on("notification", ({ channel, payload = "" }) => {
      if (channel === CHANNEL) this.#heard(payload);
    });
    try {
      await client.connect();
      await client.query(`listen ${CHANNEL}`);
    } catch (error) {
      lost(error);
      return;
    }
    if (this.#client !== client) return;
    this.#failed = false;
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#options.onListening?.();
  }

  #tryAgain(error: unknown): void {
    this.#client = undefined;
    if (!this.#running) return;
    if (!this.#failed) this.#options.onError?.(error);
    this.#failed = true;
    this.#retry = setTimeout(() => void this.#listen(), this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
  }

  #heard(payload: string): void {
    const [sender, logs = ""] = payload.split(":");
    if (sender === this.#self) return;
    for (const text of logs.split(",")) {
      const logId = Number(text);
      if (text !== "" && Number.isSafeInteger(logId)) this.#note(logId);
    }
  }

  #note(logId: number): void {
    if (this.#grown.size === 0) setImmediate(() => this.#tellListeners());
    this.#grown.add(logId);
  }
}
