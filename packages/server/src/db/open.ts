/**
 * Opening the database that the settings name, or our own PostgreSQL, and getting it back when it was away.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { FastifyBaseLogger } from "fastify";
import type { Config, DatabaseConfig } from "../config.ts";
import { Database } from "./database.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "./embedded.ts";
import { prepareDatabase, SERVER_ROLES } from "./prepare.ts";
import { isConnectionError } from "./unavailable.ts";

/** A database that is migrated and can be used. */
export interface OpenDatabase {
  readonly database: Database;
  /** The owner's URL; another one after PostgreSQL of our own had to take another port. */
  readonly ownerUrl: string;
  /** Starts PostgreSQL of our own again where it is down; requests meanwhile are answered 503. */
  revive(): void;
  /** Closes the connections, then stops PostgreSQL of our own. */
  close(): Promise<void>;
}

export interface OpenOptions {
  readonly config: Config;
  readonly logger: FastifyBaseLogger;
  /** Progress, in words. */
  readonly say: (message: string) => void;
  /** Told when `ownerUrl` has changed. */
  readonly onMoved: () => void;
}

const DATABASE_DEADLINE_MS = 60_000;
const DATABASE_RETRY_MS = 500;
/** How long a statement that is under way at the end may hold its connection open. */
const CLOSE_MS = 1_000;

/**
 * @throws {import("../start-error.ts").StartError} @throws {import("./migrate.ts").MigrationError}
 * @throws {import("./embedded-error.ts").EmbeddedPostgresError}
 */
export async function openDatabase(options: OpenOptions): Promise<OpenDatabase> {
  const { database } = options.config;
  return database.kind === "embedded" ? openOwn(options) : openExternal(options, database);
}

async function openExternal(
  { config, logger, say }: OpenOptions,
  { url, adminUrl, readerUrl }: Extract<DatabaseConfig, { kind: "external" }>,
): Promise<OpenDatabase> {
  await waitForDatabase(() => prepareDatabase({ url, adminUrl, say }), say);
  const database = new Database({
    url,
    ...(readerUrl !== undefined && { readerUrl }),
    poolSize: config.databasePoolSize,
    onIdleError: (error) => logger.warn({ err: error }, "a database connection was lost"),
  });
  return { database, ownerUrl: url, revive: () => {}, close: () => closeInTime(database) };
}

async function openOwn({ config, logger, say, onMoved }: OpenOptions): Promise<OpenDatabase> {
  const postgres = await startEmbeddedPostgres({ dataDir: config.dataDir, log: say });
  try {
    const passwords = Object.fromEntries(SERVER_ROLES.map((role) => [role, postgres.passwordFor(role)]));
    await prepareDatabase({ url: postgres.adminUrl, adminUrl: postgres.adminUrl, passwords, say });
  } catch (error) {
    await postgres.stop();
    throw error;
  }
  let ownerUrl = postgres.adminUrl;
  let isReviving = false;
  const revive = () => {
    // All that fails meanwhile asks for it.
    if (isReviving) return;
    isReviving = true;
    const reviving = postgres.ensureRunning().then(
      (restarted) => {
        if (restarted) logger.warn("PostgreSQL was down and has been started again");
        if (postgres.adminUrl === ownerUrl) return;
        ownerUrl = postgres.adminUrl;
        database.moveTo(asRole(postgres, "tallystick_writer"), asRole(postgres, "tallystick_reader"));
        onMoved();
      },
      (error) => logger.error({ err: error }, "PostgreSQL could not be started again"),
    );
    void reviving.finally(() => {
      isReviving = false;
    });
  };
  const database = new Database({
    url: asRole(postgres, "tallystick_writer"),
    readerUrl: asRole(postgres, "tallystick_reader"),
    poolSize: config.databasePoolSize,
    onIdleError: (error) => {
      logger.warn({ err: error }, "a database connection was lost");
      revive();
    },
    // Whatever the request: a server that only reads, or refuses for want of a key's look-up, has to get its database back too.
    onConnectError: revive,
  });
  return {
    database,
    get ownerUrl() {
      return ownerUrl;
    },
    revive,
    async close() {
      await closeInTime(database);
      await postgres.stop();
    },
  };
}

function asRole(postgres: EmbeddedPostgres, role: (typeof SERVER_ROLES)[number]): string {
  const url = new URL(postgres.adminUrl);
  url.username = role;
  url.password = postgres.passwordFor(role);
  return url.href;
}

/** An external PostgreSQL, or its name, may appear later than we do. A password that is refused will not mend itself. */
async function waitForDatabase(prepare: () => Promise<void>, say: OpenOptions["say"]): Promise<void> {
  const deadline = Date.now() + DATABASE_DEADLINE_MS;
  for (let said = false; ; said = true) {
    try {
      return await prepare();
    } catch (error) {
      if (!isConnectionError(error) || Date.now() > deadline) throw error;
      if (!said) say(`waiting for PostgreSQL: ${(error as Error).message}`);
      await delay(DATABASE_RETRY_MS);
    }
  }
}

async function closeInTime(database: Database): Promise<void> {
  await Promise.race([database.close(), delay(CLOSE_MS, undefined, { ref: false })]);
}
