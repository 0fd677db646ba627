/**
 * The database that a command works on: the one that is named, the one of the settings, or the server's own PostgreSQL.
 */
import { existsSync } from "node:fs";
import type { Config } from "@tallystick/server/config";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "@tallystick/server/db/embedded";
import { dataFiles } from "@tallystick/server/db/embedded-cluster";
import { CliError } from "./errors.ts";

export interface OpenDatabase {
  /** With the most rights that there are: the superuser's, DATABASE_ADMIN_URL, or DATABASE_URL. */
  readonly url: string;
  /** Where the server runs its own PostgreSQL. */
  readonly embedded: EmbeddedPostgres | undefined;
}

export interface OpenOptions {
  readonly config: Config;
  /** A URL from the command line, in place of the settings. */
  readonly url?: string | undefined;
  /** Whether a data directory that is not there is made. */
  readonly create?: boolean;
  readonly say?: (message: string) => void;
}

/**
 * Runs `use` on the database. The server's own PostgreSQL is started where it is down, and stopped again unless a server
 * or another command uses it by then.
 *
 * @throws {CliError} where there is no data yet. @throws {import("@tallystick/server/db/embedded").EmbeddedPostgresError}
 */
export async function withDatabase<T>(
  { config, url, create = false, say }: OpenOptions,
  use: (database: OpenDatabase) => Promise<T>,
): Promise<T> {
  if (url !== undefined) return use({ url, embedded: undefined });
  if (config.database.kind === "external") {
    return use({ url: config.database.adminUrl ?? config.database.url, embedded: undefined });
  }
  const files = dataFiles(config.dataDir);
  if (!create && !existsSync(files.cluster) && !existsSync(files.location)) {
    throw new CliError(
      `there is no data in ${config.dataDir} yet: start the server once ("tallystick serve"), or set DATA_DIR or DATABASE_URL to where it is`,
    );
  }
  const embedded = await startEmbeddedPostgres({ dataDir: config.dataDir, ...(say !== undefined && { log: say }) });
  try {
    return await use({ url: embedded.adminUrl, embedded });
  } finally {
    await embedded.stop();
  }
}
