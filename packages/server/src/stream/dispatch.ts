/**
 * Whom an entry may concern: streams by a value that their filter asks for, so that an entry is compared with those that ask for one
 * of its own values, and with those that ask for no such thing.
 */
import { type Clause, type Filter, TERM_FIELDS, type TermField } from "@tallystick/core/filter";
import { entryFieldValues } from "@tallystick/core/filter-values";
import type { Leaf } from "@tallystick/core/leaf";

type Exact = Clause & { readonly field: TermField; readonly anyOf: readonly { kind: "exact"; value: string }[] };

export class Dispatch<T extends { readonly filter: Filter }> {
  /** By field and value. */
  readonly #byValue = new Map<TermField, Map<string, Set<T>>>();
  readonly #others = new Set<T>();

  add(one: T): void {
    const clause = rarestOf(one.filter);
    if (clause === undefined) {
      this.#others.add(one);
      return;
    }
    const byValue = this.#byValue.get(clause.field) ?? new Map<string, Set<T>>();
    this.#byValue.set(clause.field, byValue);
    for (const { value } of clause.anyOf) {
      const set = byValue.get(value);
      if (set === undefined) byValue.set(value, new Set([one]));
      else set.add(one);
    }
  }

  delete(one: T): void {
    const clause = rarestOf(one.filter);
    if (clause === undefined) {
      this.#others.delete(one);
      return;
    }
    const byValue = this.#byValue.get(clause.field);
    for (const { value } of clause.anyOf) {
      const set = byValue?.get(value);
      set?.delete(one);
      if (set?.size === 0) byValue!.delete(value);
    }
    if (byValue?.size === 0) this.#byValue.delete(clause.field);
  }

  /**
   * Those whose filter an entry may match; nobody else's does. One may come twice, of an entry with several values that it asks for.
   * Those that go meanwhile do not come any more.
   */
  *of(leaf: Leaf): Iterable<T> {
    for (const [field, byValue] of this.#byValue) {
      for (const value of entryFieldValues(field, leaf)) {
        const set = typeof value === "string" ? byValue.get(value) : undefined;
        if (set !== undefined) yield* set;
      }
    }
    yield* this.#others;
  }
}

/** The clause with the fewest entries, as far as its field says that, of those that name whole values. */
function rarestOf({ clauses }: Filter): Exact | undefined {
  for (const field of TERM_FIELDS) {
    const found = clauses.find(
      (clause): clause is Exact =>
        clause.field === field && !clause.negated && clause.anyOf.every(({ kind }) => kind === "exact"),
    );
    if (found !== undefined) return found;
  }
  return undefined;
}
