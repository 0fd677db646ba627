import { chmod, mkdir, realpath, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Account, runningAsRoot } from "./embedded-account.ts";
import { type Binaries, findBinaries } from "./embedded-binaries.ts";
import { type Cluster, clusterAccount, dataFiles, openCluster, rolePassword } from "./embedded-cluster.ts";
import { EmbeddedPostgresError, systemCode } from "./embedded-error.ts";
import { readIfPresent, replaceFile } from "./embedded-files.ts";
import { findFreePort, isFree } from "./embedded-port.ts";
import {
  isAlive,
  isPostgres,
  launch,
  logTail,
  type PidFile,
  readPidFile,
  removeEmptyPidFile,
  removeStalePidFile,
  signal,
} from "./embedded-postmaster.ts";
import { adminUrl, answers, otherClients } from "./embedded-session.ts";

export { EmbeddedPostgresError, type EmbeddedPostgresErrorCode } from "./embedded-error.ts";

export interface EmbeddedPostgresOptions {
  /** Where data, password and port are kept; made when missing. */
  readonly dataDir: string;
  /** PostgreSQL settings in place of ours, applied at the next start of PostgreSQL. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Progress, one sentence a call. */
  readonly log?: (message: string) => void;
  /** How long to wait for a PostgreSQL that is starting or recovering. */
  readonly startTimeoutMs?: number;
}

const START_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 60_000;
/** Connections that were closed a moment ago are still listed until their backends are gone. */
const LEAVING_MS = 1_000;
const POLL_MS = 15;
const PROGRESS_EVERY_MS = 5_000;

/** A PostgreSQL that runs on this machine for us, durable, and independent of this process's life. */
export class EmbeddedPostgres {
  readonly dataDir: string;
  readonly #options: EmbeddedPostgresOptions;
  readonly #binaries: Binaries;
  readonly #cluster: Cluster;
  readonly #account: Account | undefined;
  #port = 0;
  #startedHere = false;
  #alreadyRunning = false;
  #stopped = false;
  #bringingUp: Promise<boolean> | undefined;

  /** Use {@link startEmbeddedPostgres}. */
  constructor(options: EmbeddedPostgresOptions, binaries: Binaries, cluster: Cluster, account: Account | undefined) {
    this.dataDir = options.dataDir;
    this.#options = options;
    this.#binaries = binaries;
    this.#cluster = cluster;
    this.#account = account;
  }

  /** The superuser's URL over TCP, database `tallystick`. A restart can change it (another port): do not keep it. */
  get adminUrl(): string {
    return adminUrl(this.#port, this.#cluster.password);
  }

  get port(): number {
    return this.#port;
  }

  /** PostgreSQL's own data directory: below `dataDir`, or where its user can enter (see `postgres.location` there). */
  get clusterDirectory(): string {
    return this.#cluster.directory;
  }

  /** Whether it was up before {@link startEmbeddedPostgres}: left by a server that was killed, or another replica's. */
  get alreadyRunning(): boolean {
    return this.#alreadyRunning;
  }

  /** The password that `role` is to have: the same on every call and in every process on this data directory. */
  passwordFor(role: string): string {
    return rolePassword(this.#cluster.password, role);
  }

  /**
   * Starts PostgreSQL again if it is down; answers true when it had to. Call it when connections are refused.
   * Calls at the same time share one attempt. Throws {@link EmbeddedPostgresError}, `stopped` after stop().
   */
  async ensureRunning(): Promise<boolean> {
    if (this.#stopped)
      throw new EmbeddedPostgresError("stopped", "PostgreSQL was stopped by this program; start anew.");
    this.#bringingUp ??= this.#bringUp().finally(() => {
      this.#bringingUp = undefined;
    });
    return await this.#bringingUp;
  }

  /** @internal */
  async start(): Promise<void> {
    this.#alreadyRunning = !(await this.ensureRunning());
  }

  /**
   * Fast shutdown; resolves when PostgreSQL has ended. Only for what this object started, or what a program that is
   * gone by now did; and not while other programs are connected, who may be other replicas: the last one stops it.
   * `force` stops it in any case. Close your own pool first. Throws `stop_timeout`.
   */
  async stop({ force = false }: { readonly force?: boolean } = {}): Promise<void> {
    this.#stopped = true;
    await this.#bringingUp?.catch(() => false);
    const found = await readPidFile(this.#cluster.directory);
    if (found === undefined || !(await isPostgres(found.pid)) || !(await this.#isOurs(found))) return;
    if (!force && (!(await this.#mayStop()) || (await this.#isUsedByOthers(found.port)))) return;
    // SIGINT is "fast": sessions are ended, a checkpoint is written.
    signal(found.pid, "SIGINT");
    const deadline = Date.now() + STOP_TIMEOUT_MS;
    while (await isPostgres(found.pid)) {
      if (Date.now() > deadline) throw await this.#failure("stop_timeout", "does not end", found.pid);
      await delay(POLL_MS);
    }
    this.#log("PostgreSQL has stopped");
  }

  async #bringUp(): Promise<boolean> {
    const deadline = Date.now() + (this.#options.startTimeoutMs ?? START_TIMEOUT_MS);
    const progress = setInterval(() => this.#log("still waiting for PostgreSQL to answer"), PROGRESS_EVERY_MS);
    try {
      let avoid = 0;
      while (Date.now() < deadline) {
        const found = await readPidFile(this.#cluster.directory);
        if (found !== undefined && isAlive(found.pid)) {
          if (await this.#join(found)) return false;
          continue;
        }
        const outcome = await this.#launch(avoid, deadline);
        if (outcome === "up") return true;
        if (outcome === "port_taken") avoid = this.#port;
      }
      throw await this.#failure("start_timeout", "does not answer");
    } finally {
      clearInterval(progress);
    }
  }

  /** One look at a postmaster that is there: true when it serves us. */
  async #join(found: PidFile): Promise<boolean> {
    if (!(await isPostgres(found.pid))) {
      this.#log(`removing the lock of a PostgreSQL that is gone (process ${found.pid} is none)`);
      await removeStalePidFile(this.#cluster.directory, found);
      return false;
    }
    if (!(await this.#isOurs(found))) throw this.#foreignLock(found);
    if (found.status === "ready" && (await answers(found.port, this.#cluster.password))) {
      await this.#rememberPort(found.port);
      return true;
    }
    await delay(POLL_MS);
    return false;
  }

  async #launch(avoid: number, deadline: number): Promise<"up" | "port_taken" | "again"> {
    const files = dataFiles(this.dataDir);
    this.#port = await this.#choosePort(avoid);
    const { directory, password } = this.#cluster;
    const postmaster = await launch(this.#binaries, directory, this.#port, this.#account, files.log);
    let ended = false;
    void postmaster.ended.then(() => {
      ended = true;
    });
    while (!ended && Date.now() < deadline) {
      const now = await readPidFile(directory);
      if (now?.pid === postmaster.pid && now.status === "ready" && (await answers(this.#port, password))) {
        this.#startedHere = true;
        await replaceFile({ path: files.starter, text: `${process.pid}\n`, mode: 0o600 });
        await this.#rememberPort(this.#port);
        this.#log(`PostgreSQL ${this.#binaries.major} is up on 127.0.0.1:${this.#port}`);
        return "up";
      }
      await delay(POLL_MS);
    }
    if (!ended) return "again";
    const said = await postmaster.said();
    if (/could not bind|Address already in use/.test(said)) return "port_taken";
    // Another starter was faster, or backends of a killed postmaster are about to notice that it is gone.
    if (/lock file .* already exists|pre-existing shared memory block/.test(said)) {
      await delay(POLL_MS);
      return "again";
    }
    if (/lock file .* is empty/.test(said)) {
      await removeEmptyPidFile(directory);
      await delay(POLL_MS);
      return "again";
    }
    throw await this.#failure("start_failed", "did not start");
  }

  async #choosePort(avoid: number): Promise<number> {
    const remembered = Number(await readIfPresent(dataFiles(this.dataDir).port));
    if (remembered > 0 && remembered !== avoid && (await isFree(remembered))) return remembered;
    const port = await findFreePort();
    if (remembered > 0) this.#log(`port ${remembered} is taken by another program; PostgreSQL gets ${port}`);
    return port;
  }

  async #rememberPort(port: number): Promise<void> {
    this.#port = port;
    const path = dataFiles(this.dataDir).port;
    if (Number(await readIfPresent(path)) === port) return;
    await replaceFile({ path, text: `${port}\n`, mode: 0o644 });
  }

  /** The lock may have been copied along with the data of a PostgreSQL that runs elsewhere. */
  async #isOurs(found: PidFile): Promise<boolean> {
    const [named, ours] = await Promise.all([statIfReachable(found.directory), stat(this.#cluster.directory)]);
    return named !== undefined && named.dev === ours.dev && named.ino === ours.ino;
  }

  async #mayStop(): Promise<boolean> {
    if (this.#startedHere) return true;
    const starter = Number(await readIfPresent(dataFiles(this.dataDir).starter));
    return starter > 0 && !isAlive(starter);
  }

  async #isUsedByOthers(port: number): Promise<boolean> {
    // One that does not answer (shutting down already) serves nobody.
    if (!(await answers(port, this.#cluster.password))) return false;
    const deadline = Date.now() + LEAVING_MS;
    for (;;) {
      const others = await otherClients(port, this.#cluster.password);
      if (others.length === 0) return false;
      if (Date.now() > deadline) {
        this.#log(`leaving PostgreSQL running: still used by ${[...new Set(others)].join(", ")}`);
        return true;
      }
      await delay(POLL_MS);
    }
  }

  async #failure(code: "start_failed" | "start_timeout" | "stop_timeout", what: string, pid = 0) {
    const { log } = dataFiles(this.dataDir);
    const said = await logTail(this.#cluster.directory, log);
    return new EmbeddedPostgresError(
      code,
      `PostgreSQL ${what}. Its log (${log}, and ${this.#cluster.directory}/log) ends with the lines below; ` +
        `usual causes are a full disk, too little memory, and settings in postgresql.conf.\n${said}`,
      { directory: this.#cluster.directory, port: this.#port, ...(pid === 0 ? {} : { pid }) },
    );
  }

  #foreignLock(found: PidFile): EmbeddedPostgresError {
    const { directory } = this.#cluster;
    return new EmbeddedPostgresError(
      "lock_foreign",
      `${directory}/postmaster.pid belongs to a PostgreSQL (process ${found.pid}) that runs on ${found.directory}. ` +
        `If ${directory} was moved while PostgreSQL ran, stop that process. If it is a copy, delete the file, and prefer a copy made while PostgreSQL is down.`,
      { directory, pid: found.pid },
    );
  }

  #log(message: string): void {
    this.#options.log?.(message);
  }
}

/** Undefined for a directory that is gone, or that we may not look at. */
async function statIfReachable(directory: string) {
  try {
    return await stat(directory);
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES"].includes(systemCode(error) ?? "")) return undefined;
    throw error;
  }
}

/**
 * Starts PostgreSQL on `dataDir`, or joins the one that runs there; resolves when it answers and the database
 * `tallystick` exists. Any number of processes may call it on one directory at once.
 * As root it runs as user `postgres`, else `nobody`; as anyone else, as that user.
 * It outlives this process unless stop() is called. Throws {@link EmbeddedPostgresError}.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const log = options.log ?? (() => undefined);
  // Root's directory is left open for passing through, so that PostgreSQL's user reaches its data in it.
  const made = await mkdir(resolve(options.dataDir), { recursive: true, mode: runningAsRoot() ? 0o711 : 0o700 });
  if (made !== undefined && runningAsRoot()) await chmod(options.dataDir, 0o711);
  const dataDir = await realpath(options.dataDir);
  const account = await clusterAccount(dataDir);
  const binaries = await findBinaries(account, log);
  const cluster = await openCluster(dataDir, binaries, account, options.settings ?? {}, log);
  const postgres = new EmbeddedPostgres({ ...options, dataDir }, binaries, cluster, account);
  await postgres.start();
  return postgres;
}
