/**
 * Pools of connections that no loss of one can end the process by.
 */
import pg from "pg";

/** @param onIdleError told of errors on idle connections; each is replaced when it is next needed. */
export function openPool(options: pg.PoolConfig, onIdleError: (error: Error) => void): pg.Pool {
  return (
    new pg.Pool(options)
      .on("error", (error) => {
        delete (error as { client?: unknown }).client; // which the pool puts there: pages of it in the log
        onIdleError(error);
      })
      // PostgreSQL may end a session in the very bytes that open it. The pool has let go of the connection by then and whoever asked
      // for it has not got it yet: without a listener that error would end the process. The next statement reports it.
      .on("connect", (client) => client.on("error", () => {}))
  );
}
