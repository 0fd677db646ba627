/**
 * Which errors mean that the database is away, or cannot take what it is given just now: it is worth trying again.
 */

/** Of the socket, and of the name's look-up. */
const SOCKET_CODES = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
]);

/** The driver's own errors have no code. */
const DRIVER_MESSAGES =
  /connection (terminated|timeout|error)|timeout exceeded when trying to connect|query read timeout|not queryable|Connection ended/i;

/** The session ended, or none could be had: shutdown, crash, start-up, an idle transaction that was cut. */
const LOST = /^(08...|57P0[123]|25P03)$/;

/**
 * PostgreSQL answers, and cannot do it now: no resources (53), an operator's intervention (57P), the system (58), a standby
 * (25006), a password or database that is being changed (28P01, 3D000), conflicts with others (40001, 40P01, 55P03).
 */
const NOT_NOW = /^(53...|57P..|58...|25006|28P01|3D000|40001|40P01|55P03)$/;

/** Whether the database could not be reached, or went away, as against refusing a statement. */
export function isConnectionError(error: unknown): boolean {
  const { code, message, syscall } = (error ?? {}) as { code?: unknown; message?: unknown; syscall?: unknown };
  if (typeof code === "string") {
    if (SOCKET_CODES.has(code) || LOST.test(code)) return true;
    // A socket file that is not there; of any other file it is no word about the database.
    if (code === "ENOENT") return syscall === "connect";
  }
  return typeof message === "string" && DRIVER_MESSAGES.test(message);
}

/** Whether the same request may succeed later, with nothing changed but the state of the database. */
export function isUnavailable(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return isConnectionError(error) || (typeof code === "string" && NOT_NOW.test(code));
}
