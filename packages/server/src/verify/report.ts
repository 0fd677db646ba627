/**
 * What a verification says.
 */

import type { SignatureCount } from "./publishers.ts";

/** What is wrong. */
export type ProblemKind =
  /** The leaf's bytes are not those that were recorded, or say something else than their place. */
  | "leaf"
  /** The column `leaf_hash` is not the hash of the leaf. */
  | "leaf_hash"
  /** A column beside the leaf is not what the leaf says. */
  | "column"
  /** An opening does not belong to its commitment. */
  | "opening"
  /** Positions without an entry. */
  | "missing"
  /** Entries where the log has none: at a position that is taken, or beyond its end. */
  | "extra"
  /** `recorded_at` decreases. */
  | "order"
  | "tile"
  | "head"
  /** A published checkpoint is not of the log, or not signed by its key. */
  | "checkpoint"
  /** A service's chain is broken. */
  | "chain"
  | "service_head"
  /** PostgreSQL cannot read the row. */
  | "unreadable"
  /** A publisher's signature does not hold, or not for this event; or it is missing where there had to be one. */
  | "publisher"
  /** A row of services is not what the log's entries tell. */
  | "service"
  /** A row of publisher_keys is not what the log's entries tell, or such an entry does not say what it has to. */
  | "publisher_key"
  /** What text search goes by is not what the entries say. */
  | "text_index"
  /** What statistics are told by, and patterns of actions looked for by, is not what the entries say. */
  | "rollup"
  /** Made by a version of the deriving function that this program does not know: not checkable. */
  | "unknown_version"
  /** Something that should protect the log is missing or switched off. */
  | "enforcement"
  /** How many problems were found beyond those that are listed. */
  | "more";

/** One thing that is wrong, and where. Hashes are lower-case hex, times RFC 3339 UTC with six digits of fraction. */
export interface VerifyProblem {
  /** Position of the entry; null where the problem is no entry's. */
  readonly seq: number | null;
  readonly id: string | null;
  readonly kind: ProblemKind;
  readonly field?: string;
  readonly stored?: string;
  readonly expected?: string;
  /** A sentence for people. */
  readonly detail: string;
}

export interface VerifyReport {
  /** Whether nothing is wrong. */
  readonly ok: boolean;
  /** The slug of the tenant whose log it is. */
  readonly tenant: string;
  /** The log's name. */
  readonly log: string;
  /** Size and root (hex) of the head that was the newest when the verification began. */
  readonly size: number;
  readonly root: string;
  /** Entries that were read. */
  readonly checked: number;
  /** Commitments whose opening is gone: erased, which is no problem. */
  readonly erased: number;
  /** Publishers' signatures that were verified, and those that can no longer be: erased, which is no problem. */
  readonly signatures: SignatureCount;
  /** At most 1,000 in the log's order; a last one of kind `more` says how many were left out. */
  readonly problems: readonly VerifyProblem[];
}

const MAX_PROBLEMS = 1_000;
// Long enough for any hash, time or id; a whole leaf would fill the report.
const MAX_VALUE_LENGTH = 300;

/** Problems as they are found, in memory that does not grow with their number. */
export class ProblemList {
  readonly #kept: VerifyProblem[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(problem: VerifyProblem): void {
    this.#count++;
    if (this.#kept.length >= MAX_PROBLEMS) return;
    this.#kept.push({
      ...problem,
      ...(problem.stored !== undefined && { stored: shortened(problem.stored) }),
      ...(problem.expected !== undefined && { expected: shortened(problem.expected) }),
    });
  }

  /** Takes over the problems of a part. */
  addAll(others: ProblemList): void {
    for (const problem of others.#kept) this.add(problem);
    this.#count += others.#count - others.#kept.length;
  }

  /** Counts problems that were not read one by one. */
  addUnlisted(count: number): void {
    this.#count += count;
  }

  /** In the log's order; those that are no entry's come first. */
  list(): VerifyProblem[] {
    const problems = this.#kept.toSorted((a, b) => (a.seq ?? -1) - (b.seq ?? -1) || order(a.kind, b.kind));
    const more = this.#count - problems.length;
    if (more > 0) {
      problems.push({
        seq: null,
        id: null,
        kind: "more",
        detail: `${more} more problems were found; only the first ${problems.length} that were met are listed`,
      });
    }
    return problems;
  }
}

function order(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

function shortened(value: string): string {
  return value.length <= MAX_VALUE_LENGTH ? value : `${value.slice(0, MAX_VALUE_LENGTH)}...`;
}
