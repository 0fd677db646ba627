/**
 * What changed in a field over time: the entries of a resource whose `changes` say that the field became something else.
 */
import { canonicalize } from "@tallystick/core/canonical";
import type { Filter } from "@tallystick/core/filter";
import type { JsonValue } from "@tallystick/core/json";
import { SearchTimeoutError } from "../log/find.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { Entry, Reader } from "../log/reader.ts";

export interface HistoryQuery {
  readonly type: string;
  readonly id: string;
  /** Keys from `changes.before` and `changes.after` on; at least one. */
  readonly path: readonly string[];
  readonly from: string | undefined;
  readonly to: string | undefined;
}

/** An entry that tells of a change; a side that does not have the field is undefined. */
export interface Change {
  readonly entry: Entry;
  readonly before: JsonValue | undefined;
  readonly after: JsonValue | undefined;
}

export interface HistoryPage {
  /** The newest first. */
  readonly changes: readonly Change[];
  /** The position of the last change, where there are older ones. */
  readonly next: number | undefined;
}

const TIMEOUT_MS = 5_000;
const MAX_PAGE = 1_000;

/**
 * A page of a field's changes. Those of the entry's own resource count, not those of related ones; and those where `before` and `after`
 * differ: many programs send whole records.
 *
 * @param before only positions before this one.
 * @throws {SearchTimeoutError} after 5 s.
 */
export async function readHistory(
  reader: Reader,
  log: LogIdentity,
  { type, id, path, from, to }: HistoryQuery,
  { limit, before }: { readonly limit: number; readonly before: number | undefined },
): Promise<HistoryPage> {
  const deadline = performance.now() + TIMEOUT_MS;
  const filter: Filter = {
    clauses: [
      { field: "resource_type", negated: false, anyOf: [{ kind: "exact", value: type }] },
      { field: "resource_id", negated: false, anyOf: [{ kind: "exact", value: id }] },
    ],
    from,
    to,
  };
  const changes: Change[] = [];
  let after = before === undefined ? undefined : { seq: before };
  // Most entries of a resource may be of another kind: ever larger pages, one change more than asked for tells whether there are others.
  for (let size = limit + 1; ; size = Math.min(size * 2, MAX_PAGE)) {
    const page = await reader.page(log, filter, { order: "desc", limit: size, after });
    for (const entry of page.entries) {
      const change = changeOf(entry, type, id, path);
      if (change !== undefined) changes.push(change);
    }
    if (changes.length > limit) return { changes: changes.slice(0, limit), next: changes[limit - 1]!.entry.seq };
    if (page.next === undefined) return { changes, next: undefined };
    if (performance.now() > deadline) throw new SearchTimeoutError();
    after = page.next;
  }
}

function changeOf(entry: Entry, type: string, id: string, path: readonly string[]): Change | undefined {
  const { resource, changes } = entry.opened.event;
  if (resource?.type !== type || resource.id !== id || typeof changes !== "object" || changes === null)
    return undefined;
  const before = valueAt(changes.before, path);
  const after = valueAt(changes.after, path);
  if (textOf(before) === textOf(after)) return undefined;
  return { entry, before, after };
}

/** What stands at a path of keys, an array's by their numbers; undefined where nothing does. */
function valueAt(value: JsonValue | undefined, path: readonly string[]): JsonValue | undefined {
  let at = value;
  for (const key of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return undefined;
    if (Array.isArray(at) && !/^\d+$/.test(key)) return undefined; // `length` is no member
    at = (at as Readonly<Record<string, JsonValue>>)[key];
  }
  return at;
}

function textOf(value: JsonValue | undefined): string | undefined {
  return value === undefined ? undefined : canonicalize(value);
}
