/**
 * Migrations: the numbered files of packages/server/sql, applied in order, once, under a lock.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import pg from "pg";

const LOCK_TIMEOUT_MS = 60_000;
const MAX_ATTEMPTS = 5;
const SQL_DIR = new URL("../../sql/", import.meta.url);

export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: string;
  /** Hex SHA-256 of the file: a released file never changes. */
  readonly sha256: string;
}

export interface AppliedMigration {
  readonly version: number;
  readonly name: string;
  readonly sha256: string;
  readonly applied_at: Date;
  readonly applied_by: string;
}

/** Thrown when the database and the files disagree in a way that running more files would make worse. */
export class MigrationError extends Error {
  readonly code: "changed" | "unknown" | "failed" | "too_old" | "locked";
  constructor(code: MigrationError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "MigrationError";
    this.code = code;
  }
}

/** The migrations that this version of the program knows, in order. */
export function knownMigrations(): Migration[] {
  return readdirSync(SQL_DIR)
    .filter((file) => /^\d{4}_[a-z0-9_]+\.sql$/.test(file))
    .sort()
    .map((file) => {
      const sql = readFileSync(new URL(file, SQL_DIR), "utf8");
      const sha256 = createHash("sha256").update(sql).digest("hex");
      return { version: Number(file.slice(0, 4)), name: file.slice(5, -4), sql, sha256 };
    });
}

/**
 * Applies what is not applied yet, all in one transaction, under a lock that other migrators wait for.
 *
 * @param adminUrl a superuser, or a role that may create roles and schemas.
 * @param passwords for the login roles; a role without one keeps what it has.
 * @returns the migrations applied now; empty when there was nothing to do.
 * @throws {MigrationError} `too_old` for PostgreSQL before 15; `changed` or `unknown` when an applied file is not the one this
 *   program has; `locked` when another session does not let go of the lock; `failed` with PostgreSQL's error as cause. Nothing is applied then.
 */
export async function migrateUp(
  adminUrl: string,
  passwords: Readonly<Record<string, string>> = {},
): Promise<Migration[]> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await migrateOnce(adminUrl, passwords);
    } catch (error) {
      // Roles are the cluster's: a migrator of another database of it was at them at the same moment.
      if (attempt === MAX_ATTEMPTS || !/tuple concurrently updated/.test((error as Error).message)) throw error;
    }
  }
}

async function migrateOnce(adminUrl: string, passwords: Readonly<Record<string, string>>): Promise<Migration[]> {
  return withClient(adminUrl, async (client) => {
    const { rows } = await client.query<{ number: number; version: string }>(
      "select current_setting('server_version_num')::int as number, current_setting('server_version') as version",
    );
    if (rows[0]!.number < 150_000) {
      throw new MigrationError("too_old", `PostgreSQL 15 or newer is needed; this server is ${rows[0]!.version}`);
    }
    await client.query("begin");
    try {
      await client.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
      await takeLock(client);
      const applied = await readApplied(client);
      const pending = pendingAfter(applied, knownMigrations());
      for (const migration of pending) await apply(client, migration);
      for (const [role, password] of Object.entries(passwords)) {
        await client.query(`alter role ${pg.escapeIdentifier(role)} password ${pg.escapeLiteral(password)}`);
      }
      await client.query("commit");
      return pending;
    } catch (error) {
      await client.query("rollback");
      throw error;
    }
  });
}

/** What has been applied, oldest first; empty for a database that was never migrated. */
export async function appliedMigrations(adminUrl: string): Promise<AppliedMigration[]> {
  return withClient(adminUrl, readApplied);
}

/**
 * What is still to be applied.
 * @throws {MigrationError} `changed` or `unknown`, see {@link migrateUp}.
 */
export function pendingAfter(applied: readonly AppliedMigration[], known: readonly Migration[]): Migration[] {
  for (const { version, name, sha256 } of applied) {
    const file = known.find((migration) => migration.version === version);
    if (file === undefined) {
      throw new MigrationError(
        "unknown",
        `the database has migration ${version} (${name}), which this version of Tallystick does not know: run the newer version`,
      );
    }
    if (file.sha256 !== sha256) {
      throw new MigrationError(
        "changed",
        `migration ${version} (${name}) is not the file that was applied to this database: restore the released file`,
      );
    }
  }
  const done = new Set(applied.map(({ version }) => version));
  return known.filter(({ version }) => !done.has(version));
}

async function takeLock(client: pg.Client): Promise<void> {
  try {
    await client.query("select pg_advisory_xact_lock(hashtextextended('tallystick.migrate', 0))");
  } catch (cause) {
    const seconds = LOCK_TIMEOUT_MS / 1000;
    const message = `another session has held the lock of migrations for ${seconds} s: see pg_locks, locktype "advisory", and end it`;
    throw new MigrationError("locked", message, { cause });
  }
}

async function apply(client: pg.Client, migration: Migration): Promise<void> {
  const asAdmin = migration.sql.startsWith("-- role: admin\n");
  try {
    await client.query(asAdmin ? "reset role" : "set local role tallystick_owner");
    await client.query(migration.sql);
    await client.query("set local role tallystick_owner");
    await client.query(`create table if not exists tallystick.migrations (
      version integer constraint migrations_pkey primary key, name text not null, sha256 text not null,
      applied_at timestamptz not null default now(), applied_by text not null default session_user)`);
    await client.query(
      "grant select on tallystick.migrations to tallystick_writer, tallystick_reader, tallystick_auditor",
    );
    await client.query("insert into tallystick.migrations (version, name, sha256) values ($1, $2, $3)", [
      migration.version,
      migration.name,
      migration.sha256,
    ]);
    await client.query("reset role");
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new MigrationError("failed", `migration ${migration.version} (${migration.name}) failed: ${message}`, {
      cause,
    });
  }
}

async function readApplied(client: pg.Client): Promise<AppliedMigration[]> {
  const { rows: table } = await client.query<{ found: boolean }>(
    "select to_regclass('tallystick.migrations') is not null as found",
  );
  if (!table[0]?.found) return [];
  const { rows } = await client.query<AppliedMigration>(
    "select version, name, sha256, applied_at, applied_by from tallystick.migrations order by version",
  );
  return rows;
}

async function withClient<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: "tallystick migrate" });
  client.on("error", () => {}); // the next statement reports it; without a listener it would end the process
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}
