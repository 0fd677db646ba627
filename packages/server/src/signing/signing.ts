/**
 * The signing part of a server, from its key and lock to the checkpoints it publishes.
 */
import type { Database } from "../db/database.ts";
import { LogReader } from "../log/log-reader.ts";
import { TileReader } from "../log/tile-reader.ts";
import { StartError } from "../start-error.ts";
import { Checkpoints } from "./checkpoints.ts";
import { type LogKey, openLogKey } from "./log-key.ts";
import { Publication } from "./publication.ts";
import { isSignedBy } from "./published.ts";
import { type SignedLog, SignLock, sameHead } from "./sign-lock.ts";
import { Signer, SignerError } from "./signer.ts";
import type { WitnessLogger } from "./witness-link.ts";
import type { WitnessAddress } from "./witness-request.ts";
import { Witnesses } from "./witnesses.ts";

export interface SigningOptions {
  readonly keyPath: string;
  readonly lockPath: string;
  /** Makes the lock from the database's newest checkpoints where it does not know them. */
  readonly adoptLock: boolean;
  readonly intervalMs: number;
  /** Who is asked to cosign. */
  readonly witnesses: readonly WitnessAddress[];
  readonly witnessTimeoutMs: number;
  readonly logger: WitnessLogger;
}

export interface Signing {
  readonly key: LogKey;
  readonly tiles: TileReader;
  readonly checkpoints: Checkpoints;
  readonly publication: Publication;
  readonly signer: Signer;
  readonly witnesses: Witnesses;
  /** Logs that were signed and that the database does not have. */
  readonly missingLogs: readonly string[];
  stop(): Promise<void>;
}

/**
 * Opens key and lock, and compares the lock with the database: before anything is signed or recorded.
 *
 * @throws {StartError} `log_key`, `sign_lock`.
 */
export async function openSigning(database: Database, options: SigningOptions): Promise<Signing> {
  const { lockPath, logger } = options;
  const key = await openLogKey(database, options.keyPath, logger);
  const existed = SignLock.exists(lockPath);
  const published = await publishedCheckpoints(database, key);
  if (!existed && published.length > 0 && !options.adoptLock) {
    // Not made by the look at it: the next start must find it missing as well.
    throw lockBehind(lockPath, published);
  }
  if (options.adoptLock)
    logger.warn(
      { path: lockPath },
      "SIGN_LOCK_ADOPT is set: the next lock that is lost would be made anew without a word. Unset it",
    );
  const signer = await openSigner(lockPath, key);
  try {
    const locked = new Map((await signer.all()).map((signed) => [signed.log, signed]));
    // The lock has a head before it is published: one that knows less of the same history has gone back itself. Of another
    // history it is the lock that is right.
    const found = await signedLogs(database, [...locked.values()]);
    const ahead = published.filter(({ log, size }) => {
      const last = locked.get(log);
      return last === undefined || (last.size < size && found.get(log)?.root?.equals(last.root));
    });
    if (ahead.length > 0 && !options.adoptLock) throw lockBehind(lockPath, ahead);
    for (const checkpoint of ahead) {
      if (!(await signer.adopt(checkpoint))) continue;
      locked.set(checkpoint.log, checkpoint);
      logger.info(`the sign-lock now knows ${checkpoint.log} at size ${checkpoint.size}`);
    }
    const tiles = new TileReader();
    const witnesses = new Witnesses({
      database,
      addresses: options.witnesses,
      timeoutMs: options.witnessTimeoutMs,
      reader: new LogReader(database, tiles),
      newest: (log) => checkpoints.published(log),
      logger,
    });
    const checkpoints = new Checkpoints({
      database,
      signer,
      publicKey: key.publicKey,
      tiles,
      logger,
      onPublished: (log, checkpoint) => witnesses.offer(log, checkpoint),
    });
    const missingLogs = await compare(database, checkpoints, [...locked.values()], published);
    for (const log of missingLogs) {
      logger.error(
        { log },
        `${log} was signed before, and this database has no such log: was an old backup restored? See docs/runbook.md`,
      );
    }
    const publication = new Publication({
      database,
      checkpoints,
      intervalMs: options.intervalMs,
      onFailure: (error) => logger.error({ err: error }, "checkpoints cannot be published: tried again every interval"),
      onRecovery: () => logger.info("checkpoints are published again"),
    });
    const stop = async () => {
      await publication.stop();
      await witnesses.stop();
      await signer.close();
    };
    return { key, tiles, checkpoints, publication, signer, witnesses, missingLogs, stop };
  } catch (error) {
    await signer.close();
    throw error;
  }
}

async function openSigner(lockPath: string, key: LogKey): Promise<Signer> {
  try {
    return await Signer.open(lockPath, key);
  } catch (cause) {
    if (!(cause instanceof SignerError)) throw cause;
    throw new StartError(
      "sign_lock",
      `the sign-lock ${lockPath} cannot be opened (${(cause.cause as Error).message}): give this user the right to write it and its directory, or set SIGN_LOCK_PATH. One that is damaged is lost: move it away, and see docs/runbook.md`,
      { cause },
    );
  }
}

/** The newest published checkpoint of each log that this key has signed: whoever may insert rows may insert others. */
async function publishedCheckpoints(database: Database, key: LogKey): Promise<SignedLog[]> {
  const rows = await database.query<{ name: string; size: string; root: Buffer; note: string }>(
    "select name, size, root, note from tallystick.newest_checkpoints()",
  );
  const newest = new Map<string, SignedLog>();
  for (const { name, size, root, note } of rows) {
    const signed = { log: name, size: Number(size), root, note };
    if (!newest.has(name) && isSignedBy(key.publicKey, name, signed)) newest.set(name, signed);
  }
  return [...newest.values()];
}

interface FoundLog {
  readonly name: string;
  /** Null where the database has no such log. */
  readonly log_id: number | null;
  readonly tenant_id: string;
  readonly current: boolean;
  /** At the signed size; null where the log has no head of that size. */
  readonly root: Buffer | null;
  readonly newest_size: string;
  readonly newest_root: Buffer;
}

/** What the database has of the logs of this installation that were signed, by name. */
async function signedLogs(database: Database, signed: readonly SignedLog[]): Promise<Map<string, FoundLog>> {
  const [installation] = await database.query<{ origin: string }>("select origin from tallystick.installation");
  const ours = signed.filter(({ log }) => log.startsWith(`${installation!.origin}/`));
  const rows = await database.query<FoundLog & Record<string, unknown>>(
    "select name, log_id, tenant_id, current, root, newest_size, newest_root from tallystick.signed_logs($1, $2)",
    [ours.map(({ log }) => log), ours.map(({ size }) => size)],
  );
  return new Map(rows.map((row) => [row.name, row]));
}

/** @returns the logs of this installation that were signed and are not in the database. */
async function compare(
  database: Database,
  checkpoints: Checkpoints,
  signed: readonly SignedLog[],
  published: readonly SignedLog[],
): Promise<string[]> {
  const found = await signedLogs(database, signed);
  const newestPublished = new Map(published.map((checkpoint) => [checkpoint.log, checkpoint]));
  const missing: string[] = [];
  for (const { log: name, size, root } of signed) {
    const here = found.get(name);
    if (here === undefined) continue; // another installation's
    if (here.log_id === null) missing.push(name);
    if (here.log_id === null || !here.current) continue; // a log that has a successor is closed, whatever was wrong with it
    const log = { logId: here.log_id, tenantId: here.tenant_id, name };
    const newest = { size: Number(here.newest_size), root: here.newest_root };
    checkpoints.compare(log, { size, root }, here.root === null ? newest : { size, root: here.root });
    const shown = newestPublished.get(name);
    if (shown?.size === size && !sameHead(shown, { size, root })) checkpoints.refuseForked(log, { size, root }, shown);
  }
  await refusePredecessors(database, checkpoints, missing);
  return missing;
}

/** A log whose successor was signed is closed, also where the database has forgotten the successor. */
async function refusePredecessors(
  database: Database,
  checkpoints: Checkpoints,
  missing: readonly string[],
): Promise<void> {
  for (const name of missing) {
    const [, slug] = /\/([a-z0-9_-]+)\.\d+$/.exec(name) ?? [];
    if (slug === undefined) continue;
    const [current] = await database.query<{ logId: number; tenantId: string; name: string }>(
      `select l.id as "logId", l.tenant_id as "tenantId", l.name from tallystick.logs l join tallystick.tenants t on t.id = l.tenant_id
       where t.slug = $1 and not exists (select from tallystick.logs successor where successor.predecessor_id = l.id)`,
      [slug],
    );
    if (current !== undefined) checkpoints.refuseClosed(current, name);
  }
}

function lockBehind(lockPath: string, logs: readonly { log: string; size: number }[]): StartError {
  const [first] = logs;
  const named = `${first!.log} at size ${first!.size}${logs.length === 1 ? "" : ` and ${logs.length - 1} more`}`;
  return new StartError(
    "sign_lock",
    `the sign-lock ${lockPath} does not know checkpoints that this database has published (${named}): it is missing, another server's, or an old copy. Put the right file back, or set SIGN_LOCK_PATH to where it is. If it is lost, compare the newest checkpoint with what witnesses and holders of receipts have, and start once with SIGN_LOCK_ADOPT=true`,
  );
}
