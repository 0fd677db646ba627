/**
 * Indexing in tests: what a worker makes of a log, without a worker.
 */
import pg from "pg";
import type { Database } from "../db/database.ts";
import { indexRun, reopenRun, type StartTally } from "../search/index-run.ts";
import type { SegmentLog } from "../search/segment-rows.ts";
import { SegmentTexts } from "../search/segment-text.ts";

/** Indexes all full segments of a log, and what was erased. */
export async function indexLog(database: Database, log: SegmentLog, startTally?: StartTally): Promise<void> {
  const { url, begin } = database.writeAccess();
  const client = new pg.Client(url);
  await client.connect();
  try {
    const options = { begin, texts: new SegmentTexts(log.logId), startTally };
    while ((await indexRun(client, log, options)) > 0 || (await reopenRun(client, log, options)) > 0);
  } finally {
    await client.end();
  }
}
