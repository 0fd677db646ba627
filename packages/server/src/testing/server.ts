/**
 * Real server processes for tests, and what they leave behind taken away again.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import type { Agent } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Credentials, newToken } from "../credentials.ts";
import { isPostgres } from "../db/embedded-postmaster.ts";
import { Api } from "./api.ts";
import type { TestDatabase } from "./log.ts";

const ENTRY = fileURLToPath(new URL("./serve.ts", import.meta.url));

export interface ServerOptions {
  /** Kept where it is given; else a new one, which goes with the server. */
  readonly dataDir?: string;
  /** Further options of Node. */
  readonly execArgv?: readonly string[];
  /** What {@link TestServer.api} connects by, where the server speaks TLS. */
  readonly tls?: Agent;
}

/** Of a server whose database had keys already, and to which none was given, there is no API key. */
type TestCredentials = Credentials & { readonly api_key: string };

/** A server in a process of its own. */
export class TestServer {
  readonly url: string;
  readonly credentials: TestCredentials;
  readonly dataDir: string;
  /** With an API key of tenant `default` that has every scope. */
  readonly api: Api;
  /** With the admin token. */
  readonly operator: Api;
  readonly #process: Process;

  constructor(process: Process, ready: { url: string; credentials: TestCredentials }, dataDir: string, tls?: Agent) {
    this.#process = process;
    this.url = ready.url;
    this.credentials = ready.credentials;
    this.dataDir = dataDir;
    this.api = new Api(ready.url, { authorization: `Bearer ${ready.credentials.api_key}` }, tls);
    this.operator = new Api(ready.url, { "x-admin-token": ready.credentials.admin_token }, tls);
  }

  get pid(): number {
    return this.#process.child.pid!;
  }

  /** What it has written to stderr. */
  get said(): string {
    return this.#process.said;
  }

  /** SIGTERM; resolves with the exit code once the process has ended. */
  async stop(): Promise<number | null> {
    this.#process.child.kill("SIGTERM");
    return (await this.#process.ended).code;
  }

  /** SIGKILL; resolves once the process has ended. */
  async kill(): Promise<void> {
    this.#process.child.kill("SIGKILL");
    await this.#process.ended;
  }
}

interface Process {
  readonly child: ChildProcess;
  said: string;
  readonly ended: Promise<{ code: number | null }>;
}

const processes = new Set<Process>();
const directories = new Set<string>();

/** A directory that {@link stopTestServers} deletes. PostgreSQL's own user can enter it. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tallystick-server-"));
  directories.add(directory);
  await chmod(directory, 0o711);
  return directory;
}

/** Tests make load, bring wrong credentials, count entries, and run on busy machines: those that are about limits and reads set them. */
const UNLIMITED = {
  ...{ RATE_LIMIT_REQUESTS: "0", REFUSED_CREDENTIALS_LIMIT: "0", MAX_EVENT_LOOP_DELAY_MS: "0" },
  RECORD_READS: "false",
};

/**
 * Starts a server on a free port with these settings and no others, without rate limits unless they are set; resolves once it
 * listens.
 * @throws with what it said, where it ends before that.
 */
export async function startTestServer(
  settings: Readonly<Record<string, string>>,
  { dataDir, execArgv = [], tls }: ServerOptions = {},
): Promise<TestServer> {
  const directory = dataDir ?? join(await temporaryDirectory(), "data");
  // Tests share a database, and it is the first server only that makes a key there by itself.
  const own = dataDir === undefined ? { API_KEY: newToken("tally_") } : {};
  const child = spawn(process.execPath, ["--conditions=source", ...execArgv, ENTRY], {
    cwd: tmpdir(),
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      PORT: "0",
      DATA_DIR: directory,
      ...UNLIMITED,
      ...own,
      ...settings,
    },
  });
  const ended = once(child, "exit").then(([code]) => ({ code: code as number | null }));
  const started: Process = { child, said: "", ended };
  processes.add(started);
  void ended.then(() => processes.delete(started));
  child.stderr!.on("data", (chunk) => {
    started.said += String(chunk);
  });
  const ready = await Promise.race([
    once(child, "message").then(([message]) => message as { url: string; credentials: TestCredentials }),
    ended,
  ]);
  if ("code" in ready) throw new Error(`the server ended with ${ready.code}: ${started.said}`);
  return new TestServer(started, ready, directory, tls);
}

/** Kills every server that this test file started, and deletes its directories. For `afterAll`. */
export async function stopTestServers(): Promise<void> {
  await Promise.all(
    [...processes].map(async ({ child, ended }) => {
      child.kill("SIGKILL");
      await ended;
    }),
  );
  for (const directory of directories) {
    await stopPostgres(join(directory, "data", "postgres"));
    await rm(directory, { recursive: true, force: true });
  }
  directories.clear();
}

/** The PostgreSQL of a server that was killed lives on. */
async function stopPostgres(cluster: string): Promise<void> {
  const pid = Number.parseInt(await readFile(join(cluster, "postmaster.pid"), "utf8").catch(() => ""), 10);
  if (!(pid > 0) || !(await isPostgres(pid))) return;
  process.kill(pid, "SIGQUIT");
  await until(async () => !(await isPostgres(pid)), { what: "PostgreSQL ends" });
}

/** Waits for a condition, and fails with what it waited for once the deadline has passed. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  { what = String(condition), deadlineMs = 20_000 }: { what?: string; deadlineMs?: number } = {},
): Promise<void> {
  const deadline = Date.now() + deadlineMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`still not so after ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10)); // the pause between two looks, no wait for time
  }
}

/** The settings of a server on a test's database, logged in as the least roles; by way of a proxy where `through` leads there. */
export function databaseSettings(test: TestDatabase, through: (url: string) => string = (url) => url) {
  return {
    DATABASE_URL: through(test.url("tallystick_writer")),
    DATABASE_READER_URL: through(test.url("tallystick_reader")),
    LOG_KEY_PATH: join(test.signingDirectory, "log-key.pem"),
    SIGN_LOCK_PATH: join(test.signingDirectory, "sign-lock.db"),
  };
}
