/**
 * Errors as answers: RFC 9457 problem details, for every error of every route.
 */
import { EventError } from "@tallystick/core/event";
import { JsonError } from "@tallystick/core/json";
import type { FastifyError } from "fastify";
import { type Caller, CredentialError, type DenialReason } from "../access/caller.ts";
import { KeysUnavailableError } from "../access/jwks.ts";
import { CommitUnknownError } from "../db/database.ts";
import { isUnavailable } from "../db/unavailable.ts";
import { UnsettledError } from "../log/append.ts";
import { AppendError, type AppendErrorCode } from "../log/errors.ts";
import { SearchTimeoutError } from "../log/find.ts";
import { LeafTooLargeError } from "../log/prepare.ts";
import { SignerError } from "../signing/signer.ts";
import { JobsError } from "../verify/jobs.ts";
import { UnknownServiceError } from "../verify/verifier.ts";

/** What is wrong with one part of a request. `path` is a JSON pointer into the body, or a parameter's or header's name. */
export interface FieldError {
  readonly path: string;
  readonly message: string;
}

/** Places that an answer names. */
export const MAX_ERRORS = 100;
/** Characters of a place: what a client sent as a name comes back in it. */
const MAX_PATH = 1_024;

export interface ProblemOptions {
  readonly errors?: readonly FieldError[] | undefined;
  readonly retryAfterSeconds?: number;
  /** What refusals are counted by, where it is more than the problem's name says. */
  readonly reason?: RefusalReason | DenialReason | undefined;
  /** Of a denial: which credential it was. */
  readonly credential?: Caller["credential"] | undefined;
  readonly cause?: unknown;
}

/** Why a signed event was refused, or one that should have been signed. */
export type RefusalReason =
  | "signature_required"
  | "signature_wrong"
  | "signature_length"
  | "key_unknown"
  | "key_of_another_service"
  | "key_revoked"
  | "key_expired"
  | "key_not_yet_valid";

/** Stable names of problems; the `type` of an answer is `urn:tallystick:problem:<name>`. */
export type ProblemName =
  | "invalid-request"
  | "invalid-json"
  | "invalid-event"
  | "invalid-cursor"
  | "unauthenticated"
  | "forbidden"
  | "reserved-name"
  | "not-found"
  | "method-not-allowed"
  | "conflict"
  | "too-large"
  | "unsupported-media-type"
  | "key-reused"
  | "invalid-signature"
  | "publisher-key"
  | "signature-required"
  | "masked-value"
  | "query-too-slow"
  | "request-timeout"
  | "unavailable"
  | "overloaded"
  | "too-many-requests"
  | "outcome-unknown"
  | "unsignable"
  | "internal";

/** An error whose answer is decided. `detail` says what to do about it. */
export class Problem extends Error {
  readonly status: number;
  readonly problem: ProblemName;
  readonly errors: readonly FieldError[] | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly reason: RefusalReason | DenialReason | undefined;
  readonly credential: Caller["credential"] | undefined;

  constructor(status: number, problem: ProblemName, detail: string, options: ProblemOptions = {}) {
    super(detail, { cause: options.cause });
    this.name = "Problem";
    this.status = status;
    this.problem = problem;
    this.errors = options.errors;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.reason = options.reason;
    this.credential = options.credential;
  }
}

/** A problem as it stands in an answer's body, or in an item of a 207. */
export interface ProblemBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly errors?: readonly FieldError[];
}

export function problemBody(problem: Problem): ProblemBody {
  return {
    type: `urn:tallystick:problem:${problem.problem}`,
    title: problem.problem.replaceAll("-", " ").replace(/^./, (letter) => letter.toUpperCase()),
    status: problem.status,
    detail: problem.message,
    ...(problem.errors !== undefined && { errors: bounded(problem.errors) }),
  };
}

/** So much of what is wrong as an answer tells: it does not grow with what was sent. */
function bounded(errors: readonly FieldError[]): readonly FieldError[] {
  return errors.slice(0, MAX_ERRORS).map(({ path, message }) => ({
    path: path.length <= MAX_PATH ? path : `${path.slice(0, MAX_PATH).toWellFormed()}…`,
    message,
  }));
}

const APPEND_PROBLEMS: Record<AppendErrorCode, [number, ProblemName, number?]> = {
  unavailable: [503, "unavailable", 1],
  outcome_unknown: [503, "outcome-unknown", 1],
  overloaded: [503, "overloaded", 1],
  clock_skew: [503, "unavailable", 30],
  inconsistent: [503, "unavailable", 60],
  key_reused: [422, "key-reused"],
  key_revoked: [422, "publisher-key"],
  key_expired: [422, "publisher-key"],
  key_not_yet_valid: [422, "publisher-key"],
  signature_required: [422, "signature-required"],
  refused: [500, "internal"],
  succeeded: [503, "unavailable", 1],
  unsignable: [503, "unsignable", 60],
};

const JOBS_PROBLEMS: Record<JobsError["code"], [number, ProblemName, number]> = {
  tenant_full: [429, "too-many-requests", 10],
  server_full: [503, "overloaded", 10],
  stopping: [503, "unavailable", 1],
};

/** The answer to any error that a route or the framework throws; 500 for one that nobody foresaw. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof CredentialError) {
    const { message, reason, credential } = error;
    return new Problem(401, "unauthenticated", message, { reason, credential, cause: error });
  }
  if (error instanceof KeysUnavailableError) {
    return new Problem(503, "unavailable", error.message, { cause: error, retryAfterSeconds: 10 });
  }
  if (error instanceof EventError) {
    return error.code === "reserved"
      ? new Problem(
          403,
          "reserved-name",
          'Services and actions that begin with "tallystick" are the server\'s own: choose another name.',
          { errors: error.errors },
        )
      : new Problem(400, "invalid-event", "The event was not recorded: mend the fields in errors and send it again.", {
          errors: error.errors,
        });
  }
  if (error instanceof JsonError) {
    return new Problem(400, "invalid-json", `The body is not acceptable JSON: ${error.message}`, {
      errors: [{ path: error.path, message: error.message }],
    });
  }
  if (error instanceof LeafTooLargeError) {
    return new Problem(413, "too-large", error.message, { errors: [{ path: "", message: error.message }] });
  }
  if (error instanceof AppendError) {
    if (error.code === "refused" && error.cause instanceof Problem) return error.cause;
    const { code, message } = error;
    if (code === "key_revoked" || code === "key_expired" || code === "key_not_yet_valid") {
      return publisherKeyProblem(code, message);
    }
    if (code === "signature_required") return signatureRequired(message);
    const [status, name, retryAfterSeconds] = APPEND_PROBLEMS[code];
    return new Problem(status, name, error.message, {
      cause: error,
      ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    });
  }
  if (error instanceof SignerError) {
    return new Problem(503, "unavailable", "Nothing can be signed now: see the server's log, and try again.", {
      cause: error,
      retryAfterSeconds: 5,
    });
  }
  if (error instanceof UnknownServiceError) {
    return new Problem(404, "not-found", error.message, {
      errors: [{ path: "service_id", message: "names no service of this log" }],
    });
  }
  if (error instanceof JobsError) {
    const [status, name, retryAfterSeconds] = JOBS_PROBLEMS[error.code];
    return new Problem(status, name, error.message, { retryAfterSeconds });
  }
  if (error instanceof CommitUnknownError || error instanceof UnsettledError) {
    // Of an event the sequencer finds out; this is a tenant's change, or a key's.
    const detail = "The database did not answer COMMIT: look whether the change was made before you send it again.";
    return new Problem(503, "outcome-unknown", detail, { cause: error, retryAfterSeconds: 1 });
  }
  if (error instanceof SearchTimeoutError || (error as { code?: unknown } | null)?.code === "57014") {
    const advice =
      error instanceof SearchTimeoutError
        ? error.message
        : "Narrow it by a time range, an actor, a resource or a request id.";
    return new Problem(422, "query-too-slow", `The query was stopped after 5 s. ${advice}`, { cause: error });
  }
  if (isUnavailable(error)) {
    return new Problem(503, "unavailable", "The database cannot be reached, or is busy: try again.", {
      cause: error,
      retryAfterSeconds: 1,
    });
  }
  return frameworkProblem(error as FastifyError);
}

/** The refusal of an event for the key that it names. */
export function publisherKeyProblem(reason: RefusalReason, message: string): Problem {
  const detail = `The event was not recorded: its publisher's key cannot be used for it (${message}).`;
  return new Problem(422, "publisher-key", detail, { reason, errors: [{ path: "/public_key_id", message }] });
}

function frameworkProblem(error: FastifyError): Problem {
  switch (error.code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return new Problem(
        413,
        "too-large",
        "The body is larger than this route takes: 1 MiB for one event, 16 MiB for bulk, 128 KiB for anything else.",
      );
    case "FST_ERR_CTP_INVALID_CONTENT_LENGTH":
      return new Problem(400, "invalid-request", "The body's size is not its Content-Length.");
    case "FST_ERR_BAD_URL":
      return new Problem(400, "invalid-request", "The URL is not well-formed: check its percent-encoding.");
    case "FST_ERR_MAX_PARAM_LENGTH":
      return new Problem(
        400,
        "invalid-request",
        "A part of the path is longer than any name there is: 256 characters.",
      );
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return new Problem(415, "unsupported-media-type", "Send application/json.");
    default: {
      const status = error.statusCode;
      if (status !== undefined && status >= 400 && status < 500)
        return new Problem(status, "invalid-request", error.message, { cause: error });
      return new Problem(
        500,
        "internal",
        "The server failed; the operator finds why in its log under this request_id.",
        { cause: error },
      );
    }
  }
}

/** The answer to an unsigned event of a service that is signed only. */
export function signatureRequired(message: string): Problem {
  return new Problem(422, "signature-required", `The event was not recorded: ${message}.`, {
    reason: "signature_required",
    errors: [{ path: "/signature", message: "is required for events of this service" }],
  });
}
