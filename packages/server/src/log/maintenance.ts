/**
 * What has to be done now and then: partitions ahead of time, old idempotency keys.
 */
import type { Database } from "../db/database.ts";

/** Months of partitions that are ready beyond the current one: a server may be down for long and still find its partition. */
const MONTHS_AHEAD = 3;
const HOUR_MS = 3_600_000;

interface Log {
  info(message: string): void;
  error(facts: object, message: string): void;
}

/**
 * Makes partitions, which has to succeed: without one nothing can be recorded. Then does all of it, at once and every hour
 * until stopped: a server that never runs for an hour drops old keys as well.
 */
export async function startMaintenance(
  database: Database,
  idempotencyWindowDays: number,
  log: Log,
): Promise<{ stop(): Promise<void> }> {
  await makePartitions(database, log);
  let running = maintain(database, idempotencyWindowDays, log);
  const timer = setInterval(() => {
    running = maintain(database, idempotencyWindowDays, log);
  }, HOUR_MS).unref();
  return {
    async stop() {
      clearInterval(timer);
      await running;
    },
  };
}

async function maintain(database: Database, idempotencyWindowDays: number, log: Log): Promise<void> {
  try {
    await makePartitions(database, log);
    const dropped = await database.query<{ name: string }>(
      "select tallystick.drop_old_idempotency_keys(make_interval(days => $1)) as name",
      [idempotencyWindowDays],
    );
    for (const { name } of dropped) log.info(`dropped ${name}: its idempotency keys have expired`);
  } catch (error) {
    // Tried again in an hour, with months to spare; /health/ready tells when partitions run short.
    log.error({ err: error }, "maintenance failed");
  }
}

async function makePartitions(database: Database, log: Log): Promise<void> {
  const made = await database.query<{ name: string }>("select tallystick.make_partitions($1) as name", [MONTHS_AHEAD]);
  if (made.length > 0) log.info(`made the partitions ${made.map(({ name }) => name).join(", ")}`);
}
