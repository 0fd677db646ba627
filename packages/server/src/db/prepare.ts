/**
 * Before a database is used: migrations, and whether it can keep what the server promises.
 */
import pg from "pg";
import { StartError } from "../start-error.ts";
import type { Database } from "./database.ts";
import { appliedMigrations, knownMigrations, migrateUp, pendingAfter } from "./migrate.ts";

/** Roles that get a password where the server runs its own PostgreSQL. */
export const SERVER_ROLES = [
  "tallystick_owner",
  "tallystick_writer",
  "tallystick_reader",
  "tallystick_auditor",
  "tallystick_retention",
] as const;

/**
 * Brings the schema up to date where `adminUrl` is given, else checks that it is.
 * @throws {StartError} `not_migrated`. @throws {import("./migrate.ts").MigrationError}
 */
export async function prepareDatabase(options: {
  url: string;
  adminUrl: string | undefined;
  passwords?: Readonly<Record<string, string>>;
  say: (message: string) => void;
}): Promise<void> {
  const adminUrl = options.adminUrl ?? ((await mayMigrate(options.url)) ? options.url : undefined);
  if (adminUrl !== undefined) {
    const applied = await migrateUp(adminUrl, options.passwords);
    if (applied.length > 0) options.say(`the schema was migrated: ${applied.map(({ name }) => name).join(", ")}`);
    return;
  }
  const pending = pendingAfter(await appliedMigrations(options.url), knownMigrations());
  if (pending.length > 0) {
    throw new StartError(
      "not_migrated",
      `the database lacks the migrations ${pending.map(({ name }) => name).join(", ")}: run "tallystick migrate up" with DATABASE_ADMIN_URL set to a role that may make roles and schemas`,
    );
  }
}

/** Whether a URL's role may make roles and schemas: the case of an operator who gives a single, privileged URL. */
async function mayMigrate(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, application_name: "tallystick start" });
  client.on("error", () => {}); // the next statement reports it; without a listener it would end the process
  await client.connect();
  try {
    const { rows } = await client.query<{ may: boolean }>(
      `select (rolsuper or rolcreaterole) and has_database_privilege(current_database(), 'create') as may
       from pg_roles where rolname = current_user`,
    );
    return rows[0]?.may ?? false;
  } finally {
    await client.end();
  }
}

/**
 * Whether COMMIT means durable here, and whether the clock can be trusted.
 * @throws {StartError} `unsafe_database`, `clock_skew`.
 */
export async function checkServer(database: Database, maxClockSkewSeconds: number): Promise<void> {
  const [row] = await database.query<{ fsync: string; full_page_writes: string; encoding: string; clock_ms: number }>(
    `select current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
       current_setting('server_encoding') as encoding, extract(epoch from clock_timestamp())::float8 * 1000 as clock_ms`,
  );
  for (const setting of ["fsync", "full_page_writes"] as const) {
    if (row![setting] !== "on") {
      throw new StartError(
        "unsafe_database",
        `PostgreSQL runs with ${setting} = ${row![setting]}: a crash could lose acknowledged entries. Set it on and reload PostgreSQL`,
      );
    }
  }
  if (row!.encoding !== "UTF8") {
    throw new StartError(
      "unsafe_database",
      `the database's encoding is ${row!.encoding}: leaves are UTF-8. Make a database with encoding UTF8`,
    );
  }
  const skewSeconds = (row!.clock_ms - Date.now()) / 1000;
  if (Math.abs(skewSeconds) > maxClockSkewSeconds) {
    throw new StartError(
      "clock_skew",
      `the database's clock is ${Math.abs(Math.round(skewSeconds))} s ${skewSeconds > 0 ? "ahead of" : "behind"} this server's: entries are stamped by it and never go back. Set both clocks by NTP`,
    );
  }
}
