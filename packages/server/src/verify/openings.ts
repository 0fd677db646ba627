/**
 * Openings against the commitments in leaves.
 */
import { commitmentOf } from "@tallystick/core/commitment";
import { openingTerm } from "../log/columns.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { CheckedEntry } from "./entry.ts";
import type { ProblemList } from "./report.ts";

/** A row of openings. */
export interface OpeningRow {
  readonly seq: number;
  readonly recordedAt: string;
  readonly tenantId: string;
  readonly term: number;
  readonly salt: Uint8Array;
  readonly pointer: string;
  /** JCS. */
  readonly value: string;
}

/**
 * Checks the openings of entries; those at other positions are not looked at. Both lists are in the order of `seq`.
 * @returns how many commitments have no opening: their values have been erased.
 */
export function checkOpenings(
  log: LogIdentity,
  entries: readonly CheckedEntry[],
  openings: readonly OpeningRow[],
  problems: ProblemList,
): number {
  let unopened = 0;
  let next = 0;
  for (const entry of entries) {
    const { seq, commitments } = entry;
    while (next < openings.length && openings[next]!.seq < seq) next++;
    if (commitments === undefined && openings[next]?.seq !== seq) continue;
    const opened = new Set<string>();
    for (; openings[next]?.seq === seq; next++) {
      // Of a leaf that cannot be read nobody can say what belongs to it.
      if (entry.service !== undefined) checkOpening(log, entry, openings[next]!, problems);
      opened.add(openings[next]!.pointer);
    }
    for (const pointer of commitments?.keys() ?? []) if (!opened.has(pointer)) unopened++;
  }
  return unopened;
}

function checkOpening(log: LogIdentity, entry: CheckedEntry, opening: OpeningRow, problems: ProblemList): void {
  const { pointer } = opening;
  const wrong = (field: string, stored: string, expected: string | undefined, detail: string) =>
    problems.add({
      seq: entry.seq,
      id: entry.id,
      kind: "opening",
      field,
      stored,
      ...(expected !== undefined && { expected }),
      detail: `${detail} (${pointer})`,
    });
  if (opening.tenantId !== log.tenantId) {
    wrong("tenant_id", opening.tenantId, log.tenantId, "the opening is filed under another tenant than its log");
  }
  if (opening.recordedAt !== entry.recordedAt) {
    wrong("recorded_at", opening.recordedAt, entry.recordedAt, "the opening has another time than its entry");
  }
  const committed = entry.commitments?.get(pointer);
  if (committed === undefined) {
    problems.add({
      seq: entry.seq,
      id: entry.id,
      kind: "opening",
      field: "pointer",
      stored: pointer,
      detail: "there is an opening where the leaf has no commitment",
    });
    return;
  }
  const term = termOf(log.logId, opening);
  const made = commitmentOf(opening);
  if (made !== committed) {
    // The term is made of the value alone: where it still fits, the salt is what changed.
    const field = term === opening.term ? "salt" : "value";
    wrong(field, made, committed, "the opening's value and salt do not make the leaf's commitment");
  } else if (term !== opening.term) {
    // The right one is a hash of the value without its salt, and the report outlives an erasure: it is not told.
    wrong("term", `${opening.term}`, undefined, "the opening's search term is not that of its value");
  }
}

function termOf(logId: number, { pointer, value }: OpeningRow): number | undefined {
  try {
    return openingTerm(logId, pointer, value);
  } catch {
    return undefined; // not JSON
  }
}
