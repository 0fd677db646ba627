/**
 * What a filter asks of the index.
 */
import type { Clause, Filter, TermField, Wanted } from "@tallystick/core/filter";
import { TERM_FIELDS } from "@tallystick/core/filter";
import { FIELD_VALUES } from "@tallystick/core/filter-values";
import { TERMLESS_DEFAULTS, termHash } from "./columns.ts";

export type { Filter };

/** The part of a filter that the database answers: hashes may collide, so that {@link matcherOf} has the last word. */
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
  let actionPattern: string | null = null;
  let openingTerm: number | null = null;
  for (const field of TERM_FIELDS) {
    for (const wanted of singlesOf(filter, field)) {
      if (wanted.kind === "pattern") {
        if (field === "action") actionPattern = likePattern(wanted.parts);
      } else if (TERMLESS_DEFAULTS[field] !== wanted.value) allTerms.push(termHash(logId, field, wanted.value));
      else {
        const others = FIELD_VALUES[field]!.filter((other) => other !== wanted.value);
        for (const other of others) noneTerms.push(termHash(logId, field, other));
      }
    }
  }
  for (const clause of filter.clauses) {
    if (clause.field !== "ip" || clause.negated || clause.anyOf.length > 1) continue;
    const [{ base, bits }] = clause.anyOf as [(typeof clause.anyOf)[number]];
    if (bits === (base.includes(":") ? 128 : 32)) openingTerm = termHash(logId, "ip", base);
  }
  return { allTerms, noneTerms, actionPattern, openingTerm };
}

/** What is asked of a field where it must have one value. */
function singlesOf({ clauses }: Filter, field: TermField): Wanted[] {
  const ofField = clauses.filter((one): one is Clause & { field: TermField } => one.field === field && !one.negated);
  return ofField.filter(({ anyOf }) => anyOf.length === 1).map(({ anyOf }) => anyOf[0] as Wanted);
}

function likePattern(parts: readonly string[]): string {
  return parts.map((part) => part.replace(/[\\%_]/g, "\\$&")).join("%");
}
