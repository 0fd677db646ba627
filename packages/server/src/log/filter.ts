/**
 * What a filter asks of the index of terms and of that of openings (sql/0017_positions.sql).
 */
import { type Clause, type Filter, TERM_FIELDS, type TermField, type Wanted } from "@tallystick/core/filter";
import { FIELD_VALUES } from "@tallystick/core/filter-values";
import { addressesIn, type IpRange } from "@tallystick/core/ip-range";
import { TERMLESS_DEFAULTS, termHash } from "./columns.ts";

/** The part of a filter that the database answers; hashes may collide, so that `matcherOf` has the last word. */
export interface Candidates {
  /** Terms without the block; of each row an entry must have one. From the rarest field to the commonest. */
  readonly clauses: readonly (readonly number[])[];
  /** An entry must have an opening with one of these, or one of `openingOrTerms`; null asks for nothing. */
  readonly openingTerms: readonly number[] | null;
  readonly openingOrTerms: readonly number[] | null;
  /** LIKE patterns, one of which its action must have; null asks for nothing. */
  readonly actionPatterns: readonly string[] | null;
}

/** Fields with so few entries a value that openings need not lead to them. */
const RARE: ReadonlySet<TermField> = new Set(["request_id", "trace_id", "session_id", "resource_id", "actor_id"]);

type TermClause = Clause & { readonly field: TermField; readonly anyOf: readonly Wanted[] };

export function candidatesOf(logId: number, filter: Filter): Candidates {
  const rows: { field: TermField; terms: number[] }[] = [];
  let actionPatterns: string[] | null = null;
  const hash = (field: string, values: readonly string[]) => values.map((value) => termHash(logId, field, value));
  for (const clause of filter.clauses) {
    if (clause.field === "resource") rows.push(...resourceRows(clause, hash));
    if (!isTermClause(clause)) continue;
    const { field } = clause;
    const values = exactValues(clause.anyOf);
    if (values === undefined) {
      if (field === "action" && !clause.negated) actionPatterns ??= clause.anyOf.map(likePattern);
      continue;
    }
    const fallback = TERMLESS_DEFAULTS[field];
    if (fallback === undefined) {
      if (!clause.negated) rows.push({ field, terms: hash(field, values) });
      continue;
    }
    // Every entry has one of a few values here: not to be the default, which has no term, is to be one of the others. For what entries must
    // not have the index is not asked: whoever records one could choose a value whose hash is that of another.
    const isWanted = (value: string) => values.includes(value) !== clause.negated;
    const others = FIELD_VALUES[field]!.filter((value) => value !== fallback);
    if (!isWanted(fallback) && others.some(isWanted)) rows.push({ field, terms: hash(field, others.filter(isWanted)) });
  }
  rows.sort((a, b) => TERM_FIELDS.indexOf(a.field) - TERM_FIELDS.indexOf(b.field));
  const opening = rows.some(({ field }) => RARE.has(field)) ? undefined : openingOf(filter, hash);
  return {
    clauses: rows.map(({ terms }) => terms),
    openingTerms: opening?.openings ?? null,
    openingOrTerms: opening?.terms ?? null,
    actionPatterns,
  };
}

type Hash = (field: string, values: readonly string[]) => number[];

function resourceRows(clause: Clause & { field: "resource" }, hash: Hash): { field: TermField; terms: number[] }[] {
  if (clause.negated) return [];
  const types = exactValues(clause.anyOf.map(({ type }) => type));
  const ids = exactValues(clause.anyOf.map(({ id }) => id));
  return [
    ...(ids === undefined ? [] : [{ field: "resource_id" as const, terms: hash("resource_id", ids) }]),
    ...(types === undefined ? [] : [{ field: "resource_type" as const, terms: hash("resource_type", types) }]),
  ];
}

/** What leads to values behind commitments: the rarest of what is asked of them. */
function openingOf({ clauses }: Filter, hash: Hash): { openings: number[]; terms: number[] | null } | undefined {
  const asked = clauses.filter(({ negated }) => !negated);
  for (const clause of asked) {
    if (clause.field !== "ip") continue;
    const addresses = fewAddresses(clause.anyOf);
    if (addresses !== undefined) return { openings: hash("ip", addresses), terms: null };
  }
  for (const clause of asked) {
    if (clause.field !== "actor_name" && clause.field !== "actor_email") continue;
    const values = exactValues(clause.anyOf);
    const field = clause.field === "actor_name" ? "name" : "email";
    if (values !== undefined) return { openings: hash(field, values), terms: null };
  }
  for (const clause of asked) {
    if (clause.field !== "actor" && clause.field !== "on_behalf_of") continue;
    const values = exactValues(clause.anyOf);
    if (values === undefined) continue;
    const terms = hash(clause.field === "actor" ? "actor_id" : "on_behalf_of_id", values);
    return { openings: [...hash("name", values), ...hash("email", values)], terms };
  }
  return undefined;
}

function isTermClause(clause: Clause): clause is TermClause {
  return (TERM_FIELDS as readonly string[]).includes(clause.field);
}

/** Most addresses that are looked for one by one. */
const MAX_ADDRESSES = 64;

/** The addresses of ranges, each of which the index of openings has a term of; undefined where there are too many to look for. */
export function fewAddresses(ranges: readonly IpRange[]): string[] | undefined {
  const addresses: string[] = [];
  for (const range of ranges) {
    const some = addressesIn(range, MAX_ADDRESSES - addresses.length);
    if (some === undefined) return undefined;
    addresses.push(...some);
  }
  return addresses;
}

/** The values, where all are to be compared as they are. */
function exactValues(wanted: readonly (Wanted | undefined)[]): string[] | undefined {
  const values: string[] = [];
  for (const one of wanted) {
    if (one?.kind !== "exact") return undefined;
    values.push(one.value);
  }
  return values;
}

function likePattern(wanted: Wanted): string {
  const parts = wanted.kind === "exact" ? [wanted.value] : wanted.parts;
  return parts.map((part) => part.replace(/[\\%_]/g, "\\$&")).join("%");
}

/** Rows of one length, as PostgreSQL's arrays have to be: filled up by repeating. */
export function rectangular(rows: readonly (readonly number[])[]): number[][] {
  const length = Math.max(0, ...rows.map((row) => row.length));
  return rows.map((row) => Array.from({ length }, (_, i) => row[Math.min(i, row.length - 1)]!));
}
