/**
 * The server under test: started as a user starts it, on a fresh data directory, with its own PostgreSQL and default settings,
 * but for the limits that keep a single client from loading it.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rm, watch, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { startProgram, stopProgram } from "./child.ts";
import type { LoadJob } from "./load-program.ts";

const PROGRAM = "../packages/cli/src/main.ts";
const CREDENTIALS = "credentials.json";

/** A server that listens. */
export interface Tallystick {
  readonly url: string;
  readonly dataDir: string;
  /** Headers of a client that may do everything in the default tenant. */
  readonly headers: Readonly<Record<string, string>>;
  /** A superuser's, of the PostgreSQL that the server runs: yardsticks use the same instance. */
  readonly databaseUrl: string;
  /** Entries in the default tenant's log, by its head, without those that the server makes itself. */
  size(): Promise<number>;
  /** The server's process, without its PostgreSQL. */
  readonly pid: number;
  /** Stops it, and starts another on the same data, with a memory that nothing was done in yet. This one is not to be used then. */
  restart(): Promise<Tallystick>;
  /** A job for the load generator, on this server. */
  job(connections: number, send: LoadJob["send"]): LoadJob;
  /** Stops server and PostgreSQL, and removes the data. */
  stop(): Promise<void>;
}

/** @param profileDir where the server's CPU profile is written when it ends. @param settings beside the defaults. @param nodeOptions further ones. */
export async function startTallystick(options: TallystickOptions = {}): Promise<Tallystick> {
  const place = await mkdtemp(join(tmpdir(), "tallystick-bench-"));
  await chmod(place, 0o711); // run by root, PostgreSQL has a user of its own, who has to pass through
  await mkdir(join(place, "data"), { mode: 0o711 });
  return startIn(place, options);
}

interface TallystickOptions {
  readonly profileDir?: string | undefined;
  readonly settings?: Readonly<Record<string, string>>;
  readonly nodeOptions?: readonly string[];
}

async function startIn(place: string, options: TallystickOptions): Promise<Tallystick> {
  const { profileDir, settings = {}, nodeOptions = [] } = options;
  const dataDir = join(place, "data");
  const server = startProgram(PROGRAM, {
    args: ["serve"],
    nodeOptions: [...nodeOptions, ...(profileDir === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileDir}`])],
    // Nothing else of ours: a DATABASE_URL that happens to be set would be measured instead.
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      PORT: "0",
      DATA_DIR: dataDir,
      LOG_LEVEL: "WARNING",
      RATE_LIMIT_REQUESTS: "0",
      ...settings,
    },
    cwd: place,
  });
  let stopping = false;
  server.once("exit", (code, signal) => {
    if (!stopping) process.stderr.write(`the server under test ended by itself (${code ?? signal})\n`);
  });
  const remove = () => rm(place, { recursive: true, force: true });
  try {
    const { url, api_key, database_url } = await credentialsOf(server, dataDir);
    const headers = { Authorization: `Bearer ${api_key}` };
    return {
      url,
      dataDir,
      headers,
      databaseUrl: database_url,
      size: () => logSize(database_url),
      pid: server.pid!,
      restart: async () => {
        stopping = true;
        await stopProgram(server);
        await forgetUrl(dataDir);
        return startIn(place, options);
      },
      job: (connections, send) => ({ url, headers, connections, send }),
      stop: async () => {
        stopping = true;
        await stopProgram(server);
        await remove();
      },
    };
  } catch (error) {
    stopping = true;
    await stopProgram(server);
    await remove();
    throw error;
  }
}

/** The server adds its URL to its credentials once it listens. */
async function credentialsOf(
  server: ChildProcess,
  dataDir: string,
): Promise<{ url: string; api_key: string; database_url: string }> {
  const controller = new AbortController();
  const { signal } = controller;
  const ended = once(server, "exit", { signal }).then(([code]) => {
    throw new Error(`the server ended (${code}) before it listened`);
  });
  const listening = (async () => {
    for await (const { filename } of watch(dataDir, { signal })) {
      if (filename !== CREDENTIALS) continue;
      const credentials = JSON.parse(await readFile(join(dataDir, CREDENTIALS), "utf8"));
      if (credentials.url !== undefined) return credentials;
    }
  })();
  try {
    return await Promise.race([ended, listening]);
  } finally {
    controller.abort();
    await Promise.allSettled([ended, listening]);
  }
}

/** So that the next server is known to listen by the URL that it adds. */
async function forgetUrl(dataDir: string): Promise<void> {
  const path = join(dataDir, CREDENTIALS);
  const { url: _, ...others } = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
  await writeFile(path, JSON.stringify(others));
}

async function logSize(databaseUrl: string): Promise<number> {
  return withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ size: string }>(
      `select heads.size - (
         select coalesce(sum(length), 0) from (
           select max(seq) + 1 as length from tallystick.service_heads own
           where own.log_id = heads.log_id and own.service_id like 'tallystick%' group by own.service_id
         ) own
       ) as size
       from tallystick.heads join tallystick.logs on logs.id = heads.log_id
       where logs.slug = 'default' order by heads.size desc limit 1`,
    );
    return Number(rows[0]?.size ?? 0);
  });
}

/** Runs `work` on a connection of its own. */
export async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: "tallystick bench" });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
