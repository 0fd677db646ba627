/**
 * The log key: the Ed25519 key that signs the checkpoints of every log of the installation.
 */
import { createPrivateKey, generateKeyPairSync, randomBytes } from "node:crypto";
import { chmod, link, mkdir, open, readFile, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { signer } from "@tallystick/core/ed25519";
import type { Database } from "../db/database.ts";
import { StartError } from "../start-error.ts";

/** The private key as its 32-byte seed, and the public key. */
export interface LogKey {
  readonly seed: Uint8Array;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
}

/**
 * The log key in the file, made at the first start, and told to the database by whoever comes first.
 *
 * @throws {StartError} `log_key`: the file is missing although the database knows a key, is not readable, no Ed25519 key in
 *   PKCS#8 PEM, open to other users, or another key than the database's. The server would sign what nobody could verify.
 */
export async function openLogKey(
  database: Database,
  path: string,
  logger: { info(message: string): void },
): Promise<LogKey> {
  const known = await knownKey(database);
  let key = await readKey(path);
  if (key === undefined) {
    if (known !== undefined) missing(path);
    key = await makeKey(path);
    logger.info(`made the log key ${path}, which signs every checkpoint: keep a copy of it elsewhere`);
  }
  await database.query("insert into tallystick.log_keys (public_key) values ($1) on conflict do nothing", [
    Buffer.from(key.publicKey),
  ]);
  const recorded = await knownKey(database); // another server may have been faster
  if (recorded === undefined || !recorded.equals(key.publicKey)) {
    throw new StartError(
      "log_key",
      `the log key in ${path} is not this database's (its public key is ${recorded?.toString("base64")}): every replica signs with the same key. Copy the file from the server that made it, or set LOG_KEY_PATH to it`,
    );
  }
  return key;
}

async function knownKey(database: Database): Promise<Buffer | undefined> {
  const [row] = await database.query<{ public_key: Buffer }>("select public_key from tallystick.log_keys");
  return row?.public_key;
}

async function readKey(path: string): Promise<LogKey | undefined> {
  let pem: string;
  try {
    pem = await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as { code?: unknown }).code === "ENOENT") return undefined;
    throw refused(path, `cannot be read (${(cause as Error).message}): give this user the right to`, cause);
  }
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0) {
    throw refused(path, `is open to other users (mode ${(mode & 0o777).toString(8)}): chmod 600 ${path}`);
  }
  try {
    const { kty, crv, d } = createPrivateKey(pem).export({ format: "jwk" });
    if (kty !== "OKP" || crv !== "Ed25519" || d === undefined) throw new TypeError(`it is a key of type ${crv ?? kty}`);
    const seed = new Uint8Array(Buffer.from(d, "base64url"));
    return { seed, publicKey: signer(seed).publicKey };
  } catch (cause) {
    throw refused(
      path,
      `holds no Ed25519 private key in PKCS#8 PEM (${(cause as Error).message}): restore it from where it is kept`,
      cause,
    );
  }
}

/** Of any number of first starts on one path, one makes the key. */
async function makeKey(path: string): Promise<LogKey> {
  const { privateKey } = generateKeyPairSync("ed25519");
  const next = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(next, "wx", 0o600);
    try {
      await file.writeFile(privateKey.export({ type: "pkcs8", format: "pem" }));
      await file.sync();
    } finally {
      await file.close();
    }
    await chmod(next, 0o600);
    await link(next, path); // unlike rename(), never in place of another's
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== "EEXIST") {
      throw refused(path, `cannot be made (${(cause as Error).message}): set LOG_KEY_PATH to a place that can`, cause);
    }
  } finally {
    await rm(next, { force: true });
  }
  await syncDirectory(dirname(path));
  return (await readKey(path)) ?? missing(path);
}

/** A key that is lost in a power cut after its first signature could never sign again. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function missing(path: string): never {
  throw refused(
    path,
    "is missing, and this database's checkpoints were signed with it: put it back, or set LOG_KEY_PATH to where it is",
  );
}

function refused(path: string, what: string, cause?: unknown): StartError {
  return new StartError("log_key", `the log key ${path} ${what}`, { cause });
}
