import { canonicalize } from "./canonical.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { Problems } from "./problems.ts";
import { isObject } from "./shape.ts";

/** What a client sent, brought to canonical names; not yet checked. */
export type Spelled = {
  form: JsonObject;
  tenant?: string;
  /** What is wrong with the spelling itself, at the paths that were sent. */
  problems: Problems;
  /** For values that stand elsewhere than they were sent: pointer in `form` to pointer in the input. */
  sentAt: Map<string, string>;
};

/** Where a top-level name belongs: a member of the event, or of one of its objects. */
type Place = {
  parent: "" | "actor" | "resource" | "changes" | "context";
  name: string;
  /** A name of its own, and no mere camelCase twin of a canonical field. */
  flat: boolean;
};

/** Members that name a tenant: checked against the credential, not in the event. */
export const TENANT_NAMES: readonly string[] = ["tenant_id", "organization_id"];

const PLACES = new Map<string, Place>();

/** Names that mean a member of another name or place. */
for (const [spelling, parent, name] of [
  ["actor_id", "actor", "id"],
  ["user_id", "actor", "id"],
  ["actor_type", "actor", "type"],
  ["actor_email", "actor", "email"],
  ["resource_type", "resource", "type"],
  ["resource_id", "resource", "id"],
  ["details", "", "metadata"],
  ["before_state", "changes", "before"],
  ["after_state", "changes", "after"],
  ["action_type", "", "operation"],
  ["timestamp", "", "occurred_at"],
  ["request_id", "context", "request_id"],
  ["session_id", "context", "session_id"],
  ["trace_id", "context", "trace_id"],
  ["ip", "context", "ip"],
  ["ip_address", "context", "ip"],
  ["user_agent", "context", "user_agent"],
] as const) {
  PLACES.set(spelling, { parent, name, flat: true });
  PLACES.set(camelCase(spelling), { parent, name, flat: true });
}

/** Canonical names of two words or more also have a twin. */
for (const name of ["event_type", "idempotency_key", "occurred_at", "service_id"]) {
  PLACES.set(camelCase(name), { parent: "", name, flat: false });
}

const TENANT_SPELLINGS = new Set(TENANT_NAMES.flatMap((name) => [name, camelCase(name)]));

const ACTOR_TWINS = twins("on_behalf_of");
const CONTEXT_TWINS = twins("request_id", "session_id", "trace_id", "user_agent");
const ATTACHMENT_TWINS = twins("media_type");

/** Every accepted top-level name that is no field of the canonical form. */
export const SPELLINGS: readonly string[] = [...PLACES.keys(), ...TENANT_SPELLINGS];

/** Whether nothing at the top level asks for `respell`. Further in, only camelCase twins could. */
export function isCanonicalSpelling(input: JsonObject): boolean {
  if (input.action === undefined || !isObject(input.actor) || typeof input.resource === "string") return false;
  for (const key in input) if (PLACES.has(key) || TENANT_SPELLINGS.has(key)) return false;
  return true;
}

/** Brings every accepted spelling (section 2 of the specification) to the canonical form. `input` is not changed. */
export function respell(input: JsonObject): Spelled {
  const spelled: Spelled = { form: {}, problems: new Problems(), sentAt: new Map() };
  const { form } = spelled;
  // Canonical names first, so that a disagreement is reported at the other spelling, whatever the order.
  for (const key of Object.keys(input)) {
    if (!PLACES.has(key) && !TENANT_SPELLINGS.has(key)) form[key] = respellMember(spelled, key, input[key]!);
  }
  let flat = typeof input.resource === "string";
  for (const key of Object.keys(input)) {
    const value = input[key]!;
    const place = PLACES.get(key);
    if (place !== undefined) {
      flat ||= place.flat;
      // A null id says that nobody was logged in; with another id beside it, it says nothing.
      if (!(value === null && place.parent === "actor" && place.name === "id")) put(spelled, place, key, value);
    } else if (TENANT_SPELLINGS.has(key)) {
      putTenant(spelled, key, value);
    }
  }
  // `actor` is required of clients that write the canonical form; clients that write flat fields have no name
  // for "nobody" but leaving the id out.
  if (flat && form.actor === undefined) form.actor = { type: "anonymous" };
  if (form.action === undefined) deriveAction(spelled, input);
  return spelled;
}

/** The pointer in what the client sent, for a pointer in the canonical form. */
export function sentPath(spelled: Spelled, path: string): string {
  for (let end = path.length; end > 0; end = path.lastIndexOf("/", end - 1)) {
    const sent = spelled.sentAt.get(path.slice(0, end));
    if (sent !== undefined) return sent + path.slice(end);
  }
  return path;
}

function respellMember(spelled: Spelled, key: string, value: JsonValue): JsonValue {
  switch (key) {
    case "actor":
      return respellActor(spelled, value, "/actor", "/actor");
    case "resource":
      return typeof value === "string" ? resourceFromString(spelled, value) : copyOf(value);
    case "changes":
      return copyOf(value);
    case "context":
      return rename(spelled, value, CONTEXT_TWINS, "/context", "/context");
    case "attachments":
      if (!Array.isArray(value)) return value;
      return value.map((item, i) => rename(spelled, item, ATTACHMENT_TWINS, `/attachments/${i}`, `/attachments/${i}`));
    default:
      return value;
  }
}

/** An actor, and those it acts on behalf of. A string is an actor's id. */
function respellActor(spelled: Spelled, value: JsonValue, at: string, sentAt: string): JsonValue {
  if (typeof value === "string") {
    spelled.sentAt.set(`${at}/id`, sentAt);
    return { id: value };
  }
  const actor = rename(spelled, value, ACTOR_TWINS, at, sentAt);
  if (!isObject(actor)) return actor;
  const inner = `${at}/on_behalf_of`;
  const principal = actor.on_behalf_of;
  if (principal !== undefined) actor.on_behalf_of = respellActor(spelled, principal, inner, sentPath(spelled, inner));
  return actor;
}

/**
 * `type:id`, where `type` is a plain word: not a URL, an ARN or a URN, whose colons mean something else. Any other
 * string is a type.
 */
function resourceFromString(spelled: Spelled, value: string): JsonValue {
  const match = /^([a-z][a-z0-9_]*):(?!\/\/)/.exec(value);
  const type = match?.[1];
  spelled.sentAt.set("/resource/type", "/resource");
  if (type === undefined || type === "arn" || type === "urn") return { type: value };
  spelled.sentAt.set("/resource/id", "/resource");
  return { type, id: value.slice(type.length + 1) };
}

/** A copy of an object with its camelCase twins renamed; any other value as it is. */
function rename(spelled: Spelled, value: JsonValue, names: Map<string, string>, at: string, sentAt: string): JsonValue {
  if (!isObject(value)) return value;
  const renamed: JsonObject = {};
  for (const key of Object.keys(value)) if (!names.has(key)) renamed[key] = value[key]!;
  for (const key of Object.keys(value)) {
    const name = names.get(key);
    if (name !== undefined) set(spelled, renamed, name, value[key]!, `${at}/${name}`, `${sentAt}/${key}`);
  }
  if (at !== sentAt) spelled.sentAt.set(at, sentAt);
  return renamed;
}

/** Puts a top-level value where it belongs, making the object around it. */
function put(spelled: Spelled, { parent, name }: Place, key: string, value: JsonValue): void {
  const { form } = spelled;
  if (parent === "") {
    set(spelled, form, name, value, `/${name}`, `/${key}`);
    return;
  }
  if (form[parent] === undefined) form[parent] = {};
  const object = form[parent];
  // Where the object itself is no object, that is its own problem, and is found when it is read.
  if (isObject(object)) set(spelled, object, name, value, `/${parent}/${name}`, `/${key}`);
}

/** Sets a member, unless it is there already: then the two must say the same, in the same characters. */
function set(spelled: Spelled, object: JsonObject, name: string, value: JsonValue, at: string, sentAt: string): void {
  const present = object[name];
  if (present === undefined) {
    object[name] = value;
    spelled.sentAt.set(at, sentAt);
  } else if (canonicalize(present) !== canonicalize(value)) {
    spelled.problems.addAt(
      sentAt,
      `disagrees with ${sentPath(spelled, at)}, which means the same field: send one of them`,
    );
  }
}

function putTenant(spelled: Spelled, key: string, value: JsonValue): void {
  const at = `/${key}`;
  if (typeof value !== "string" || value === "" || value.length > 256) {
    spelled.problems.addAt(at, "must be a tenant's id or slug");
  } else if (spelled.tenant === undefined) {
    spelled.tenant = value;
    spelled.sentAt.set("tenant", at);
  } else if (spelled.tenant !== value) {
    spelled.problems.addAt(
      at,
      `disagrees with ${spelled.sentAt.get("tenant")}, which means the same: send one of them`,
    );
  }
}

/** The action of an event that names none: `<resource_type>.<action_type>`, else its `event_type`. */
function deriveAction(spelled: Spelled, input: JsonObject): void {
  const { form, sentAt } = spelled;
  const actionType = input.action_type ?? input.actionType;
  const resourceType = isObject(form.resource) ? form.resource.type : undefined;
  if (typeof actionType === "string" && typeof resourceType === "string") {
    form.action = `${resourceType}.${actionType.toLowerCase()}`;
    sentAt.set("/action", sentPath(spelled, "/resource/type"));
  } else if (form.event_type !== undefined) {
    form.action = form.event_type;
    sentAt.set("/action", sentPath(spelled, "/event_type"));
  }
}

/** An object that members may be put into without changing the client's. */
function copyOf(value: JsonValue): JsonValue {
  return isObject(value) ? { ...value } : value;
}

function twins(...names: string[]): Map<string, string> {
  return new Map(names.map((name) => [camelCase(name), name]));
}

/** A name's camelCase twin. */
export function camelCase(name: string): string {
  return name.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}
