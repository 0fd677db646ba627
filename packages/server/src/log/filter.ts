/**
 * What a filter asks of the index.
 */
import { ACTOR_TYPES, OPERATIONS, OUTCOMES, SEVERITIES } from "@tallystick/core/event";
import { EQUALITY_FIELDS, type Filter } from "@tallystick/core/filter";
import { TERMLESS_DEFAULTS, type TermField, termHash } from "./columns.ts";

export type { Filter };

/** Fields with a fixed set of values. */
const VALUES: { readonly [field in TermField]?: readonly string[] } = {
  actor_type: ACTOR_TYPES,
  outcome: OUTCOMES,
  severity: SEVERITIES,
  operation: OPERATIONS,
};

/** The part of a filter that the database answers: hashes may collide, so that {@link matches} has the last word. */
export interface Candidates {
  readonly allTerms: number[];
  readonly noneTerms: number[];
  /** A LIKE pattern. */
  readonly actionPattern: string | null;
  readonly openingTerm: number | null;
}

export function candidatesOf(logId: number, filter: Filter): Candidates {
  const allTerms: number[] = [];
  const noneTerms: number[] = [];
  for (const field of EQUALITY_FIELDS) {
    const value = filter.equals[field];
    if (value === undefined) continue;
    if (TERMLESS_DEFAULTS[field] !== value) allTerms.push(termHash(logId, field, value));
    else for (const other of VALUES[field] ?? []) if (other !== value) noneTerms.push(termHash(logId, field, other));
  }
  const exact = filter.action !== undefined && !filter.action.startsWith("*") && !filter.action.endsWith("*");
  if (exact) allTerms.push(termHash(logId, "action", filter.action!));
  return {
    allTerms,
    noneTerms,
    actionPattern: filter.action === undefined || exact ? null : likePattern(filter.action),
    openingTerm: filter.ip === undefined ? null : termHash(logId, "ip", filter.ip),
  };
}

function likePattern(action: string): string {
  const open = action.startsWith("*");
  const openEnded = action.length > 1 && action.endsWith("*");
  const literal = action.slice(open ? 1 : 0, openEnded ? -1 : undefined).replace(/[\\%_]/g, "\\$&");
  return `${open ? "%" : ""}${literal}${openEnded ? "%" : ""}`;
}
