/**
 * `tallystick serve`: the server in the foreground, until it is told to stop.
 */
import { join } from "node:path";
import { type Config, loadConfig, secretsOf } from "@tallystick/server/config";
import type { Credentials } from "@tallystick/server/credentials";
import { type RunningServer, startServer } from "@tallystick/server/start";
import { Command } from "commander";
import { stderrLogger } from "../logger.ts";
import { ownCommand, shellWord } from "../shell.ts";

const STOP_SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
/** A repeat within this time is the same request: npm, a shell and a service manager may each pass one on. */
const SAME_REQUEST_MS = 500;
/** How long a start may go on after a signal, so that a PostgreSQL of our own can be stopped in good order. */
const START_DEADLINE_MS = 10_000;

export function serveCommand(): Command {
  return new Command("serve")
    .description("run the server; with nothing set it runs its own PostgreSQL, data in ./data")
    .addHelpText(
      "after",
      `
Settings come from the environment and from .env: see "tallystick config".
The log goes to stderr, as JSON lines unless that is a terminal.

Examples:
  $ tallystick serve
  $ PORT=9000 DATA_DIR=/var/lib/audit tallystick serve
  $ DATABASE_URL=postgres://tallystick_writer:secret@db/tallystick tallystick serve`,
    )
    .action(serve);
}

async function serve(): Promise<void> {
  const config = loadConfig();
  const person = process.stdout.isTTY && process.stderr.isTTY;
  // A person is told in words what goes on; of the log they see what is wrong, unless they ask for more.
  const logger = stderrLogger(
    person && config.given.logLevel.source === "default" ? "warn" : config.logLevel,
    secretsOf(config),
  );
  const say = person ? (message: string) => console.log(message) : (message: string) => logger.info(message);
  // Fail closed: after an error that nobody foresaw, what this process would still acknowledge is not to be trusted.
  process.on("uncaughtException", (error) => {
    logger.fatal({ err: error }, "an unexpected error: the server ends, and can be started again");
    process.exit(1);
  });

  let server: RunningServer | undefined;
  let stoppingSince: number | undefined;
  const stop = async () => {
    // While it starts there is nothing to drain. A PostgreSQL of our own is only stopped once it has come up.
    if (server === undefined && config.database.kind === "external") process.exit(0);
    if (server === undefined) return;
    await server.stop();
    say("stopped");
    process.exit(0);
  };
  const giveUpStarting = () => {
    if (server !== undefined) return;
    logger.error("stopped while starting; what was under way was left as it is");
    process.exit(1);
  };
  for (const signal of STOP_SIGNALS) {
    process.on(signal, () => {
      if (stoppingSince === undefined) {
        stoppingSince = performance.now();
        say(`${signal}: finishing what was accepted, then stopping`);
        setTimeout(giveUpStarting, START_DEADLINE_MS).unref();
      } else if (performance.now() - stoppingSince > SAME_REQUEST_MS) {
        giveUpStarting();
      }
      void stop(); // a failure is an unhandled rejection, which ends the process above
    });
  }

  for (const warning of config.warnings) logger.warn(warning);
  server = await startServer(config, { logger, say });
  if (stoppingSince !== undefined) return stop();
  console.log(server.firstStart ? firstStartMessage(server, config) : `Tallystick is ready at ${server.url}`);
}

/** What the first start on a DATA_DIR says where the installation is another's: a replica, or a database that was there before. */
function noKeyMessage(start: { url: string; file: string; credentials: Credentials; config: Config }): string {
  const { url, file, credentials, config } = start;
  const dataDir = config.given.dataDir.source === "environment" ? `DATA_DIR=${shellWord(config.dataDir)} ` : "";
  return `
Tallystick is ready at ${url}

  admin token  ${config.adminToken === undefined ? `of this server, kept in ${file}` : "as set in ADMIN_TOKEN"}
  API key      none was made: tenant ${credentials.tenant} has keys already

Make one:
  ${dataDir}${ownCommand(`api-keys create --tenant ${credentials.tenant} --name NAME --scopes write,read`)}
`;
}

/** What the first start says, once: the credentials, and commands that work as pasted, each on one line. */
function firstStartMessage({ url, credentials }: RunningServer, config: Config): string {
  const file = join(config.dataDir, "credentials.json");
  // Secrets that the operator chose are not shown: whoever collects this output need not learn them.
  const shown = (value: string, setting: unknown, name: string) =>
    setting === undefined ? value : `as set in ${name}`;
  if (credentials.api_key === undefined) return noKeyMessage({ url, file, credentials, config });
  const key =
    config.apiKey === undefined
      ? shellWord(`Authorization: Bearer ${credentials.api_key}`)
      : `"Authorization: Bearer $(sed -n 's/^ *"api_key": "\\(.*\\)",*$/\\1/p' ${shellWord(file)})"`;
  // The certificate itself is enough to know the server by, whoever has issued it, where it has this machine's name.
  const curl = config.tlsCertPath === undefined ? "curl -sS" : `curl -sS --cacert ${shellWord(config.tlsCertPath)}`;
  const event = { action: "user.login", actor: { id: "alice" }, resource: { type: "app", id: "demo" } };
  // Where only this process knows the database, the server is what a pasted line can reach.
  const verify =
    config.database.kind === "external"
      ? `${curl} -X POST ${url}/v1/admin/verify-chain -H ${key}`
      : `${config.given.dataDir.source === "environment" ? `DATA_DIR=${shellWord(config.dataDir)} ` : ""}${ownCommand("verify")}`;
  return `
Tallystick is ready at ${url}

  tenant       ${credentials.tenant}
  admin token  ${shown(credentials.admin_token, config.adminToken, "ADMIN_TOKEN")}
  API key      ${shown(credentials.api_key, config.apiKey, "API_KEY")}
  kept in      ${file}; not shown again

Record a first event:
  ${curl} ${url}/v1/logs -H ${key} -H 'Content-Type: application/json' -d ${shellWord(JSON.stringify(event))}
List what is recorded:
  ${curl} ${url}/v1/logs -H ${key}
Verify it:
  ${verify}
`;
}
