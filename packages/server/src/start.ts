/**
 * From settings to a server that listens, and back: wiring, first start, shutdown.
 */
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { FastifyBaseLogger, FastifyInstance } from "fastify";
import type { Config } from "./config.ts";
import { type Credentials, newToken, readCredentials, writeCredentials } from "./credentials.ts";
import { Database } from "./db/database.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "./db/embedded.ts";
import { checkServer, prepareDatabase, SERVER_ROLES } from "./db/prepare.ts";
import { Gate } from "./http/access.ts";
import { drainHttp } from "./http/drain.ts";
import { buildServer } from "./http/server.ts";
import { ApiKeys, SCOPES, SECRET_PREFIX } from "./log/api-keys.ts";
import { openInstallation } from "./log/installation.ts";
import { startMaintenance } from "./log/maintenance.ts";
import { isConnectionError, Sequencer } from "./log/sequencer.ts";
import { Tenants } from "./log/tenants.ts";
import { readinessOf } from "./readiness.ts";
import { StartError } from "./start-error.ts";

const DAY_MS = 86_400_000;
const SETTLE_PAUSE_MS = 200;
const DEFAULT_TENANT = "default";

/** A server that listens. */
export interface RunningServer {
  readonly url: string;
  readonly credentials: Credentials;
  /** Whether this start made the installation's credentials. */
  readonly firstStart: boolean;
  /** Answers what has been accepted, then stops; a second call waits for the first. */
  stop(): Promise<void>;
}

export interface StartOptions {
  readonly logger: FastifyBaseLogger;
  /** Progress of the start, in words. */
  readonly say: (message: string) => void;
}

/**
 * Starts the server.
 *
 * @throws {import("./start-error.ts").StartError} where it would be unsure of what it promises: the message says how to mend it.
 */
export async function startServer(config: Config, { logger, say }: StartOptions): Promise<RunningServer> {
  const stops: (() => Promise<void>)[] = [];
  const stopAll = async () => {
    for (const stop of stops.splice(0).reverse()) await stop();
  };
  try {
    const { database, embedded, databaseUrl } = await openDatabase(config, logger, say, stops);
    const unmet = await database.checkRoles();
    for (const promise of unmet) logger.warn(promise);
    await checkServer(database, config.maxClockSkewSeconds);
    const tenants = new Tenants(database);
    const apiKeys = new ApiKeys(database);
    const maintenance = await startMaintenance(database, config.idempotencyWindowDays, logger);
    stops.push(async () => maintenance.stop());
    await openInstallation(database, tenants, { origin: config.logOrigin, defaultTenant: DEFAULT_TENANT });

    const sequencer = new Sequencer(database, {
      maxBatchEvents: config.commitBatchMaxEvents,
      maxQueuedEvents: config.queueMaxEvents,
      maxQueuedBytes: config.queueMaxBytes,
      idempotencyWindowMs: config.idempotencyWindowDays * DAY_MS,
      maxClockSkewMs: config.maxClockSkewSeconds * 1_000,
      now: Date.now,
      pause: (attempt) => delay(attempt * SETTLE_PAUSE_MS),
      onError: (error) => {
        logger.error({ err: error }, "a commit failed");
        if (isConnectionError(error)) reviveEmbedded(embedded, logger);
      },
    });
    const known = await readCredentials(config.dataDir);
    const secrets = { apiKey: config.apiKey ?? known?.api_key, adminToken: config.adminToken ?? known?.admin_token };
    const { apiKey, adminToken } = await ensureSecrets(secrets, tenants, apiKeys);
    const app = await buildServer(
      {
        database,
        tenants,
        apiKeys,
        sequencer,
        gate: new Gate({ apiKeys, tenants, adminToken }),
        readiness: readinessOf({ database, unmet, maxClockSkewSeconds: config.maxClockSkewSeconds }),
      },
      { logger, requestTimeoutMs: config.requestTimeoutMs },
    );
    const url = await listen(app, config);
    stops.push(async () => {
      await withDeadline(drainHttp(app), config.shutdownTimeoutMs, logger);
      await sequencer.drain();
    });
    const credentials = {
      url,
      tenant: DEFAULT_TENANT,
      admin_token: adminToken,
      api_key: apiKey,
      database_url: databaseUrl(),
    };
    await writeCredentials(config.dataDir, credentials);
    let stopped: Promise<void> | undefined;
    return { url, credentials, firstStart: known === undefined, stop: () => (stopped ??= stopAll()) };
  } catch (error) {
    await stopAll();
    throw error;
  }
}

/** Opens the database that the settings name, or our own; what has to be undone at the end goes to `stops`. */
async function openDatabase(
  config: Config,
  logger: FastifyBaseLogger,
  say: StartOptions["say"],
  stops: (() => Promise<void>)[],
) {
  let embedded: EmbeddedPostgres | undefined;
  let url: string;
  let readerUrl: string | undefined;
  if (config.database.kind === "embedded") {
    const own = await startEmbeddedPostgres({ dataDir: config.dataDir, log: say });
    embedded = own;
    stops.push(() => own.stop());
    const passwords = Object.fromEntries(SERVER_ROLES.map((role) => [role, own.passwordFor(role)]));
    await prepareDatabase({ url: own.adminUrl, adminUrl: own.adminUrl, passwords, say });
    url = asRole(own.adminUrl, "tallystick_writer", own);
    readerUrl = asRole(own.adminUrl, "tallystick_reader", own);
  } else {
    ({ url, readerUrl } = config.database);
    await waitForDatabase(
      () =>
        prepareDatabase({
          url,
          adminUrl: config.database.kind === "external" ? config.database.adminUrl : undefined,
          say,
        }),
      say,
    );
  }
  const database = new Database({
    url,
    ...(readerUrl !== undefined && { readerUrl }),
    poolSize: config.databasePoolSize,
    onIdleError: (error) => {
      logger.warn({ err: error }, "a database connection was lost");
      reviveEmbedded(embedded, logger);
    },
    // Whatever the request: a server that only reads, or refuses for want of a key's look-up, has to get its database back too.
    onConnectError: () => reviveEmbedded(embedded, logger),
  });
  stops.push(() => database.close());
  return { database, embedded, databaseUrl: () => embedded?.adminUrl ?? url };
}

function asRole(adminUrl: string, role: string, embedded: EmbeddedPostgres): string {
  const url = new URL(adminUrl);
  url.username = role;
  url.password = embedded.passwordFor(role);
  return url.href;
}

const DATABASE_DEADLINE_MS = 60_000;
const DATABASE_RETRY_MS = 500;

/** An external PostgreSQL may start later than we do. */
async function waitForDatabase(prepare: () => Promise<void>, say: StartOptions["say"]): Promise<void> {
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

/** PostgreSQL of our own that died is started again; requests meanwhile are answered 503. */
function reviveEmbedded(embedded: EmbeddedPostgres | undefined, logger: FastifyBaseLogger): void {
  embedded?.ensureRunning().then(
    (restarted) => {
      if (restarted) logger.warn("PostgreSQL was down and has been started again");
    },
    (error) => logger.error({ err: error }, "PostgreSQL could not be started again"),
  );
}

/** The admin token, and an API key of the default tenant: as set, as kept, or new. A key that the database lacks is made. */
async function ensureSecrets(
  given: { apiKey: string | undefined; adminToken: string | undefined },
  tenants: Tenants,
  apiKeys: ApiKeys,
) {
  const apiKey = given.apiKey ?? newToken(SECRET_PREFIX);
  if ((await apiKeys.find(apiKey)) === undefined) {
    const tenant = await tenants.find(DEFAULT_TENANT);
    await apiKeys.create(tenant!.tenantId, { name: "first key", scopes: SCOPES }, apiKey);
  }
  return { apiKey, adminToken: given.adminToken ?? newToken("tallyadmin_") };
}

async function listen(app: FastifyInstance, config: Config): Promise<string> {
  const { host, port } = config;
  try {
    await app.listen({ host, port });
  } catch (cause) {
    const code = (cause as { code?: unknown }).code;
    if (code === "EADDRINUSE") {
      throw new StartError(
        "port_taken",
        `port ${port} is taken by another program: stop that, or set another, as in PORT=${port + 1}`,
        { cause },
      );
    }
    throw new StartError(
      "cannot_listen",
      `cannot listen on ${host}:${port} (${(cause as Error).message}): set HOST and PORT to an address of this machine`,
      { cause },
    );
  }
  const address = app.server.address() as AddressInfo;
  const shown = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host.includes(":") ? `[${host}]` : host;
  return `http://${shown}:${address.port}`;
}

/** Waits for a shutdown, and goes on without what has not finished in time. */
async function withDeadline(work: Promise<void>, deadlineMs: number, logger: FastifyBaseLogger): Promise<void> {
  const controller = new AbortController();
  const late = delay(deadlineMs, true, { signal: controller.signal, ref: false }).catch(() => false);
  if ((await Promise.race([work.then(() => false), late])) === true)
    logger.warn(`requests were still under way after ${deadlineMs} ms`);
  controller.abort();
}
