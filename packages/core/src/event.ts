import { freeObject, freeValue } from "./free.ts";
import { normalizeIp } from "./ip.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { type EventProblem, Problems } from "./problems.ts";
import { integer, isObject, list, members, normalized, object, oneOf, orAbsent, type Read, text } from "./shape.ts";
import { isCanonicalSpelling, respell, SPELLINGS, sentPath } from "./spelling.ts";
import { normalizeTimestamp, TimestampError } from "./timestamp.ts";

export const ACTOR_TYPES = ["user", "service", "system", "api_key", "agent", "anonymous"] as const;
export const OUTCOMES = ["success", "failure", "denied"] as const;
export const SEVERITIES = ["INFO", "WARNING", "ERROR", "CRITICAL"] as const;
export const OPERATIONS = ["CREATE", "UPDATE", "DELETE", "VIEW"] as const;

export type ActorType = (typeof ACTOR_TYPES)[number];
export type Outcome = (typeof OUTCOMES)[number];
export type Severity = (typeof SEVERITIES)[number];
export type Operation = (typeof OPERATIONS)[number];

export type Actor = {
  attributes?: JsonObject;
  email?: string;
  /** Absent only where `type` is `anonymous`. */
  id?: string;
  name?: string;
  /** For whom this actor acted; at most four such actors in a row. */
  on_behalf_of?: Actor;
  type?: ActorType;
};

export type Resource = { attributes?: JsonObject; id?: string; name?: string; type: string };

export type RelatedResource = { attributes?: JsonObject; id: string; name?: string; role?: string; type: string };

/** A digest of something that is kept elsewhere; `size` in bytes, `sha256` in lower-case hex. */
export type Attachment = { media_type: string; name: string; sha256: string; size: number };

export type EventContext = {
  http?: { method: string; route: string; status: number };
  /** As `normalizeIp` writes it. */
  ip?: string;
  request_id?: string;
  session_id?: string;
  trace_id?: string;
  user_agent?: string;
};

/** The counter of one run of a publisher: an event that never arrived shows as a gap in `number`. */
export type PublisherSequence = { epoch: string | number; number: number };

/** An event in canonical spelling: exactly what the client said, nothing filled in. */
export type Event = {
  action: string;
  actor: Actor;
  attachments?: Attachment[];
  changes?: { after?: JsonValue; before?: JsonValue };
  context?: EventContext;
  description?: string;
  event_type?: string;
  idempotency_key?: string;
  metadata?: JsonObject;
  /** UTC, `YYYY-MM-DDTHH:MM:SS.ffffffZ`. */
  occurred_at?: string;
  operation?: Operation;
  outcome?: Outcome;
  reason?: string;
  related?: RelatedResource[];
  resource?: Resource;
  sequence?: PublisherSequence;
  service_id?: string;
  severity?: Severity;
  version?: number;
};

export type ParsedEvent = {
  event: Event;
  /** `tenant_id` or `organization_id` of the body: to be checked against the credential, and not in the leaf. */
  tenant?: string;
};

/** Why an event is refused: everything that is wrong with it, in one error. */
export class EventError extends Error {
  override readonly name = "EventError";
  /** `reserved` (403): it claims a service or an action of the server's own, whatever else is wrong; else `invalid` (400). */
  readonly code: "invalid" | "reserved";
  /** Never empty; what is wrong beyond the first hundred fields is left out. */
  readonly errors: readonly EventProblem[];

  constructor(code: "invalid" | "reserved", errors: readonly EventProblem[]) {
    super(errors.map((error) => `${error.path || "the event"} ${error.message}`).join("; "));
    this.code = code;
    this.errors = errors;
  }
}

const id = text(1, 256);
const name = text(0, 1_024);
const word = text(1, 128);

function optional(reads: Record<string, Read>): Record<string, Read> {
  return Object.fromEntries(Object.entries(reads).map(([key, read]) => [key, orAbsent(read)]));
}

/** An actor that may act for another, `deeper` times over. */
function actor(deeper: number): Read {
  const tooDeep: Read = (_, at, key, problems) => {
    problems.add(at, key, "is the fifth in a row: at most four actors may act on behalf of each other");
    return undefined;
  };
  return object({
    called: "an actor",
    optional: optional({
      attributes: freeObject,
      email: name,
      id,
      name,
      on_behalf_of: deeper === 0 ? tooDeep : actor(deeper - 1),
      type: oneOf(ACTOR_TYPES),
    }),
    check: (sent, at, problems) => {
      if (sent.type !== "anonymous" && sent.id === undefined) {
        problems.add(at, "id", "is required, unless the actor's type is anonymous");
      } else if (sent.type === "anonymous" && typeof sent.id === "string") {
        problems.add(at, "id", "must be left out: the actor's type is anonymous");
      }
    },
  });
}

const resource = object({
  called: "a resource",
  required: { type: id },
  optional: optional({ attributes: freeObject, id, name }),
});

const relatedResource = object({
  called: "a related resource",
  required: { id, type: id },
  optional: optional({ attributes: freeObject, name, role: id }),
});

const sha256 = normalized("must be a SHA-256 in 64 hex digits", (value) =>
  /^[0-9a-fA-F]{64}$/.test(value) ? value.toLowerCase() : undefined,
);

const attachment = object({
  called: "an attachment",
  required: { media_type: id, name: text(1, 1_024), sha256, size: integer(0) },
});

const http = object({
  called: "context.http",
  required: { method: text(1, 1_024), route: text(1, 1_024), status: integer(100, 999) },
});

const ip = normalized("must be an IPv4 or IPv6 address, without zone, port or prefix length", normalizeIp);

const context = object({
  called: "a context",
  optional: optional({ http, ip, request_id: name, session_id: name, trace_id: name, user_agent: name }),
});

const epoch: Read = (value, at, key, problems) => {
  if (typeof value === "string") return word(value, at, key, problems);
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value;
  problems.add(at, key, "must be a string of 1 to 128 bytes of UTF-8, or an integer from 0 on");
  return undefined;
};

const occurredAt: Read = (value, at, key, problems) => {
  try {
    if (typeof value === "string") return normalizeTimestamp(value);
    problems.add(at, key, "must be a time of RFC 3339 in a string, like 2026-01-02T03:04:05.123456Z");
  } catch (error) {
    if (!(error instanceof TimestampError)) throw error;
    problems.add(at, key, error.message);
  }
  return undefined;
};

function unreserved(read: Read): Read {
  return (value, at, key, problems) => {
    const claimed = read(value, at, key, problems);
    if (typeof claimed !== "string" || !isReserved(claimed)) return claimed;
    problems.reserved = true;
    problems.add(at, key, "begins with tallystick, which is the server's own: choose another name");
    return undefined;
  };
}

const action: Read = (value, at, key, problems) => {
  const read = word(value, at, key, problems);
  if (typeof read !== "string" || !/[\p{White_Space}\p{Cc}]/u.test(read)) return read;
  problems.add(at, key, "must hold no white space and no control characters, like user.login");
  return undefined;
};

const readEvent = members({
  called: "an event",
  required: { action: unreserved(action), actor: actor(4) },
  optional: optional({
    attachments: list(16, attachment),
    changes: object({ called: "changes", optional: { after: freeValue, before: freeValue } }),
    context,
    description: text(0, 8_192),
    event_type: word,
    idempotency_key: word,
    metadata: freeObject,
    occurred_at: occurredAt,
    operation: oneOf(OPERATIONS),
    outcome: oneOf(OUTCOMES),
    reason: text(0, 8_192),
    related: list(32, relatedResource),
    resource,
    sequence: object({ called: "a sequence", required: { epoch, number: integer(0) } }),
    service_id: unreserved(word),
    severity: oneOf(SEVERITIES),
    version: integer(),
  }),
  otherNames: [...SPELLINGS, "signature", "public_key_id"],
}) as (form: JsonObject, at: string, problems: Problems) => Event;

/**
 * Makes the event of section 2 of the specification from what a client sent: every accepted spelling is mapped
 * onto the canonical one, every rule is checked, and nothing is filled in.
 *
 * `input` must come from `parseJson`, which has refused what a JavaScript value no longer shows. The result's
 * members are in the order of RFC 8785 at every level. Free-form values (`metadata`, `attributes`, `changes.before`,
 * `changes.after`) may be shared with `input`, which must not be changed afterwards.
 *
 * @throws EventError with all problems, each at its path in `input` as it was sent.
 */
export function parseEvent(input: JsonValue): ParsedEvent {
  if (!isObject(input)) throw new EventError("invalid", [{ path: "", message: "must be a JSON object" }]);
  if (isCanonicalSpelling(input)) {
    const problems = new Problems(1);
    const event = readEvent(input, "", problems);
    if (problems.none) return { event };
  }
  // Also the way of canonical events that have a problem: a camelCase twin further in is one to the fast path.
  const spelled = respell(input);
  const problems = new Problems();
  const event = readEvent(spelled.form, "", problems);
  const errors = [...spelled.problems.list];
  for (const { path, message } of problems.list) {
    const sent = sentPath(spelled, path);
    // One value may stand in two places: an event_type that is the action too.
    if (!errors.some((error) => error.path === sent && error.message === message)) errors.push({ path: sent, message });
  }
  if (errors.length > 0) throw new EventError(problems.reserved ? "reserved" : "invalid", errors);
  return spelled.tenant === undefined ? { event } : { event, tenant: spelled.tenant };
}

/**
 * Whether a service or an action is the server's own: it begins with `tallystick`, in any case, because a reader
 * of a trail would not tell `Tallystick` from it. A client that claims one is answered 403.
 */
export function isReserved(name: string): boolean {
  return name.length >= 10 && name.slice(0, 10).toLowerCase() === "tallystick";
}
