/**
 * Connections for verifying, beside the server's own: of a program, or of a thread.
 */
import type pg from "pg";
import { openPool } from "../db/pool.ts";

// The batch that is looked at, and the one that is read meanwhile.
const CONNECTIONS = 2;

/** Opens connections as they are needed. Close them once nothing is being read. */
export function openAccess(url: string) {
  const options = {
    connectionString: url,
    max: CONNECTIONS,
    application_name: "tallystick verify",
    pipeline: true, // statements of a batch are sent without waiting for each other's answers
  };
  const pool = openPool(options, () => {}); // of idle connections: the next read meets it
  /** Runs `work` in a transaction that begins with `begin`: it is to be read-only, and to see one snapshot. */
  const snapshot = async <T>(begin: string, work: (client: pg.ClientBase) => Promise<T>): Promise<T> => {
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
