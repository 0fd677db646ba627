/**
 * `tallystick witness`: a small standalone witness, for anyone who wants to watch that logs only grow.
 */
import { readFileSync } from "node:fs";
import { logKeyLines, parseLogKeys } from "@tallystick/witness/log-keys";
import { type RunningWitness, startWitness } from "@tallystick/witness/start";
import { Command, InvalidArgumentError } from "commander";
import { CliError } from "../errors.ts";
import { stderrLogger } from "../logger.ts";
import { print } from "../output.ts";
import { shellWord } from "../shell.ts";

interface Options {
  readonly name: string;
  readonly log: readonly string[];
  readonly logs?: string;
  readonly state: string;
  readonly host: string;
  readonly port: number;
}

export function witnessCommand(): Command {
  return new Command("witness")
    .description("run a witness: it cosigns checkpoints of logs that only grow, and keeps those that contradict it")
    .requiredOption("--name <name>", "the witness's name, such as example.org/witness; fixed at the first start")
    .option(
      "--log <vkey>",
      "verifier key of a log to witness; again for more",
      (key, all: string[]) => [...all, key],
      [],
    )
    .option("--logs <file>", "a file of such keys, one a line; lines that begin with # are left out")
    .requiredOption("--state <dir>", "where its key and what it cosigned are kept; made at the first start")
    .option("--host <address>", "where to listen", "127.0.0.1")
    .option("--port <number>", "where to listen; 0 for any free port", parsePort, 8081)
    .addHelpText(
      "after",
      `
Run it where the log's operator has no access: it is there to disagree with them. It speaks C2SP tlog-witness: POST
/add-checkpoint; GET / for what it has cosigned, GET /conflicts for checkpoints that contradict one another. Put a
proxy with TLS before it if others should reach it.

The state must never go back: do not restore it from a backup, and do not copy it for a second witness. Several
processes may share one state on one machine. If it is lost, start over with another name and an empty directory.

Examples:
  $ tallystick witness --name example.org/witness --state ./witness --log "log.example/acme+93ce7a52+AYqI..."
  $ tallystick witness --name example.org/witness --state /var/lib/witness --logs /etc/witness/logs --port 8443
  $ curl -sS http://127.0.0.1:8081/conflicts`,
    )
    .action(witness);
}

async function witness({ name, log, logs, state, host, port }: Options): Promise<void> {
  const logger = stderrLogger("info");
  // Fail closed: after an error that nobody foresaw, what this process would still cosign is not to be trusted.
  process.on("uncaughtException", (error) => {
    logger.fatal({ err: error }, "an unexpected error: the witness ends, and can be started again");
    process.exit(1);
  });
  const logKeys = parseLogKeys([...log, ...(logs === undefined ? [] : logKeyLines(readLogs(logs)))]);
  const running = await startWitness({ name, logs: logKeys, stateDir: state, host, port, log: logger });
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => void stop(running));
  print(`${name} listens at ${running.url}
verifier key: ${running.vkey}
for the settings of the log's server: WITNESSES=${shellWord(`${running.url} ${running.vkey}`)}`);
}

let stopping = false;

async function stop(running: RunningWitness): Promise<void> {
  if (stopping) return;
  stopping = true;
  await running.stop();
  process.exit(0);
}

function readLogs(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new CliError(`${file} cannot be read (${(cause as Error).message}): name a file of verifier keys by --logs`, {
      cause,
    });
  }
}

function parsePort(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) throw new InvalidArgumentError("a number from 0 to 65535");
  return Number(text);
}
