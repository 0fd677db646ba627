/**
 * What a filter asks of the segments of text (sql/0016_text_segments.sql).
 */
import { phraseOf } from "@tallystick/core/entry-text";
import type { Clause, Filter, Wanted } from "@tallystick/core/filter";
import type { IpRange } from "@tallystick/core/ip-range";
import { wordsOf } from "@tallystick/core/words";
import { fewAddresses } from "../log/filter.ts";
import { rangeAround } from "./address-ranges.ts";
import { memberHasTerm, memberOf, OVERFLOW, overflowTerm, phraseTerms, textTerm } from "./text-terms.ts";

/** One thing that is asked for. Terms may collide and lines may be too wide, so that `matcherOf` has the last word. */
export interface TextClause {
  /** A segment has all terms of one of these; null where the index cannot tell. */
  readonly any: readonly (readonly number[])[] | null;
  /** An entry's line has one of these; null where lines cannot tell. */
  readonly lines: readonly string[] | null;
  /** It may be behind a commitment instead. */
  readonly opened: boolean;
  /** An entry's address, behind its commitment, is in one of these. */
  readonly addresses?: readonly IpRange[];
}

/** What can be asked of segments: all of it must hold, and clauses that are not here are not looked at. */
export function textClausesOf(logId: number, { clauses }: Filter): TextClause[] {
  return clauses
    .filter(({ negated }) => !negated)
    .flatMap((clause) => clausesOf(logId, clause))
    .filter(({ any, lines }) => any !== null || lines !== null)
    .map((clause) => orOverflow(logId, clause));
}

/** Entries whose values were too many for their segment may have anything. Addresses are never too many. */
function orOverflow(logId: number, clause: TextClause): TextClause {
  if (clause.addresses !== undefined) return clause;
  const { any, lines } = clause;
  return {
    ...clause,
    any: any && [...any, [overflowTerm(logId)]],
    lines: lines && [...lines, ` ${OVERFLOW} `],
  };
}

function clausesOf(logId: number, clause: Clause): TextClause[] {
  switch (clause.field) {
    case "text":
      return [
        {
          any: termsOrNull(clause.anyOf.map(({ words, prefix }) => phraseTerms(logId, words, prefix))),
          lines: clause.anyOf.map(({ words, prefix }) => phraseOf(words, prefix)),
          opened: true,
        },
      ];
    case "metadata":
    case "changes": {
      if (clause.path.some((key) => key === "$committed" || key === "$masked")) return []; // no text: see entry-text.ts
      const values = exactValues(clause.anyOf);
      if (values === undefined) return clause.path.flatMap((key) => phraseClause(logId, [key], false));
      return memberClauses(logId, clause.field, clause.path, values);
    }
    // Of actors the index of openings knows the whole value (log/filter.ts).
    case "resource_name": {
      const values = exactValues(clause.anyOf);
      return values === undefined ? [] : phraseClause(logId, values, false);
    }
    case "ip": {
      if (fewAddresses(clause.anyOf) !== undefined) return []; // the same
      const ranges = clause.anyOf.map(rangeAround);
      if (ranges.includes(undefined)) return [];
      return [
        {
          any: ranges.map((range) => [textTerm(logId, "ip", range!)]),
          lines: null,
          opened: true,
          addresses: clause.anyOf,
        },
      ];
    }
    default:
      return [];
  }
}

/** Values that are to be there with all their words. */
function phraseClause(logId: number, values: readonly string[], opened: boolean): TextClause[] {
  const phrases = values.map(wordsOf);
  if (phrases.some((words) => words.length === 0)) return [];
  return [
    {
      any: phrases.map((words) => phraseTerms(logId, words, false)),
      lines: phrases.map((words) => phraseOf(words, false)),
      opened,
    },
  ];
}

function memberClauses(
  logId: number,
  field: "metadata" | "changes",
  path: readonly string[],
  values: readonly string[],
): TextClause[] {
  const paths = field === "metadata" ? [path] : [["before", ...path], ["after", ...path], path];
  const any = values.flatMap((value) =>
    memberHasTerm(value)
      ? paths.map((each) => [textTerm(logId, field, memberOf(each, value))])
      : [phraseTerms(logId, wordsOf(value), false)],
  );
  // Of `true` and `null` a line says nothing.
  const lines = values.map(wordsOf);
  const isSaid = values.every(
    (value, i) => lines[i]!.length > 0 && value !== "true" && value !== "false" && value !== "null",
  );
  return [
    {
      any: termsOrNull(any),
      lines: isSaid ? lines.map((words) => phraseOf(words, false)) : null,
      opened: false,
    },
    // What it is the value of is said in any case.
    ...path.flatMap((key) => phraseClause(logId, [key], false)).map((clause) => ({ ...clause, any: null })),
  ];
}

function termsOrNull(any: readonly (readonly number[])[]): readonly (readonly number[])[] | null {
  return any.some((terms) => terms.length === 0) ? null : any;
}

function exactValues(wanted: readonly Wanted[]): string[] | undefined {
  const values: string[] = [];
  for (const one of wanted) {
    if (one.kind !== "exact") return undefined;
    values.push(one.value);
  }
  return values;
}
