/**
 * How far the index is behind the logs.
 */
import type { Database } from "../db/database.ts";

export interface IndexLag {
  /** Entries of full segments that are not indexed, in all logs together. */
  readonly entries: number;
  /** Since when the oldest of these segments has been full. */
  readonly seconds: number;
}

/** Anyone may ask: however often, the database is asked once in this time. */
const CACHE_MS = 1_000;

/** The lag, at most a second old; undefined while the database does not answer. */
export function lagOf(database: Database): () => Promise<IndexLag | undefined> {
  let newest: { at: number; lag: Promise<IndexLag | undefined> } | undefined;
  return () => {
    if (newest === undefined || performance.now() - newest.at >= CACHE_MS) {
      newest = { at: performance.now(), lag: readLag(database).catch(() => undefined) };
    }
    return newest.lag;
  };
}

export async function readLag(database: Database): Promise<IndexLag> {
  const [lag] = await database.query<IndexLag & Record<string, unknown>>(
    `select coalesce(sum(size / 256 * 256 - segments * 256) filter (where waiting_since is not null), 0)::float8 as entries,
       coalesce(extract(epoch from clock_timestamp() - min(waiting_since)), 0)::float8 as seconds
     from tallystick.index_progress(null)`,
  );
  return lag!;
}
