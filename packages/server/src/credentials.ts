/**
 * DATA_DIR/credentials.json: what the first start made, for the people and programs on this machine that may read it.
 */
import { randomBytes } from "node:crypto";
import { chmod, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { StartError } from "./start-error.ts";

export interface Credentials {
  readonly url: string;
  readonly tenant: string;
  readonly admin_token: string;
  readonly api_key: string;
  /** The owner of the data: a superuser's, where the server runs its own PostgreSQL. */
  readonly database_url: string;
}

const FILE = "credentials.json";

/**
 * What an earlier start kept; undefined at the first.
 * @throws {StartError} `credentials_unreadable`: new ones would lock out whoever uses the old.
 */
export async function readCredentials(dataDir: string): Promise<Credentials | undefined> {
  const path = join(dataDir, FILE);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as { code?: unknown }).code === "ENOENT") return undefined;
    throw new StartError(
      "credentials_unreadable",
      `${path} cannot be read (${(cause as Error).message}): give this user the right to, or move it away for new credentials`,
      { cause },
    );
  }
  try {
    const credentials = JSON.parse(text) as Credentials;
    if (typeof credentials.api_key === "string" && typeof credentials.admin_token === "string") return credentials;
    throw new TypeError("api_key or admin_token is missing");
  } catch (cause) {
    throw new StartError(
      "credentials_unreadable",
      `${path} is damaged (${(cause as Error).message}): restore it, or move it away for new credentials`,
      { cause },
    );
  }
}

/** Keeps the credentials, readable by the owner only; a reader never sees half a file. */
export async function writeCredentials(dataDir: string, credentials: Credentials): Promise<void> {
  await mkdir(dataDir, { recursive: true });
  const path = join(dataDir, FILE);
  const next = `${path}.${process.pid}`;
  await writeFile(next, `${JSON.stringify(credentials, null, 2)}\n`, { mode: 0o600 });
  await chmod(next, 0o600);
  await rename(next, path);
}

/** A token that cannot be guessed: 160 random bits. */
export function newToken(prefix: string): string {
  return prefix + randomBytes(20).toString("hex");
}
