import type { JsonObject, JsonValue } from "./json.ts";

/**
 * The one text of a JSON value by RFC 8785 (JCS): members sorted by the UTF-16 code units of their names, no
 * white space, numbers and strings as ECMAScript writes them. These are the characters that are hashed.
 *
 * @throws TypeError for what JSON cannot hold: a number that is not finite, a lone surrogate, `undefined`, a
 * function, a symbol, a bigint. A value from `parseJson` holds none of them.
 */
export function canonicalize(value: JsonValue): string {
  const text = isInOrder(value) ? JSON.stringify(value) : write(value);
  // JSON.stringify writes a lone surrogate as an escape; no other character is written as \ud.... What `write` copies
  // stands between quotes, so that halves in two strings do not meet.
  if (!text.isWellFormed() || text.includes("\\ud")) refuseLoneSurrogates(value);
  return text;
}

/** Whether JSON.stringify, which writes members in their own order, writes the RFC 8785 form: it takes a third of the time. */
function isInOrder(value: JsonValue): boolean {
  if (typeof value === "number") return Number.isFinite(value);
  if (typeof value !== "object") return typeof value === "string" || typeof value === "boolean";
  if (value === null) return true;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) if (!isInOrder(value[i]!)) return false;
    return true;
  }
  let previous = "";
  for (const key in value) {
    if (key < previous || !isInOrder(value[key]!)) return false;
    previous = key;
  }
  return true;
}

function refuseLoneSurrogates(value: JsonValue): void {
  if (typeof value === "string" && !value.isWellFormed())
    throw new TypeError("RFC 8785 has no form for a lone surrogate");
  if (typeof value !== "object" || value === null) return;
  for (const [key, member] of Object.entries(value)) {
    refuseLoneSurrogates(key);
    refuseLoneSurrogates(member);
  }
}

function write(value: JsonValue): string {
  switch (typeof value) {
    case "string":
      return quote(value);
    case "number":
      if (!Number.isFinite(value)) throw new TypeError(`RFC 8785 has no form for ${value}`);
      return String(value);
    case "boolean":
      return value ? "true" : "false";
    case "object":
      if (value === null) return "null";
      return Array.isArray(value) ? writeArray(value) : writeObject(value);
    default:
      throw new TypeError(`RFC 8785 has no form for a value of type ${typeof value}`);
  }
}

function writeArray(array: JsonValue[]): string {
  let text = "[";
  // By index: an array with a hole must not pass for one without.
  for (let i = 0; i < array.length; i++) text += (i === 0 ? "" : ",") + write(array[i] as JsonValue);
  return `${text}]`;
}

function writeObject(object: JsonObject): string {
  const keys = Object.keys(object);
  if (!isSorted(keys)) keys.sort();
  let text = "{";
  let comma = "";
  for (const key of keys) {
    text += `${comma + quote(key)}:${write(object[key] as JsonValue)}`;
    comma = ",";
  }
  return `${text}}`;
}

function isSorted(keys: string[]): boolean {
  for (let i = 1; i < keys.length; i++) {
    if (keys[i - 1]! > keys[i]!) return false;
  }
  return true;
}

function quote(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 0x20 || c === 0x22 || c === 0x5c) return JSON.stringify(text);
  }
  return `"${text}"`;
}
