/**
 * DATA_DIR/credentials.json: what the first start made, for the people and programs on this machine that may read it.
 */
import { randomBytes } from "node:crypto";
import { chmod, link, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { StartError } from "./start-error.ts";

/** Made once: a start that finds them never replaces them. */
export interface Secrets {
  readonly tenant: string;
  readonly admin_token: string;
  /** None where the tenant had keys already when DATA_DIR was new, as of a second replica. */
  readonly api_key?: string;
}

export interface Credentials extends Secrets {
  readonly url: string;
  /** The owner of the data: a superuser's, where the server runs its own PostgreSQL. */
  readonly database_url: string;
}

/** As they are kept: until a server has listened, only the secrets. */
export type KeptCredentials = Secrets & Partial<Credentials>;

const FILE = "credentials.json";

/**
 * What an earlier start kept; undefined at the first.
 * @throws {StartError} `credentials_unreadable`: new ones would lock out whoever uses the old.
 */
export async function readCredentials(dataDir: string): Promise<KeptCredentials | undefined> {
  const path = join(dataDir, FILE);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as { code?: unknown }).code === "ENOENT") return undefined;
    throw new StartError(
      "credentials_unreadable",
      `${path} cannot be read (${(cause as Error).message}): give this user the right to, or move it away for a new admin token`,
      { cause },
    );
  }
  try {
    const credentials = JSON.parse(text) as KeptCredentials;
    if (typeof credentials.admin_token !== "string") throw new TypeError("admin_token is missing");
    if (!["string", "undefined"].includes(typeof credentials.api_key)) throw new TypeError("api_key is no text");
    return credentials;
  } catch (cause) {
    throw new StartError(
      "credentials_unreadable",
      `${path} is damaged (${(cause as Error).message}): restore it, or move it away for a new admin token`,
      { cause },
    );
  }
}

/**
 * Keeps the secrets unless some are kept. Of any number of starts at once one wins.
 * @returns those that are kept now.
 * @throws {StartError} `credentials_unreadable`.
 */
export async function keepSecrets(dataDir: string, secrets: Secrets): Promise<KeptCredentials> {
  for (;;) {
    const kept = await readCredentials(dataDir);
    if (kept !== undefined) return kept;
    const next = await writeBeside(dataDir, secrets);
    try {
      await link(next, join(dataDir, FILE)); // unlike rename(), never in place of another's
      return secrets;
    } catch (error) {
      if ((error as { code?: unknown }).code !== "EEXIST") throw error;
    } finally {
      await rm(next, { force: true });
    }
  }
}

/** Keeps where server and database are, beside the secrets that are kept already. A reader never sees half a file. */
export async function writeCredentials(dataDir: string, credentials: Credentials): Promise<void> {
  await rename(await writeBeside(dataDir, credentials), join(dataDir, FILE));
}

/** Readable by the owner only. */
async function writeBeside(dataDir: string, credentials: KeptCredentials): Promise<string> {
  await mkdir(dataDir, { recursive: true });
  const path = join(dataDir, `${FILE}.${randomBytes(6).toString("hex")}`);
  await writeFile(path, `${JSON.stringify(credentials, null, 2)}\n`, { mode: 0o600 });
  await chmod(path, 0o600);
  return path;
}

/** A token that cannot be guessed: 160 random bits. */
export function newToken(prefix: string): string {
  return prefix + randomBytes(20).toString("hex");
}
