/** Free-form values: the client's own members, of which only depth and the server's marks are checked. */
import { type JsonObject, type JsonValue, MAX_DEPTH } from "./json.ts";
import { type Problems, pointerTo } from "./problems.ts";
import { isObject, type Read } from "./shape.ts";

/** An object whose members are the client's own. */
export const freeObject: Read = (value, at, key, problems) => {
  if (isObject(value)) return freeValue(value, at, key, problems);
  problems.add(at, key, "must be an object");
  return undefined;
};

/**
 * Any JSON that is not deeper than events may be and holds none of the server's own marks. It is returned in the
 * order of RFC 8785: itself where it was in order, else a copy, because canonical text is then made in a third of the time.
 */
export const freeValue: Read = (value, at, key, problems) => {
  const depth = depthOf(at) + 1;
  switch (survey(value, depth)) {
    case IN_ORDER:
      return value;
    case OUT_OF_ORDER:
      return sortedCopy(value);
    default:
      nameProblems(value, depth, `${at}/${key}`, problems);
      return undefined;
  }
};

const IN_ORDER = 0;
const OUT_OF_ORDER = 1;
const REFUSED = 2;

/** The worst that is found in a value. */
function survey(value: JsonValue, depth: number): number {
  if (typeof value !== "object" || value === null) return IN_ORDER;
  if (depth > MAX_DEPTH) return REFUSED;
  let worst = IN_ORDER;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) worst = Math.max(worst, survey(value[i]!, depth + 1));
    return worst;
  }
  let count = 0;
  let previous = "";
  for (const key in value) {
    count++;
    if (key < previous) worst = Math.max(worst, OUT_OF_ORDER);
    previous = key;
    worst = Math.max(worst, survey(value[key]!, depth + 1));
  }
  return count === 1 && isMark(previous) ? REFUSED : worst;
}

function sortedCopy(value: JsonValue): JsonValue {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(sortedCopy);
  const copy: JsonObject = {};
  for (const key of Object.keys(value).sort()) copy[key] = sortedCopy(value[key]!);
  return copy;
}

/** The walk of `survey` again, with paths, for a value that was refused. */
function nameProblems(value: JsonValue, depth: number, at: string, problems: Problems): void {
  if (typeof value !== "object" || value === null || problems.full) return;
  if (depth > MAX_DEPTH) {
    problems.addAt(at, `is nested deeper than ${MAX_DEPTH} objects and arrays`);
    return;
  }
  const keys = Object.keys(value);
  if (!Array.isArray(value) && keys.length === 1 && isMark(keys[0]!)) {
    problems.addAt(
      at,
      `must not be an object whose only key is ${keys[0]}: the server writes those in place of values`,
    );
  }
  for (const key of keys) nameProblems((value as JsonObject)[key]!, depth + 1, pointerTo(at, key), problems);
}

function isMark(key: string): boolean {
  return key === "$committed" || key === "$masked";
}

/** How many objects and arrays are open at a pointer's value, the event itself being the first. */
function depthOf(pointer: string): number {
  let depth = 1;
  for (let i = 0; i < pointer.length; i++) if (pointer.charCodeAt(i) === 0x2f) depth++;
  return depth;
}
