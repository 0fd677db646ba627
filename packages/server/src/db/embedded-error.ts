/** What went wrong with the embedded PostgreSQL; every message ends with how to mend it. */
export type EmbeddedPostgresErrorCode =
  | "unsupported_platform"
  | "binaries_missing"
  | "binaries_broken"
  | "no_account"
  | "no_place"
  | "data_missing"
  | "data_foreign"
  | "data_version"
  | "password_missing"
  | "password_wrong"
  | "initdb_failed"
  | "start_failed"
  | "start_timeout"
  | "stop_timeout"
  | "lock_foreign"
  | "stopped";

/** The only error that the embedded PostgreSQL throws on purpose. `facts` are for logs; they hold no secret. */
export class EmbeddedPostgresError extends Error {
  readonly code: EmbeddedPostgresErrorCode;
  readonly facts: Readonly<Record<string, string | number>>;

  constructor(
    code: EmbeddedPostgresErrorCode,
    message: string,
    facts: Readonly<Record<string, string | number>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = "EmbeddedPostgresError";
    this.code = code;
    this.facts = facts;
  }
}

/** The `code` of a system call's error (`ENOENT`, `EADDRINUSE`, ...), or undefined for any other error. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
