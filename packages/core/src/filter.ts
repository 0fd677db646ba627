/**
 * Filters: what a search asks of an entry. They come from parameters (filter-parameters.ts) and from query strings (query.ts).
 */

import { occurredAtOf } from "./defaults.ts";
import { lazyLineOf, phraseOf } from "./entry-text.ts";
import { entryFieldValues, resourcesOf } from "./filter-values.ts";
import { type IpRange, isInRange } from "./ip-range.ts";
import type { Leaf } from "./leaf.ts";

/** Fields whose values the index has terms of, in the order from the rarest values to the commonest. */
export const TERM_FIELDS = [
  "request_id",
  "trace_id",
  "session_id",
  "resource_id",
  "actor_id",
  "on_behalf_of_id",
  "event_type",
  "action",
  "resource_type",
  "operation",
  "severity",
  "outcome",
  "actor_type",
  "service_id",
] as const;

/** Fields that stand for several values of an entry, any of which may be meant. */
export const WIDE_FIELDS = ["actor", "on_behalf_of", "actor_name", "actor_email", "resource_name"] as const;

export type TermField = (typeof TERM_FIELDS)[number];
/** Fields whose values are texts that are compared as they are. */
export type TextField = TermField | (typeof WIDE_FIELDS)[number];

/** A text, or one that has any text (`*`) between its parts. */
export type Wanted =
  | { readonly kind: "exact"; readonly value: string }
  | { readonly kind: "pattern"; readonly parts: readonly string[] };

/** [from, to): RFC 3339 UTC with six digits of fraction. */
export interface TimeRange {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
}

/** One thing that is asked for: that an entry's field has any of these values, or, `negated`, none of them. */
export type Clause = { readonly negated: boolean } & (
  | { readonly field: TextField; readonly anyOf: readonly Wanted[] }
  /** Of the resource or a related one; one and the same has type and id. */
  | {
      readonly field: "resource";
      readonly anyOf: readonly { readonly type: Wanted; readonly id?: Wanted | undefined }[];
    }
  /** Found through openings: an erased address is not found. */
  | { readonly field: "ip"; readonly anyOf: readonly IpRange[] }
  /** Member of an object, by its keys; through arrays any item is meant. */
  | { readonly field: "metadata" | "changes"; readonly path: readonly string[]; readonly anyOf: readonly Wanted[] }
  /** Consecutive words of one value; with `prefix` the last one may go on. */
  | {
      readonly field: "text";
      readonly anyOf: readonly { readonly words: readonly string[]; readonly prefix: boolean }[];
    }
  | { readonly field: "recorded_at" | "occurred_at"; readonly anyOf: readonly TimeRange[] }
);

/** What entries must be like. All that is given must hold. */
export interface Filter extends TimeRange {
  readonly occurredFrom?: string | undefined;
  readonly occurredTo?: string | undefined;
  readonly clauses: readonly Clause[];
}

export const NO_FILTER: Filter = { clauses: [] };

/** Whether a filter asks for nothing but a part of the log's positions. */
export function isTimeRange({ clauses, occurredFrom, occurredTo }: Filter): boolean {
  return clauses.length === 0 && occurredFrom === undefined && occurredTo === undefined;
}

/** Whether something is so; undefined where what would tell has been erased. */
type Answer = boolean | undefined;

/** What is asked of one clause's entries. */
type Check = (leaf: Leaf, line: () => string) => Answer;

/** Whether an entry is asked for. `line`: of its event (entry-text.ts), for who compares one entry with many filters. */
export type Matcher = (leaf: Leaf, line?: () => string) => boolean;

/**
 * The check that a filter stands for, on entries with their openings merged in. It takes any leaf, whatever stands where its event
 * should have something else.
 *
 * @param erased what an entry is held to be where only an erased value would tell: to be asked for, or (unless given) not. That an
 *   erased value is *not* something holds in any case.
 */
export function matcherOf(filter: Filter, erased = false): Matcher {
  const checks = filter.clauses
    .filter((clause) => !isHalfResource(clause))
    .map((clause) => checkedWith(clause, erased));
  const halves = filter.clauses.filter(isHalfResource);
  if (halves.length > 0) checks.push(resourceCheck(halves));
  const { from, to, occurredFrom, occurredTo } = filter;
  const byOccurrence = occurredFrom !== undefined || occurredTo !== undefined;
  return (leaf, line = lazyLineOf(leaf.event)) => {
    if (!isWithin({ from, to }, leaf.recorded_at)) return false;
    if (byOccurrence && !isWithin({ from: occurredFrom, to: occurredTo }, occurredAt(leaf))) return false;
    return checks.every((check) => check(leaf, line));
  };
}

function checkedWith(clause: Clause, erased: boolean): (leaf: Leaf, line: () => string) => boolean {
  const check = checkOf(clause);
  if (clause.negated) return (leaf, line) => !check(leaf, line); // undefined: nothing says that it is
  return (leaf, line) => check(leaf, line) ?? erased;
}

function checkOf(clause: Clause): Check {
  switch (clause.field) {
    case "resource":
      return ({ event }) =>
        resourcesOf(event).some((one) =>
          clause.anyOf.some(({ type, id }) => isWanted(type, one.type) && (id === undefined || isWanted(id, one.id))),
        );
    case "ip":
      return anyValue(
        ({ event }) => [event.context?.ip],
        (ip) => clause.anyOf.some((range) => isInRange(ip, range)),
      );
    case "metadata":
      return anyValue(
        ({ event }) => membersAt(event.metadata, clause.path),
        (value) => clause.anyOf.some((wanted) => isWanted(wanted, value)),
      );
    case "changes":
      return anyValue(
        ({ event }) => changesAt(event.changes, clause.path),
        (value) => clause.anyOf.some((wanted) => isWanted(wanted, value)),
      );
    case "text": {
      const phrases = clause.anyOf.map(({ words, prefix }) => phraseOf(words, prefix));
      return ({ event }, line) => {
        if (phrases.some((phrase) => line().includes(phrase))) return true;
        return hasErasedText(event) ? undefined : false;
      };
    }
    case "recorded_at":
      return ({ recorded_at }) => clause.anyOf.some((range) => isWithin(range, recorded_at));
    case "occurred_at":
      return (leaf) => clause.anyOf.some((range) => isWithin(range, occurredAt(leaf)));
    default: {
      const { field, anyOf } = clause;
      const single = anyOf.length === 1 && anyOf[0]!.kind === "exact" ? anyOf[0]!.value : undefined;
      return anyValue(
        (leaf) => entryFieldValues(field, leaf),
        single === undefined ? (value) => anyOf.some((wanted) => isWanted(wanted, value)) : (value) => value === single,
      );
    }
  }
}

/** Values that may be commitments: then nobody knows. */
function anyValue(valuesOf: (leaf: Leaf) => readonly unknown[], test: (value: string) => boolean): Check {
  return (leaf) => {
    let answer: Answer = false;
    for (const value of valuesOf(leaf)) {
      if (typeof value === "string") {
        if (test(value)) return true;
      } else if (isErased(value)) answer = undefined;
    }
    return answer;
  };
}

function isErased(value: unknown): boolean {
  return typeof value === "object" && value !== null && "$committed" in value;
}

/** `resource_type` and `resource_id` that are both asked for mean one and the same resource. */
function isHalfResource(clause: Clause): clause is Clause & { field: TextField } {
  return !clause.negated && (clause.field === "resource_type" || clause.field === "resource_id");
}

function resourceCheck(halves: readonly (Clause & { field: TextField })[]): (leaf: Leaf) => boolean {
  return ({ event }) =>
    resourcesOf(event).some((one) =>
      halves.every(({ field, anyOf }) =>
        (anyOf as readonly Wanted[]).some((wanted) => isWanted(wanted, field === "resource_type" ? one.type : one.id)),
      ),
    );
}

function hasErasedText({ actor }: Leaf["event"]): boolean {
  for (let one: typeof actor | undefined = actor; one; one = one.on_behalf_of) {
    if (isErased(one.name) || isErased(one.email)) return true;
  }
  return false;
}

/** Whether a value is the one that is wanted, or of the pattern. */
export function isWanted(wanted: Wanted, value: unknown): boolean {
  if (typeof value !== "string") return false;
  if (wanted.kind === "exact") return value === wanted.value;
  const first = wanted.parts[0]!;
  const last = wanted.parts.at(-1)!;
  if (!value.startsWith(first) || !value.endsWith(last)) return false;
  let at = first.length;
  const end = value.length - last.length;
  for (const part of wanted.parts.slice(1, -1)) {
    const found = value.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= end;
}

function isWithin({ from, to }: TimeRange, time: string): boolean {
  return (from === undefined || time >= from) && (to === undefined || time < to);
}

function occurredAt({ event, recorded_at }: Leaf): string {
  return occurredAtOf(event, recorded_at);
}

/** `after.status` is that member; `status` alone that of either side. */
function changesAt(changes: unknown, path: readonly string[]): string[] {
  if (typeof changes !== "object" || changes === null) return [];
  const [side] = path;
  const { before, after } = changes as { before?: unknown; after?: unknown };
  if (path.length > 1 && (side === "before" || side === "after")) return membersAt(changes, path);
  return [...membersAt(before, path), ...membersAt(after, path)];
}

/** What stands at a path of keys, as texts; through arrays that of each item. Objects are no text. */
export function membersAt(value: unknown, path: readonly string[], depth = 0): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => membersAt(item, path, depth));
  if (depth === path.length) {
    if (typeof value === "string") return [value];
    return typeof value === "number" || typeof value === "boolean" || value === null ? [String(value)] : [];
  }
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, path[depth]!)) return [];
  return membersAt((value as Record<string, unknown>)[path[depth]!], path, depth + 1);
}
