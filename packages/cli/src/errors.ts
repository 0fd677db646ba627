/**
 * Errors that are told to people as they are, and everything else, which is shown with its stack.
 */
import { CheckpointError } from "@tallystick/core/checkpoint";
import { NoteError } from "@tallystick/core/note";
import { ConfigError } from "@tallystick/server/config";
import { EmbeddedPostgresError } from "@tallystick/server/db/embedded";
import { MigrationError } from "@tallystick/server/db/migrate";
import { isConnectionError } from "@tallystick/server/db/unavailable";
import { StartError } from "@tallystick/server/start-error";
import { UnknownTenantError } from "@tallystick/server/verify/database";
import { WitnessError } from "@tallystick/witness/witness-error";
import { DatabaseError } from "pg";

/** A failure whose message says all that a person needs, how to mend it included. */
export class CliError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "CliError";
  }
}

/** A server's answer that was no success, in its own words. */
export class AnswerError extends CliError {
  readonly status: number;
  constructor(message: string, status: number) {
    super(message);
    this.name = "AnswerError";
    this.status = status;
  }
}

const TOLD_AS_THEY_ARE = [
  CliError,
  ConfigError,
  StartError,
  EmbeddedPostgresError,
  MigrationError,
  UnknownTenantError,
  WitnessError,
];

/** What a failure says on a terminal: its message where it was foreseen, with the stack where it was not. */
export function describeError(error: unknown): string {
  if (TOLD_AS_THEY_ARE.some((kind) => error instanceof kind)) return (error as Error).message;
  if (error instanceof NoteError || error instanceof CheckpointError) return error.message;
  if (isFileError(error)) return fileMessage(error);
  if (error instanceof DatabaseError) return `PostgreSQL: ${databaseMessage(error)}`;
  if (isConnectionError(error))
    return `PostgreSQL cannot be reached (${messageOf(error)}): check that it runs, and the URL`;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Of a file or directory that could not be used: the system's word for it is enough. */
function isFileError(error: unknown): error is NodeJS.ErrnoException {
  const { path, syscall } = error as NodeJS.ErrnoException;
  return error instanceof Error && typeof syscall === "string" && (typeof path === "string" || syscall === "write");
}

function fileMessage({ code, path, message }: NodeJS.ErrnoException): string {
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: "is not there",
    EISDIR: "is a directory",
    ENOTDIR: "lies below a file",
    EACCES: "may not be used by this user",
    EROFS: "is on a file system that cannot be written",
    ENOSPC: "cannot be written: the disk is full",
  };
  return `${path ?? "the output"} ${reasons[code ?? ""] ?? `cannot be used (${message})`}`;
}

/** PostgreSQL's own words: message, detail and hint. */
export function databaseMessage(error: DatabaseError): string {
  const parts = [error.message, error.detail && `DETAIL: ${error.detail}`, error.hint && `HINT: ${error.hint}`];
  return parts.filter(Boolean).join("\n");
}

/** Also of an AggregateError, which is what Node throws where a name has several addresses, and whose own message is empty. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join("; ");
  return error instanceof Error ? error.message : String(error);
}
