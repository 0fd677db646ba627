import type { JsonObject, JsonValue } from "./json.ts";
import { nearest, type Problems } from "./problems.ts";
import { fitsUtf8, utf8Length } from "./utf8.ts";

/**
 * Reads the member `key` of the value at the pointer `at`: returns what the event holds, or adds what is wrong to
 * `problems` and returns `undefined`. Keys are known names or indexes, so none needs escaping in a pointer.
 */
export type Read = (value: JsonValue, at: string, key: string | number, problems: Problems) => JsonValue | undefined;

type Members = Readonly<Record<string, Read>>;

type ObjectShape = {
  /** What the object is called in messages, with its article. */
  called: string;
  required?: Members;
  optional?: Members;
  /** Names that are accepted elsewhere and mapped to members: suggested, never read. */
  otherNames?: Iterable<string>;
  /** Rules over more than one member, of the object as it was sent. `at` is the object's own pointer. */
  check?: (sent: JsonObject, at: string, problems: Problems) => void;
};

/** A string of `min` to `max` bytes of UTF-8. */
export function text(min: 0 | 1, max: number): Read {
  const range = min === 0 ? `a string of at most ${max} bytes of UTF-8` : `a string of 1 to ${max} bytes of UTF-8`;
  return (value, at, key, problems) => {
    if (typeof value !== "string") {
      problems.add(at, key, `must be ${range}${typeof value === "number" ? `: send "${value}"` : ""}`);
    } else if (value.length < min) {
      problems.add(at, key, `must be ${range}; it is empty`);
    } else if (!fitsUtf8(value, max)) {
      problems.add(at, key, `must be ${range}; it has ${utf8Length(value)}`);
    } else {
      return value;
    }
    return undefined;
  };
}

/** A string that `normalize` brings to one form; it throws or returns `undefined` for any other. */
export function normalized(must: string, normalize: (value: string) => string | undefined): Read {
  return (value, at, key, problems) => {
    if (typeof value !== "string") {
      problems.add(at, key, must);
      return undefined;
    }
    const form = normalize(value);
    if (form === undefined) problems.add(at, key, must);
    return form;
  };
}

/** One of a few words, in exactly this case. */
export function oneOf(words: readonly string[]): Read {
  const must = `must be one of ${words.join(", ")}`;
  return (value, at, key, problems) => {
    if (typeof value === "string" && words.includes(value)) return value;
    const meant = typeof value === "string" ? nearest(value, words) : undefined;
    problems.add(at, key, meant === undefined ? must : `${must}; did you mean ${meant}?`);
    return undefined;
  };
}

/** An integer from `min` to `max`; without bounds, any that JSON numbers hold exactly. */
export function integer(min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER): Read {
  const from =
    min === Number.MIN_SAFE_INTEGER
      ? ""
      : max === Number.MAX_SAFE_INTEGER
        ? ` from ${min} on`
        : ` from ${min} to ${max}`;
  return (value, at, key, problems) => {
    if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) return value;
    problems.add(at, key, `must be an integer${from}`);
    return undefined;
  };
}

/** An array of at most `max` items. */
export function list(max: number, item: Read): Read {
  return (value, at, key, problems) => {
    if (!Array.isArray(value)) {
      problems.add(at, key, `must be an array of at most ${max}`);
      return undefined;
    }
    if (value.length > max) {
      problems.add(at, key, `must be an array of at most ${max}; it has ${value.length}`);
      return undefined;
    }
    const here = `${at}/${key}`;
    const items: JsonValue[] = [];
    for (let i = 0; i < value.length; i++) {
      const member = item(value[i]!, here, i, problems);
      if (member !== undefined) items.push(member);
    }
    return items;
  };
}

/** An object of known members, as a member of another value. */
export function object(shape: ObjectShape): Read {
  const read = members(shape);
  return (value, at, key, problems) => {
    if (isObject(value)) return read(value, `${at}/${key}`, problems);
    problems.add(at, key, "must be an object");
    return undefined;
  };
}

/**
 * An object of known members, itself at the pointer `at`. Every unknown member is a problem. The result's members
 * are in the order of RFC 8785, so that writing them needs no sort.
 */
export function members(shape: ObjectShape): (value: JsonObject, at: string, problems: Problems) => JsonObject {
  const { called, required = {}, optional = {}, otherNames = [], check } = shape;
  const reads = { ...required, ...optional };
  const names = Object.keys(reads).sort();
  const readers = names.map((name) => reads[name]!);
  const isRequired = names.map((name) => Object.hasOwn(required, name));

  const refuseUnknown = (value: JsonObject, at: string, problems: Problems) => {
    for (const key of Object.keys(value)) {
      if (problems.full) return;
      if (Object.hasOwn(reads, key)) continue;
      // Looking for near names is the dearest step here; who has three fields wrong will look them up.
      const meant = problems.list.length < 3 ? nearest(key, [...names, ...otherNames]) : undefined;
      const advice =
        meant === undefined ? "what is your own goes into metadata or attributes" : `did you mean ${meant}?`;
      problems.add(at, key, `is not a field of ${called}: ${advice}`);
    }
  };

  return (value, at, problems) => {
    const result: JsonObject = {};
    let known = 0;
    for (let i = 0; i < names.length; i++) {
      const name = names[i]!;
      const member = value[name];
      if (member === undefined) {
        if (isRequired[i]) problems.add(at, name, "is required");
        continue;
      }
      known++;
      const read = readers[i]!(member, at, name, problems);
      if (read !== undefined) result[name] = read;
    }
    if (known !== Object.keys(value).length) refuseUnknown(value, at, problems);
    check?.(value, at, problems);
    return result;
  };
}

/** What a member that may be left out says of null, which says neither a value nor that there is none. */
export function orAbsent(read: Read): Read {
  return (value, at, key, problems) => {
    if (value !== null) return read(value, at, key, problems);
    problems.add(at, key, "must not be null: leave the field out");
    return undefined;
  };
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
