/**
 * Connections for verifying, beside the server's own: of a program, or of a thread.
 */
import pg from "pg";
import type { Snapshot } from "./verify-read.ts";

/** How to read a log from anywhere. */
export interface ReadAccess {
  readonly url: string;
  /** What each transaction begins with: read-only, one snapshot, and the rights that are needed. */
  readonly begin: string;
}

// The batch that is looked at, and the one that is read meanwhile.
const CONNECTIONS = 2;

/** Opens connections as they are needed. Close them once nothing is being read. */
export function openAccess({ url, begin }: ReadAccess): { snapshot: Snapshot; pool: pg.Pool } {
  const pool = new pg.Pool({
    connectionString: url,
    max: CONNECTIONS,
    application_name: "tallystick verify",
    pipeline: true, // statements of a batch are sent without waiting for each other's answers
  });
  pool.on("error", () => {}); // of idle connections: the next read meets it
  const snapshot: Snapshot = async (work) => {
    const client = await pool.connect();
    let broken: Error | undefined;
    const onError = (error: Error) => {
      broken = error;
    };
    client.on("error", onError);
    try {
      await client.query(begin);
      return await work(client);
    } finally {
      // Nothing was written: there is nothing to commit.
      await client.query("rollback").catch(onError);
      client.off("error", onError);
      client.release(broken);
    }
  };
  return { snapshot, pool };
}
