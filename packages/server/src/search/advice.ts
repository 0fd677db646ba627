/**
 * What to say of a search that took too long: what of it no index knows, and what would narrow it.
 */
import type { Clause, Filter } from "@tallystick/core/filter";

/** Letters that a beginning of a word needs to be found by the index (see search/text-terms.ts). */
const MIN_PREFIX = 3;

/** Sentences, the most telling first. */
export function narrowingAdvice({ clauses, from, to }: Filter): string {
  const slow = clauses.flatMap((clause) => slowPart(clause) ?? []);
  const advice = slow.map((part) => `${part}.`);
  if (from === undefined || to === undefined)
    advice.push("Bound it by times (created:2026-01-01..2026-01-31, or from and to).");
  if (clauses.every(({ negated }) => negated))
    advice.push("Ask for something that the entries have: an actor, a resource, a request.");
  if (advice.length === 0)
    advice.push("Bound it by less time, or add a field with rare values: an actor, a resource, a request.");
  return advice.join(" ");
}

function slowPart(clause: Clause): string | undefined {
  if (clause.negated) return undefined;
  switch (clause.field) {
    case "text": {
      const short = clause.anyOf.find(
        ({ words, prefix }) => prefix && words.length === 1 && words[0]!.length < MIN_PREFIX,
      );
      return short && `Give ${MIN_PREFIX} letters or more before * in ${short.words[0]}*`;
    }
    case "ip":
    case "resource":
    case "recorded_at":
    case "occurred_at":
      return undefined;
    default: {
      const isPattern = clause.anyOf.some(({ kind }) => kind === "pattern");
      if (!isPattern || clause.field === "action") return undefined;
      const name = "path" in clause ? [clause.field, ...clause.path].join(".") : clause.field;
      return `Ask for whole values of ${name}: with * it has no index`;
    }
  }
}
