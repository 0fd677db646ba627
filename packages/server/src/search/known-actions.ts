/**
 * Actions that are asked for by a pattern, as the actions that there are: those have terms, patterns have none.
 */
import type { Clause, Filter, Wanted } from "@tallystick/core/filter";
import type pg from "pg";
import { expandPattern } from "../stats/vocabulary.ts";

/** Most actions that a pattern may stand for: each is looked for in the index by itself. */
const MAX_ACTIONS = 50;

/** A filter that asks for the same of entries before a position. */
export interface KnownActions {
  /** Undefined where no entry before it is asked for. */
  readonly filter: Filter | undefined;
  /** Behind it there may be other actions. */
  readonly upTo: number;
}

/**
 * Undefined where the filter asks for no pattern of actions, or for one that is all too wide.
 *
 * @param client sees the log's tenant.
 */
export async function knownActions(
  client: pg.ClientBase,
  logId: number,
  filter: Filter,
): Promise<KnownActions | undefined> {
  const clause = filter.clauses.find(isPatternOfActions);
  if (clause === undefined) return undefined;
  let upTo = Number.POSITIVE_INFINITY;
  const values = new Set<string>();
  for (const wanted of clause.anyOf) {
    if (wanted.kind === "exact") {
      values.add(wanted.value);
      continue;
    }
    const expansion = await expandPattern(client, logId, "action", wanted.parts, MAX_ACTIONS);
    if (expansion === undefined) return undefined;
    for (const value of expansion.values) values.add(value);
    upTo = Math.min(upTo, expansion.upTo);
  }
  if (values.size > MAX_ACTIONS) return undefined;
  if (values.size === 0) return { filter: undefined, upTo };
  const known: Clause = { ...clause, anyOf: [...values].map((value): Wanted => ({ kind: "exact", value })) };
  return { filter: { ...filter, clauses: filter.clauses.map((one) => (one === clause ? known : one)) }, upTo };
}

function isPatternOfActions(clause: Clause): clause is Clause & { field: "action"; anyOf: readonly Wanted[] } {
  if (clause.field !== "action" || clause.negated) return false;
  return clause.anyOf.some(({ kind }) => kind === "pattern");
}
