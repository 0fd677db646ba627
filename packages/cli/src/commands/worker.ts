/**
 * `tallystick worker`: indexing in a process of its own, until it is told to stop.
 */
import { loadConfig, secretsOf } from "@tallystick/server/config";
import { openDatabase } from "@tallystick/server/db/open";
import { Indexer } from "@tallystick/server/search/indexer";
import { readLag } from "@tallystick/server/search/lag";
import { Growth } from "@tallystick/server/stream/growth";
import { Command } from "commander";
import { stderrLogger } from "../logger.ts";

const STOP_SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
const REPORT_MS = 10_000;
/** What was under way when it was told to stop is left after this time: it is done again by whoever comes next. */
const STOP_MS = 5_000;

export function workerCommand(): Command {
  return new Command("worker")
    .description("index entries for text search, beside servers with INDEX_WORKER=false or to help them catch up")
    .addHelpText(
      "after",
      `
Works on DATABASE_URL, else on the server's own PostgreSQL in DATA_DIR, as tallystick_writer. Any number may run, beside servers
that index too: each log is indexed by one of them at a time. One that is killed loses nothing.
How far behind they are: audit_index_lag_seconds and audit_index_lag_entries in /metrics.

Examples:
  $ DATABASE_URL=postgres://tallystick_writer:secret@db/tallystick tallystick worker`,
    )
    .action(work);
}

async function work(): Promise<void> {
  const config = loadConfig();
  const logger = stderrLogger(config.logLevel, secretsOf(config));
  for (const warning of config.warnings) logger.warn(warning);
  const opened = await openDatabase({ config, logger, say: (message) => logger.info(message), onMoved: () => {} });
  const { database } = opened;
  for (const promise of await database.checkRoles()) logger.warn(promise);
  let indexed = 0;
  const indexer = new Indexer({
    access: () => database.writeAccess(),
    onFailure: (error) => {
      logger.warn({ err: error }, "entries are not indexed for text search, or not all");
      opened.revive();
    },
    onRecovery: () => logger.info("entries are indexed again"),
    onIndexed: (_, entries) => {
      indexed += entries;
    },
  });
  // A wake-up only: without it, as behind PgBouncer, the worker looks each second.
  const growth = new Growth({ url: () => database.writeAccess().url, send: undefined });
  growth.onGrowth((logId) => indexer.grew(logId));
  const report = setInterval(() => {
    if (indexed === 0) return;
    const entries = indexed;
    indexed = 0;
    readLag(database).then(
      (lag) => logger.info(`indexed ${entries} entries in ${REPORT_MS / 1000} s; ${lag.entries} wait`),
      (error) => logger.warn({ err: error }, "how much is left to be indexed is not known"),
    );
  }, REPORT_MS);

  const stop = async (signal: string) => {
    logger.info(`${signal}: finishing what is under way, then stopping`);
    setTimeout(() => process.exit(0), STOP_MS).unref();
    clearInterval(report);
    await Promise.all([indexer.stop(), growth.stop()]);
    await opened.close();
    process.exit(0);
  };
  for (const signal of STOP_SIGNALS) process.once(signal, () => void stop(signal));
  growth.start();
  indexer.start();
  console.log("Tallystick's worker is indexing");
}
