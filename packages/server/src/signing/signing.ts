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
import { type SignedLog, SignLock } from "./sign-lock.ts";
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
  const key = await openLogKey(database, options.keyPath);
  const existed = SignLock.exists(lockPath);
  const published = await publishedCheckpoints(database);
  if (!existed && published.length > 0 && !options.adoptLock) {
    // Not made by the look at it: the next start must find it missing as well.
    throw lockMissing(lockPath, published);
  }
  const signer = await openSigner(lockPath, key);
  try {
    const locked = new Map((await signer.all()).map((signed) => [signed.log, signed]));
    const unlocked = published.filter(({ log }) => !locked.has(log));
    if (unlocked.length > 0 && !options.adoptLock) throw lockMissing(lockPath, unlocked);
    for (const { log, size, root } of unlocked) {
      await signer.sign(log, { size, root }, undefined);
      locked.set(log, { log, size, root, note: "" });
      logger.info(`the sign-lock now knows ${log} at size ${size}`);
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
      tiles,
      logger,
      onPublished: (log, checkpoint) => witnesses.offer(log, checkpoint),
    });
    const missingLogs = await compare(database, checkpoints, [...locked.values()]);
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
      `${cause.message}. Give this user the right to write it and its directory, or set SIGN_LOCK_PATH`,
      { cause },
    );
  }
}

async function publishedCheckpoints(database: Database): Promise<Omit<SignedLog, "note">[]> {
  const rows = await database.query<{ name: string; size: string; root: Buffer }>(
    "select name, size, root from tallystick.newest_checkpoints()",
  );
  return rows.map(({ name, size, root }) => ({ log: name, size: Number(size), root }));
}

/** @returns the logs of this installation that were signed and are not in the database. */
async function compare(database: Database, checkpoints: Checkpoints, signed: readonly SignedLog[]): Promise<string[]> {
  const [installation] = await database.query<{ origin: string }>("select origin from tallystick.installation");
  const ours = signed.filter(({ log }) => log.startsWith(`${installation!.origin}/`));
  const rows = await database.query<{
    name: string;
    log_id: number | null;
    tenant_id: string;
    current: boolean;
    root: Buffer | null;
    newest_size: string;
    newest_root: Buffer;
  }>(`select name, log_id, tenant_id, current, root, newest_size, newest_root from tallystick.signed_logs($1, $2)`, [
    ours.map(({ log }) => log),
    ours.map(({ size }) => size),
  ]);
  const byName = new Map(ours.map((one) => [one.log, one]));
  for (const { name, log_id: logId, tenant_id: tenantId, current, root, newest_size, newest_root } of rows) {
    if (logId === null || !current) continue; // a log that has a successor is closed, whatever was wrong with it
    const last = byName.get(name)!;
    const newest = { size: Number(newest_size), root: newest_root };
    checkpoints.compare({ logId, tenantId, name }, last, root === null ? newest : { size: last.size, root });
  }
  return rows.filter(({ log_id }) => log_id === null).map(({ name }) => name);
}

function lockMissing(lockPath: string, logs: readonly { log: string; size: number }[]): StartError {
  const [first] = logs;
  const named = `${first!.log} at size ${first!.size}${logs.length === 1 ? "" : ` and ${logs.length - 1} more`}`;
  return new StartError(
    "sign_lock",
    `the sign-lock ${lockPath} does not know checkpoints that this database has published (${named}): put the file back, or set SIGN_LOCK_PATH to where it is. If it is lost, compare the newest checkpoint with what witnesses and holders of receipts have, and start once with SIGN_LOCK_ADOPT=true`,
  );
}
