/**
 * Rank: which of the entries that were found say what was searched for in the more telling place.
 */
import { lineOf, phraseOf, textsOf } from "@tallystick/core/entry-text";
import type { Event } from "@tallystick/core/event";
import type { Filter } from "@tallystick/core/filter";
import type { Leaf } from "@tallystick/core/leaf";

/** What words weigh by where they stand. */
const PLACES: readonly { readonly weight: number; readonly keys: readonly (keyof Event)[] }[] = [
  { weight: 4, keys: ["action", "actor", "resource", "related"] },
  { weight: 2, keys: ["reason", "description"] },
  { weight: 1, keys: ["metadata", "changes"] },
];

/**
 * The rank of an entry, with its openings merged in: for each text that is asked for, the weights of the places that have it, added up. 0 where
 * no text is asked for.
 */
export function rankBy({ clauses }: Filter): (leaf: Leaf) => number {
  const asked = clauses.flatMap((clause) =>
    clause.field === "text" && !clause.negated
      ? [clause.anyOf.map(({ words, prefix }) => phraseOf(words, prefix))]
      : [],
  );
  return ({ event }) => {
    let rank = 0;
    for (const { weight, keys } of PLACES) {
      const line = lineOf(textsOf(Object.fromEntries(keys.map((key) => [key, event[key]])) as unknown as Event));
      for (const phrases of asked) if (phrases.some((phrase) => line.includes(phrase))) rank += weight;
    }
    return rank;
  };
}
