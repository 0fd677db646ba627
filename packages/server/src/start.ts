/**
 * From settings to a server that listens, and back: wiring, first start, shutdown.
 */
import type { Server as HttpsServer } from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import { Masking } from "@tallystick/core/masking";
import type { FastifyBaseLogger } from "fastify";
import pg from "pg";
import { AdminToken } from "./access/admin-token.ts";
import { SECRET_PREFIX } from "./access/api-keys.ts";
import { openAuthenticators } from "./access/authenticators.ts";
import { ensureFirstKey } from "./access/first-key.ts";
import { IssuedCertificates } from "./access/issued-certificates.ts";
import { IssuedKeys } from "./access/issued-keys.ts";
import { TenantChanges } from "./access/tenant-changes.ts";
import { tlsSettings, tokenSettings } from "./config/access.ts";
import type { Config } from "./config.ts";
import { type Credentials, keepSecrets, newToken, writeCredentials } from "./credentials.ts";
import { openDataDir } from "./data-dir.ts";
import { type OpenDatabase, openDatabase } from "./db/open.ts";
import { checkServer } from "./db/prepare.ts";
import { isConnectionError } from "./db/unavailable.ts";
import { Gate } from "./http/access.ts";
import { Authentication } from "./http/authentication.ts";
import { Cursors } from "./http/cursor.ts";
import { drainHttp } from "./http/drain.ts";
import { buildServer } from "./http/server.ts";
import { Tls } from "./http/tls.ts";
import { TrustedProxies } from "./http/trusted-proxies.ts";
import { Bodies } from "./limits/bodies.ts";
import { Guesses } from "./limits/guesses.ts";
import { RateLimits } from "./limits/rate-limits.ts";
import { SharedUse } from "./limits/shared-use.ts";
import { listen } from "./listen.ts";
import type { AppendLimits } from "./log/append.ts";
import { AppendError } from "./log/errors.ts";
import { openInstallation } from "./log/installation.ts";
import { startMaintenance } from "./log/maintenance.ts";
import { replaySecret } from "./log/replay-hash.ts";
import { Sequencer } from "./log/sequencer.ts";
import { Tenants } from "./log/tenants.ts";
import { Metrics } from "./metrics.ts";
import { Receipts } from "./proof/receipts.ts";
import { PublisherKeys } from "./publisher/publisher-keys.ts";
import { Publishers } from "./publisher/publishers.ts";
import { readinessOf } from "./readiness.ts";
import { IndexThread } from "./search/index-thread.ts";
import { lagOf } from "./search/lag.ts";
import { openSigning, type Signing } from "./signing/signing.ts";
import { Growth } from "./stream/growth.ts";
import { Streams } from "./stream/streams.ts";
import { Watch } from "./watch/watch.ts";

const DAY_MS = 86_400_000;
const SETTLE_PAUSE_MS = 200;
const DEFAULT_TENANT = "default";

/** A server that listens. */
export interface RunningServer {
  readonly url: string;
  readonly credentials: Credentials;
  /** Whether no server of this DATA_DIR has listened before: nobody has been shown the credentials. */
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
    await openDataDir(config.dataDir);
    const ownTls = tlsSettings(config);
    const tls = ownTls && (await Tls.open(ownTls, logger));
    let keepPlace = async () => {};
    const opened = await openDatabase({ config, logger, say, onMoved: () => void keepPlace() });
    stops.push(() => opened.close());
    const { database } = opened;
    const unmet = await database.checkRoles();
    for (const promise of unmet) logger.warn(promise);
    await checkServer(database, config.maxClockSkewSeconds);
    const tenants = new Tenants(database);
    const authenticators = openAuthenticators(database, { tenants, issuer: tokenSettings(config), logger });
    stops.push(() => authenticators.stop());
    const { apiKeys, certificates, tokens } = authenticators;
    const rateLimits = new RateLimits({
      perTenant: config.rateLimitRequests,
      perCredential: config.rateLimitCredentialRequests,
    });
    const sharedUse = new SharedUse(database, rateLimits, (error) =>
      logger.warn({ err: error }, "the use of rate limits could not be shared: each server counts by itself"),
    );
    stops.push(() => sharedUse.stop());
    const proxies = new TrustedProxies(config.trustedProxies ?? []);
    const publishers = new Publishers(database);
    const maintenance = await startMaintenance(database, config.idempotencyWindowDays, logger);
    stops.push(() => withDeadline(maintenance.stop(), config.shutdownTimeoutMs, logger));
    await openInstallation(database, tenants, { origin: config.logOrigin, defaultTenant: DEFAULT_TENANT });

    const signing = await openSigning(database, {
      keyPath: config.logKeyPath,
      lockPath: config.signLockPath,
      adoptLock: config.signLockAdopt,
      intervalMs: config.checkpointIntervalMs,
      witnesses: config.witnesses ?? [],
      witnessTimeoutMs: config.witnessTimeoutMs,
      logger,
    });
    stops.push(() => withDeadline(signing.stop(), config.shutdownTimeoutMs, logger));
    const appendLimits: AppendLimits = {
      idempotencyWindowMs: config.idempotencyWindowDays * DAY_MS,
      maxClockSkewMs: config.maxClockSkewSeconds * 1_000,
      now: Date.now,
      checkHead: (log, head) => signing.checkpoints.checkHead(log, head),
    };
    const indexing = config.indexWorker
      ? new IndexThread({
          access: () => database.writeAccess(),
          onFailure: (error) => logger.warn({ err: error }, "entries are not indexed for text search, or not all"),
          onRecovery: () => logger.info("entries are indexed again"),
        })
      : undefined;
    if (indexing !== undefined) stops.push(() => withDeadline(indexing.stop(), config.shutdownTimeoutMs, logger));
    const growth = new Growth({
      url: config.databaseListen ? () => database.url : undefined,
      send: (statement, values) => database.query(statement, values),
      onError: (error) => logger.warn({ err: error }, "what other servers record is noticed later: LISTEN was lost"),
    });
    stops.push(() => growth.stop());
    if (indexing !== undefined) growth.onGrowth((logId) => indexing.grew(logId));
    const sequencer = openSequencer({ config, opened, signing, growth, appendLimits, logger });
    const tenant = (await tenants.find(DEFAULT_TENANT))!;
    const issuedKeys = new IssuedKeys({ database, sequencer, apiKeys, tenants });
    const isFirst = (await issuedKeys.list(tenant.tenantId)).length === 0;
    // Kept before they are used: a start that fails further on leaves nothing that the next one does not know.
    const kept = await keepSecrets(config.dataDir, {
      tenant: DEFAULT_TENANT,
      admin_token: config.adminToken ?? newToken("tallyadmin_"),
      ...((isFirst || config.apiKey !== undefined) && { api_key: config.apiKey ?? newToken(SECRET_PREFIX) }),
    });
    const adminToken = config.adminToken ?? kept.admin_token;
    const secret = config.apiKey ?? kept.api_key;
    const bySetting = config.apiKey !== undefined;
    const isOurs =
      secret !== undefined && (await ensureFirstKey({ issuedKeys, apiKeys, logger }, tenant, { secret, bySetting }));
    const apiKey = isOurs ? secret : undefined;
    const secretOfLog = replaySecret(signing.key.seed);
    const watch = new Watch({
      sequencer,
      tenants,
      intervalMs: config.watchIntervalMs,
      recordReads: config.recordReads,
      secrets: [adminToken, secret].filter((one) => one !== undefined),
      onError: (error, what) => logger.warn({ err: error }, `not recorded, or not yet: ${what}`),
    });
    const metrics = new Metrics(lagOf(database));
    const streams = new Streams({ database, growth, limits: config, metrics, logger });
    const app = await buildServer(
      {
        database,
        tenants,
        tenantChanges: new TenantChanges({ sequencer, tenants }),
        watch,
        streams,
        issuedKeys,
        issuedCertificates: new IssuedCertificates({ database, sequencer, certificates, tenants }),
        sequencer,
        appendLimits,
        signing,
        receipts: new Receipts({ database, checkpoints: signing.checkpoints, tiles: signing.tiles }),
        publishers,
        publisherKeys: new PublisherKeys({ database, sequencer, publishers }),
        metrics,
        masking: new Masking({ keys: config.maskedKeys, cardNumbers: config.maskCardNumbers }),
        replaySecret: secretOfLog,
        cursors: new Cursors(secretOfLog),
        rateLimits,
        bodies: new Bodies(config.bodiesMaxBytes),
        gate: new Gate({
          tenants,
          rateLimits,
          authentication: new Authentication({
            adminToken: new AdminToken(adminToken),
            apiKeys,
            tokens,
            certificates,
            proxies,
            guesses: new Guesses(config.refusedCredentialsLimit),
          }),
        }),
        readiness: readinessOf({
          database,
          unmet,
          maxClockSkewSeconds: config.maxClockSkewSeconds,
          signing,
          weakLock: isWeak(config),
          tls,
        }),
      },
      {
        logger,
        requestTimeoutMs: config.requestTimeoutMs,
        corsOrigins: config.corsOrigins ?? [],
        publicLog: config.publicLog,
        tls,
        proxies,
        limits: config,
      },
    );
    const url = await listen(app, config);
    if (tls !== undefined) {
      tls.watch(app.server as unknown as HttpsServer);
      stops.push(async () => tls.stop());
    }
    growth.start();
    signing.publication.start();
    indexing?.start();
    signing.witnesses.start();
    stops.push(() =>
      withDeadline(
        drainHttp(app, () => streams.stop())
          .then(() => watch.stop())
          .then(() => sequencer.drain()),
        config.shutdownTimeoutMs,
        logger,
      ),
    );
    const place = () => ({ url, database_url: opened.ownerUrl });
    keepPlace = () =>
      writeCredentials(config.dataDir, { ...kept, ...place() }).catch((error: unknown) =>
        logger.error({ err: error }, "credentials.json could not be brought up to date"),
      );
    await writeCredentials(config.dataDir, { ...kept, ...place() });
    const { api_key: _, ...others } = kept;
    const credentials = {
      ...others,
      ...place(),
      admin_token: adminToken,
      ...(apiKey !== undefined && { api_key: apiKey }),
    };
    let stopped: Promise<void> | undefined;
    return { url, credentials, firstStart: kept.url === undefined, stop: () => (stopped ??= stopAll()) };
  } catch (error) {
    await stopAll();
    throw error;
  }
}

/** The sequencer, which tells what signs of each commit, and asks for the database back where a commit does not reach it. */
function openSequencer(parts: {
  config: Config;
  opened: OpenDatabase;
  signing: Signing;
  growth: Growth;
  appendLimits: AppendLimits;
  logger: FastifyBaseLogger;
}): Sequencer {
  const { config, opened, growth, appendLimits, logger } = parts;
  const { checkpoints, publication } = parts.signing;
  return new Sequencer(opened.database, {
    ...appendLimits,
    maxBatchEvents: config.commitBatchMaxEvents,
    maxQueuedEvents: config.queueMaxEvents,
    maxQueuedBytes: config.queueMaxBytes,
    onCommit: ({ edges }) => {
      for (const [logId, edge] of edges) {
        checkpoints.committed(logId, edge);
        publication.grew(logId);
        growth.grew(logId);
      }
    },
    pause: (attempt) => delay(attempt * SETTLE_PAUSE_MS),
    onError: (error) => {
      if (isRefusal(error)) return;
      logger.error({ err: error }, "a commit failed");
      if (isConnectionError(error)) opened.revive();
    },
  });
}

/** Whether a commit was refused and nothing failed: whoever asked is told why, and of an unsignable log the server's log was. */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof AppendError)) return false;
  return error.code === "unsignable" || (error.code === "refused" && !(error.cause instanceof pg.DatabaseError));
}

/** Whether a copy of the database that is put back takes the sign-lock with it. */
function isWeak({ database, dataDir, signLockPath }: Config): boolean {
  return database.kind === "embedded" && signLockPath.startsWith(`${dataDir}/`);
}

/** Waits for work to end, and goes on without what has not ended in time. */
async function withDeadline(work: Promise<void>, deadlineMs: number, logger: FastifyBaseLogger): Promise<void> {
  const controller = new AbortController();
  const late = delay(deadlineMs, true, { signal: controller.signal, ref: false }).catch(() => false);
  if ((await Promise.race([work.then(() => false), late])) === true)
    logger.warn(`work was still under way after ${deadlineMs} ms`);
  controller.abort();
}
