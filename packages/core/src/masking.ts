/**
 * Masking: a secret in what is the client's own of an event is replaced by `{"$masked": "<rule>"}` before anything is made of
 * the event, so that no leaf, column or hash ever holds it (docs/spec, section 13).
 */
import { holdsCardNumber } from "./card-number.ts";
import type { Actor, Event } from "./event.ts";
import { type JsonObject, type JsonValue, MAX_DEPTH } from "./json.ts";
import { pointerTo } from "./problems.ts";
import { isObject } from "./shape.ts";

/** The rule by which card numbers are masked. */
export const CARD_NUMBER = "card_number";

/** Keys that are remembered; each is short. */
const MAX_SEEN = 4_096;

/** With this key listed, what looks like the header in a text is masked too. */
const AUTHORIZATION = "authorization";
/** With this key listed, a text with a URL that has one is masked too. */
const PASSWORD = "password";

/** Keys whose values are secrets, wherever they stand; each is the name of its rule. */
export const DEFAULT_MASKED_KEYS: readonly string[] = [
  ...["password", "passwd", "pwd", "passphrase", "old_password", "new_password", "current_password"],
  ...["password_confirmation", "password_hash", "user_password", "admin_password", "root_password"],
  ...["db_password", "database_password", "database_url", "connection_string"],
  ...["secret", "client_secret", "shared_secret", "api_secret", "totp_secret", "webhook_secret", "secret_key"],
  ...["access_key", "secret_access_key", "aws_secret_access_key", "aws_session_token", "x-amz-security-token"],
  ...[
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "auth_token",
    "api_token",
    "session_token",
    "csrf_token",
    "bearer_token",
  ],
  ...["jwt", "x-auth-token", "x-csrf-token", "x-admin-token"],
  ...["authorization", "proxy-authorization", "cookie", "set-cookie"],
  ...["api_key", "x-api-key", "private_key", "cvv", "cvc"],
];

export interface MaskingOptions {
  /** In any case, and whatever `-` and `_` are in them: `api_key` is also `apiKey` and `API-Key`. Never a part of a key. */
  readonly keys?: readonly string[];
  /** Whether card numbers are masked too; false unless given. */
  readonly cardNumbers?: boolean;
}

/** Names everything that is masked, and masks it. */
export class Masking {
  /** From keys without case and separators to the names of their rules. */
  readonly #rules = new Map<string, string>();
  /** What was found of keys as they are spelled: clients send the same few again and again. */
  readonly #seen = new Map<string, string | undefined>();
  readonly #longest: number;
  readonly #inText: RegExp | undefined;
  readonly #cardNumbers: boolean;

  constructor({ keys = DEFAULT_MASKED_KEYS, cardNumbers = false }: MaskingOptions = {}) {
    for (const key of keys) if (!this.#rules.has(plain(key))) this.#rules.set(plain(key), key.toLowerCase());
    // Few keys have more separators than this; they cannot be longer than what is looked at.
    this.#longest = Math.max(0, ...[...this.#rules.keys()].map((key) => key.length)) * 2;
    this.#inText =
      keys.length === 0
        ? undefined
        : secretInText(keys, {
            headers: this.#rules.has(AUTHORIZATION),
            urls: this.#rules.has(PASSWORD),
          });
    this.#cardNumbers = cardNumbers;
  }

  /**
   * The event with `{"$masked": "<rule>"}` in place of secrets: of each value but null under a listed key, or under `value` beside
   * a `name` that is one, at any depth of `metadata`, `changes` and `attributes`; of `reason` and `description` as a whole, where the text gives a listed key a value or
   * carries an authorization, or has a URL with a password. Where card numbers are masked, also of strings and numbers there that hold one.
   *
   * The result is nested no deeper than an event may be: where a mark would be, the object or array around it is masked.
   * @returns the event itself where it holds no secret, else a new one that shares what did not change.
   */
  mask(event: Event): Event {
    const actor = this.#actor(event.actor, 2);
    const changes = event.changes && this.#value(event.changes as JsonObject, 2);
    const metadata = event.metadata && this.#value(event.metadata, 2);
    const related = event.related && this.#each(event.related, (one) => this.#attributes(one, 3));
    const resource = event.resource && this.#attributes(event.resource, 2);
    const reason = event.reason && this.#text(event.reason);
    const description = event.description && this.#text(event.description);
    if (
      actor === event.actor &&
      changes === event.changes &&
      metadata === event.metadata &&
      related === event.related &&
      resource === event.resource &&
      reason === event.reason &&
      description === event.description
    ) {
      return event;
    }
    const masked = { ...event };
    const fields = { actor, changes, metadata, related, resource, reason, description };
    for (const [field, value] of Object.entries(fields))
      if (value !== undefined) masked[field as never] = value as never;
    return masked;
  }

  #actor(actor: Actor, depth: number): Actor {
    const masked = this.#attributes(actor, depth);
    const principal = actor.on_behalf_of && this.#actor(actor.on_behalf_of, depth + 1);
    return principal === actor.on_behalf_of ? masked : { ...masked, on_behalf_of: principal! };
  }

  #attributes<T extends { attributes?: JsonObject }>(holder: T, depth: number): T {
    const attributes = holder.attributes && this.#value(holder.attributes, depth + 1);
    return attributes === holder.attributes ? holder : { ...holder, attributes: attributes as JsonObject };
  }

  /** `depth` counts the objects and arrays that are open at a value, the event the first and the value, if it is one, the last. */
  #value(value: JsonValue, depth: number): JsonValue {
    if (typeof value !== "object") return this.#cardNumbers && isCard(value) ? markOf(CARD_NUMBER) : value;
    if (value === null) return value;
    if (Array.isArray(value)) {
      const masked = this.#each(value, (item) => this.#value(item, depth + 1));
      // A mark within would be too deep; there is only one kind of rule for what has no key.
      return masked !== value && depth >= MAX_DEPTH ? markOf(CARD_NUMBER) : masked;
    }
    let masked = value;
    for (const key in value) {
      const member = value[key]!;
      let rule = member === null ? undefined : this.#ruleOf(key);
      // Headers and variables are often sent as a list of {name, value}.
      if (key === "value" && member !== null && typeof value.name === "string") rule ??= this.#ruleOf(value.name);
      const made = rule === undefined ? this.#value(member, depth + 1) : markOf(rule);
      if (made === member) continue;
      if (depth >= MAX_DEPTH) return made; // what is masked there is no object: `made` is a mark
      if (masked === value) masked = { ...value };
      masked[key] = made;
    }
    return masked;
  }

  #each<T>(items: T[], mask: (item: T) => T): T[] {
    let masked = items;
    for (let i = 0; i < items.length; i++) {
      const made = mask(items[i]!);
      if (made === items[i]) continue;
      if (masked === items) masked = [...items];
      masked[i] = made;
    }
    return masked;
  }

  #ruleOf(key: string): string | undefined {
    if (key.length > this.#longest) return undefined;
    const seen = this.#seen.get(key);
    if (seen !== undefined || this.#seen.has(key)) return seen;
    const rule = this.#rules.get(plain(key));
    if (this.#seen.size >= MAX_SEEN) this.#seen.clear();
    this.#seen.set(key, rule);
    return rule;
  }

  #text(text: string): string {
    const found = this.#inText?.exec(text);
    if (found !== null && found !== undefined) {
      const { key, url } = found.groups ?? {};
      // Upper case first: the regular expression also takes what only folds to a letter, such as the long s.
      const named = key !== undefined ? plain(key.toUpperCase()) : url !== undefined ? PASSWORD : AUTHORIZATION;
      return markOf(this.#rules.get(named)!) as never;
    }
    return this.#cardNumbers && holdsCardNumber(text) ? (markOf(CARD_NUMBER) as never) : text;
  }
}

/** The marks that {@link Masking.mask} has put into an event, by JSON pointer: the rule of each. */
export function marksIn(
  value: JsonValue | Event,
  pointer = "",
  found = new Map<string, string>(),
): Map<string, string> {
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) marksIn(item, pointerTo(pointer, index), found);
  } else if (isObject(value as JsonValue)) {
    const members = value as JsonObject;
    const keys = Object.keys(members);
    if (keys.length === 1 && typeof members.$masked === "string") return found.set(pointer, members.$masked);
    for (const key of keys) marksIn(members[key]!, pointerTo(pointer, key), found);
  }
  return found;
}

function markOf(rule: string): JsonObject {
  return { $masked: rule };
}

function isCard(value: string | number | boolean): boolean {
  return typeof value !== "boolean" && holdsCardNumber(String(value));
}

/** A key without its case and separators. */
function plain(key: string): string {
  const lower = key.toLowerCase();
  return lower.includes("_") || lower.includes("-") ? lower.replaceAll(/[_-]/g, "") : lower;
}

/**
 * What gives a secret away in a text: a listed key and a value, as in a query string (`token=x`), a command line (`--password=x`,
 * `--password x`) or JSON (`"secret": "x"`), or behind a colon where the value is no word (`password: hunter2`); an Authorization header;
 * `Bearer` and what can only be a token; a URL with a password. A colon and a word are prose: "invalid token: expired".
 */
function secretInText(keys: readonly string[], { headers, urls }: { headers: boolean; urls: boolean }): RegExp {
  const names = keys.map((key) => key.split(/[_-]+/).filter(Boolean).map(escaped).join("[_-]?"));
  // The longest first: of two keys that both fit, the regular expression takes the first.
  const key = `(?<![\\p{L}\\p{N}_]|[\\p{L}\\p{N}]-)(?<key>${names.sort((a, b) => b.length - a.length).join("|")})`;
  const assigned = `(?:["']?[ \\t]{0,4}=(?!=)[ \\t]{0,4}|["'][ \\t]{0,4}:[ \\t]{0,4})["']?[^\\s"'&,;]`;
  const option = "(?<=(?<![\\p{L}\\p{N}-])--\\k<key>)[ \\t]{1,4}[^\\s-]";
  // A letter and a digit in seven characters or more, but no date, time, duration or count.
  const noPlainNumber = "(?!\\d{4}-\\d\\d-\\d\\d|\\d{1,2}:\\d\\d|\\d+[a-z]*[.,;:!?)]{0,4}(?:\\s|$))";
  const coded = `(?=[^\\s\\d]{0,64}\\d)(?=[^\\sa-z]{0,64}[a-z])[^\\s"'<>(){},;]{7}`;
  const labelled = `[ \\t]{0,4}:[ \\t]{1,4}${noPlainNumber}${coded}`;
  const forms = [`${key}(?:${assigned}|${option}|${labelled})`];
  if (headers) {
    forms.push("(?<![\\p{L}\\p{N}])authorization[\"']?[ \\t]{0,4}[:=][ \\t]{0,4}[\"']?[a-z]{1,32}[ \\t]{1,4}\\S");
    forms.push("(?<![\\p{L}\\p{N}])bearer[ \\t]{1,4}(?=[a-z._~+/-]{0,64}\\d)[\\w.~+/-]{16}");
  }
  if (urls) forms.push(`(?<=[a-z])(?<url>://)[^\\s:@/?#"']{0,128}:[^\\s@/?#"']{1,256}@`);
  return new RegExp(forms.join("|"), "iu");
}

function escaped(text: string): string {
  return text.replaceAll(/[^a-z0-9]/giu, "\\$&");
}
