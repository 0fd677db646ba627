/**
 * `tallystick migrate`: the schema of the database, brought up to date and looked at.
 */
import { loadConfig } from "@tallystick/server/config";
import {
  type AppliedMigration,
  appliedMigrations,
  knownMigrations,
  migrateUp,
  pendingAfter,
} from "@tallystick/server/db/migrate";
import { SERVER_ROLES } from "@tallystick/server/db/prepare";
import { Command } from "commander";
import { withDatabase } from "../connect.ts";
import { note, print, printJson } from "../output.ts";
import { formatTable } from "../table.ts";

interface Options {
  readonly json?: true;
}

export function migrateCommand(): Command {
  const command = new Command("migrate")
    .description("bring the database's schema up to date, or look at it")
    .addHelpText(
      "after",
      `
Works on DATABASE_ADMIN_URL, else DATABASE_URL, else on the server's own PostgreSQL in DATA_DIR. "serve" migrates by
itself where its role may; with DATABASE_ADMIN_URL set only here, the server never holds those rights.

Examples:
  $ DATABASE_ADMIN_URL=postgres://postgres:secret@db/tallystick tallystick migrate up
  $ tallystick migrate status`,
    );
  command
    .command("up")
    .description("apply what is not applied yet, all or nothing; any number may run at once")
    .option("--json", "print JSON")
    .action(up);
  command
    .command("status")
    .description("show which migrations are applied and which are to come")
    .option("--json", "print JSON")
    .action(status);
  command
    .command("history")
    .description("show what was applied, when, and by whom")
    .option("--json", "print JSON")
    .action(history);
  return command;
}

async function up(options: Options): Promise<void> {
  const applied = await withDatabase({ config: loadConfig(), create: true, say: note }, ({ url, embedded }) => {
    const passwords = embedded && Object.fromEntries(SERVER_ROLES.map((role) => [role, embedded.passwordFor(role)]));
    return migrateUp(url, passwords);
  });
  if (options.json) return printJson({ applied: applied.map(({ version, name }) => ({ version, name })) });
  if (applied.length === 0) return print("The schema is up to date; nothing was applied.");
  for (const { version, name } of applied) print(`applied ${numbered(version)} ${name}`);
}

async function status(options: Options): Promise<void> {
  const applied = await readApplied();
  const pending = pendingAfter(applied, knownMigrations());
  const rows = [
    ...applied.map(({ version, name, applied_at }) => ({ version, name, applied_at: applied_at.toISOString() })),
    ...pending.map(({ version, name }) => ({ version, name, applied_at: null })),
  ];
  if (options.json) return printJson({ up_to_date: pending.length === 0, migrations: rows });
  print(
    formatTable(
      ["migration", "name", "applied"],
      rows.map((row) => [numbered(row.version), row.name, row.applied_at ?? "pending"]),
    ),
  );
  if (pending.length > 0) print(`\n${pending.length} to be applied: run "tallystick migrate up"`);
}

async function history(options: Options): Promise<void> {
  const applied = await readApplied();
  if (options.json) return printJson(applied);
  print(
    formatTable(
      ["migration", "name", "applied", "by", "sha256"],
      applied.map((row) => [
        numbered(row.version),
        row.name,
        row.applied_at.toISOString(),
        row.applied_by,
        row.sha256.slice(0, 12),
      ]),
    ),
  );
}

function readApplied(): Promise<AppliedMigration[]> {
  return withDatabase({ config: loadConfig(), say: () => undefined }, ({ url }) => appliedMigrations(url));
}

/** As the file's name begins. */
function numbered(version: number): string {
  return String(version).padStart(4, "0");
}
