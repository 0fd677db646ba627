#!/usr/bin/env node
/**
 * `tallystick`: the commands, and what their failures look like.
 */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { apiKeysCommand } from "./commands/api-keys.ts";
import { certificatesCommand } from "./commands/certificates.ts";
import { configCommand } from "./commands/config.ts";
import { demoCommand } from "./commands/demo.ts";
import { exportCommand } from "./commands/export.ts";
import { historyCommand } from "./commands/history.ts";
import { keysCommand } from "./commands/keys.ts";
import { logCommand } from "./commands/log.ts";
import { migrateCommand } from "./commands/migrate.ts";
import { searchCommand } from "./commands/search.ts";
import { serveCommand } from "./commands/serve.ts";
import { sqlCommand } from "./commands/sql.ts";
import { statsCommand } from "./commands/stats.ts";
import { tailCommand } from "./commands/tail.ts";
import { tenantsCommand } from "./commands/tenants.ts";
import { verifyCommand } from "./commands/verify.ts";
import { witnessCommand } from "./commands/witness.ts";
import { workerCommand } from "./commands/worker.ts";
import { describeError } from "./errors.ts";

/** Of a command line that makes no sense. */
const USAGE_EXIT_CODE = 2;

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const program = new Command("tallystick")
  .description("An append-only audit log on PostgreSQL whose every answer can be checked.")
  .version(version)
  .showHelpAfterError("(see --help)")
  .exitOverride()
  .addCommand(serveCommand())
  .addCommand(workerCommand())
  .addCommand(migrateCommand())
  .addCommand(verifyCommand())
  .addCommand(searchCommand())
  .addCommand(tailCommand())
  .addCommand(exportCommand())
  .addCommand(statsCommand())
  .addCommand(historyCommand())
  .addCommand(demoCommand())
  .addCommand(sqlCommand())
  .addCommand(logCommand())
  .addCommand(tenantsCommand())
  .addCommand(apiKeysCommand())
  .addCommand(certificatesCommand())
  .addCommand(keysCommand())
  .addCommand(witnessCommand())
  .addCommand(configCommand());
inherit(program);

/** Subcommands end as the program does: by throwing. */
function inherit(parent: Command): void {
  for (const command of parent.commands) {
    command.copyInheritedSettings(parent);
    inherit(command);
  }
}

// A reader that has seen enough (head, less) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  process.stderr.write(`tallystick: ${describeError(error)}\n`);
  process.exit(2);
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has said what is wrong; help and --version come here as well, with 0.
    process.exitCode = error.exitCode === 0 ? 0 : USAGE_EXIT_CODE;
  } else {
    process.stderr.write(`tallystick: ${describeError(error)}\n`);
    process.exit(1);
  }
}
