/** Why an append was not acknowledged. `code` decides the answer (http/problem.ts). */
export type AppendErrorCode =
  /** Nothing was recorded; try again later. */
  | "unavailable"
  /** COMMIT was sent and its answer never came, and the database cannot be asked: retry with the same idempotency key. */
  | "outcome_unknown"
  /** The queue is full; nothing was recorded. */
  | "overloaded"
  /** The idempotency key was used for another body. */
  | "key_reused"
  /** The publisher's key was revoked, has ended, or does not begin yet, at the time that the entry would have. */
  | "key_revoked"
  | "key_expired"
  | "key_not_yet_valid"
  /** The event's service is one whose events are taken with a publisher's signature only. */
  | "signature_required"
  /** What was to be done together with the entry could not be: `cause` says why. */
  | "refused"
  /** The log is not what this server has signed: nothing is built on it. */
  | "unsignable"
  /** The log was closed a moment ago, and another one is the tenant's now. */
  | "succeeded"
  /** The database's clock is too far from this server's. */
  | "clock_skew"
  /** What the database holds is not what its head says: the server does not build on it. */
  | "inconsistent";

export class AppendError extends Error {
  readonly code: AppendErrorCode;
  /** For `key_reused`, `signature_required` and the errors of a publisher's key: which of the request's events. */
  readonly index: number | undefined;
  constructor(code: AppendErrorCode, message: string, options: ErrorOptions & { index?: number } = {}) {
    super(message, options);
    this.name = "AppendError";
    this.code = code;
    this.index = options.index;
  }
}
