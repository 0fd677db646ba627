/**
 * Events as publishers send them: plain, signed beside their own members, or in the signed form (docs/spec, section 7).
 */
import { fromBase64 } from "./base64.ts";
import { canonicalize } from "./canonical.ts";
import { type Event, EventError, isReserved, type ParsedEvent, parseEvent } from "./event.ts";
import { JsonError, type JsonObject, type JsonValue, parseJson, pointerToken } from "./json.ts";
import { type EventProblem, nearest } from "./problems.ts";
import { isObject } from "./shape.ts";
import { camelCase, respell, sentPath, TENANT_NAMES } from "./spelling.ts";

/** What a publisher has signed, and with what. */
export interface Signed {
  /** `<service_id>:v<n>`. */
  readonly keyId: string;
  /** The key's service, as the key id names it. */
  readonly serviceId: string;
  /** Standard base64, as sent. */
  readonly signature: string;
  readonly signatureBytes: Uint8Array;
  /** The text whose UTF-8 bytes are signed. */
  readonly text: string;
  /** Members of the event that the signature does not cover, sorted. */
  readonly unsigned: readonly string[];
  /** How it was sent: as an event with two members more, or with the signed text in a string. */
  readonly form: "flat" | "text";
}

export type Submission = ParsedEvent & { readonly signed?: Signed };

/** Members that the signed form may have beside the signed text, and that go into the event. */
export const UNSIGNED_MEMBERS = ["event_type", "idempotency_key", "service_id"] as const;

const SIGNATURE_MEMBERS = ["signature", "public_key_id"] as const;
const TEXT_FORM_MEMBERS: readonly string[] = [
  "event",
  "event_data",
  ...SIGNATURE_MEMBERS,
  ...UNSIGNED_MEMBERS,
  ...TENANT_NAMES,
];

/** A service's id may hold anything, colons too. */
const KEY_ID = /^(.{1,128}):v[1-9][0-9]{0,8}$/s;

/** The service that a key id names; undefined where it is none. */
export function serviceOfKeyId(keyId: string): string | undefined {
  return KEY_ID.exec(keyId)?.[1];
}

/**
 * Makes an event of what a client sent, and with it what is signed: in an event with the members `signature` and
 * `public_key_id`, the RFC 8785 form of the event as sent without these two; in the signed form, the exact text in `event`,
 * which has to be JSON that says the same as `event_data`, where that is given. Nothing is verified here.
 *
 * `input` must come from `parseJson`.
 * @throws EventError with all problems, each at its path in `input`.
 */
export function parseSubmission(input: JsonValue): Submission {
  if (!isObject(input)) return parseEvent(input);
  if (input.event !== undefined || input.event_data !== undefined) return parseTextForm(input);
  if (input.signature === undefined && input.public_key_id === undefined) return parseEvent(input);
  const { signature, public_key_id, ...event } = input;
  const problems: EventProblem[] = [];
  const signing = readSigning(input, problems);
  const parsed = parsedWith(problems, () => parseEvent(event));
  return { ...parsed, signed: { ...signing!, text: canonicalize(event), unsigned: [], form: "flat" } };
}

/**
 * The event that a signed text makes, together with the members `unsigned` of `event`, of which the text must say nothing.
 * @throws EventError, JsonError: the text makes none.
 */
export function eventOfText(text: string, unsigned: readonly string[], event: Event): Event {
  const data = parseJson(text);
  if (!isObject(data)) throw new EventError("invalid", [{ path: "", message: "must be a JSON object" }]);
  const merged: JsonObject = { ...data };
  for (const name of unsigned) {
    const value = event[name as keyof Event];
    if (saysOf(data, name) !== undefined || value === undefined) {
      throw new EventError("invalid", [{ path: `/${name}`, message: "is listed as unsigned, and is not" }]);
    }
    merged[name] = value as JsonValue;
  }
  return parseEvent(merged).event;
}

/**
 * Where in what a client sent a value stands: the pointer in `input` for one in the event that {@link parseSubmission} makes of it.
 * For messages about an event that was read without error.
 */
export function pointerAsSent(input: JsonValue, pointer: string): string {
  if (!isObject(input)) return pointer;
  const { event: text, event_data: claimed } = input;
  if (typeof text !== "string") return sentPath(respell(input), pointer);
  return `${claimed === undefined ? "/event" : "/event_data"}${sentPath(respell(parseJson(text) as JsonObject), pointer)}`;
}

/** Whether `data` says something of a member that may also stand beside it. */
export function saysOf(data: JsonObject, name: string): string | undefined {
  return [name, camelCase(name)].find((spelling) => data[spelling] !== undefined);
}

function parseTextForm(input: JsonObject): Submission {
  const problems: EventProblem[] = [];
  const signing = readSigning(input, problems);
  for (const key of Object.keys(input)) {
    if (TEXT_FORM_MEMBERS.includes(key)) continue;
    const meant = nearest(key, TEXT_FORM_MEMBERS);
    const advice = meant === undefined ? "put it into the text that is signed" : `did you mean ${meant}?`;
    problems.push({ path: `/${pointerToken(key)}`, message: `is not a member of the signed form: ${advice}` });
  }
  const { event: text, event_data: claimed } = input;
  const data = readText(text, problems);
  if (typeof text !== "string" || data === undefined) throw new EventError("invalid", problems);

  if (claimed !== undefined) {
    const at = firstDifference(data, claimed, "");
    if (at !== undefined) {
      const message = "is not what the signed text in event says: send what it parses to, or leave event_data out";
      problems.push({ path: `/event_data${at}`, message });
    }
  }
  const merged: JsonObject = { ...data };
  const unsigned: string[] = [];
  for (const name of [...UNSIGNED_MEMBERS, ...TENANT_NAMES]) {
    const value = input[name];
    if (value === undefined) continue;
    const spelling = saysOf(data, name);
    if (spelling === undefined) {
      merged[name] = value;
      if (!TENANT_NAMES.includes(name)) unsigned.push(name);
    } else if (canonicalize(value) !== canonicalize(data[spelling]!)) {
      problems.push({
        path: `/${name}`,
        message: "contradicts the signed event: send what is signed, or leave it out",
      });
    }
  }
  const within = claimed === undefined ? "/event" : "/event_data";
  const isOurs = (path: string) => data[path.split("/")[1] ?? ""] === undefined && input[path.slice(1)] !== undefined;
  const parsed = parsedWith(
    problems,
    () => parseEvent(merged),
    (path) => (isOurs(path) ? path : within + path),
  );
  return { ...parsed, signed: { ...signing!, text, unsigned: unsigned.sort(), form: "text" } };
}

function readText(text: JsonValue | undefined, problems: EventProblem[]): JsonObject | undefined {
  if (typeof text !== "string") {
    const message =
      text === undefined
        ? "is required beside event_data: the exact text that was signed"
        : "must be a string, the exact text that was signed: an object may be written in many ways";
    problems.push({ path: "/event", message });
    return undefined;
  }
  try {
    const data = parseJson(text);
    if (isObject(data)) return data;
    problems.push({ path: "/event", message: "must be the text of a JSON object" });
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    problems.push({ path: `/event${error.path}`, message: `is not acceptable JSON: ${error.message}` });
  }
  return undefined;
}

/** Signature and key id, or problems. */
function readSigning(input: JsonObject, problems: EventProblem[]) {
  const { signature, public_key_id: keyId } = input;
  const missing = SIGNATURE_MEMBERS.filter((name) => input[name] === undefined);
  for (const name of missing) {
    const message =
      missing.length === 2
        ? "is required: an event in a string is a signed one"
        : "is required: a signature and the key that made it come together";
    problems.push({ path: `/${name}`, message });
  }
  const signatureBytes = signature === undefined ? undefined : readSignature(signature, problems);
  const serviceId = typeof keyId === "string" ? serviceOfKeyId(keyId) : undefined;
  if (keyId !== undefined && serviceId === undefined) {
    problems.push({ path: "/public_key_id", message: "must be a key's id, <service_id>:v<n>, such as orders:v1" });
  } else if (serviceId !== undefined && isReserved(serviceId)) {
    problems.push({
      path: "/public_key_id",
      message: "names a service of the server's own, which no client has a key of",
    });
  }
  if (signatureBytes === undefined || serviceId === undefined) return undefined;
  return { keyId: keyId as string, serviceId, signature: signature as string, signatureBytes };
}

function readSignature(signature: JsonValue, problems: EventProblem[]): Uint8Array | undefined {
  const wrong = (message: string) => {
    problems.push({ path: "/signature", message });
    return undefined;
  };
  if (typeof signature !== "string" || signature === "") return wrong("must be a signature in base64");
  try {
    return fromBase64(signature);
  } catch {
    return /^[\w-]+=*$/.test(signature) && /[-_]/.test(signature)
      ? wrong("is in the URL-safe alphabet: send standard base64, with + and / (RFC 4648 section 4)")
      : wrong("must be standard base64 with its padding and nothing else, no line breaks (RFC 4648 section 4)");
  }
}

/** What `parse` makes, unless there are problems, its own or `problems`: then all of them in one error. */
function parsedWith(
  problems: EventProblem[],
  parse: () => ParsedEvent,
  sentAt: (path: string) => string = (path) => path,
): ParsedEvent {
  let parsed: ParsedEvent;
  try {
    parsed = parse();
  } catch (error) {
    if (!(error instanceof EventError)) throw error;
    const errors = error.errors.map(({ path, message }) => ({ path: sentAt(path), message }));
    throw new EventError(error.code, [...problems, ...errors]);
  }
  if (problems.length > 0) throw new EventError("invalid", problems);
  return parsed;
}

/** Pointer of the first place where two values differ; undefined where they are equal. */
function firstDifference(a: JsonValue, b: JsonValue, at: string): string | undefined {
  if (Array.isArray(a) && Array.isArray(b) && a.length === b.length) {
    for (let i = 0; i < a.length; i++) {
      const found = firstDifference(a[i]!, b[i]!, `${at}/${i}`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  if (isObject(a) && isObject(b)) {
    for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
      const here = `${at}/${pointerToken(key)}`;
      const [one, other] = [own(a, key), own(b, key)];
      const found = one === undefined || other === undefined ? here : firstDifference(one, other, here);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  return canonicalize(a) === canonicalize(b) ? undefined : at;
}

function own(object: JsonObject, key: string): JsonValue | undefined {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}
