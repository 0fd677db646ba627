/**
 * Entries as they are read: what is selected of their rows, and their openings.
 */
import { openLeaf } from "@tallystick/core/commitment";
import { parseLeaf } from "@tallystick/core/leaf";
import type pg from "pg";
import { TIME } from "../db/time.ts";
import type { Candidates } from "./filter.ts";
import { readOpenings } from "./openings.ts";
import type { Entry } from "./reader.ts";

export interface EntryRow {
  readonly id: string;
  readonly seq: string;
  readonly recorded_at: string;
  readonly leaf_hash: Buffer;
  readonly leaf: string;
}

/** Of `tallystick.entries e`. */
export const ENTRY_ROW = `e.id, e.seq, e.leaf_hash, e.leaf, ${TIME("e.recorded_at")} as recorded_at`;

/** Rows as entries, their openings merged in. */
export async function openedEntries(client: pg.ClientBase, logId: number, rows: readonly EntryRow[]): Promise<Entry[]> {
  const entries = rows.map((row) => ({
    id: row.id,
    seq: Number(row.seq),
    recordedAt: row.recorded_at,
    leafHash: row.leaf_hash,
    leaf: row.leaf,
    opened: parseLeaf(row.leaf),
  }));
  const openings = await readOpenings(client, logId, entries);
  for (const { seq, opened } of entries) openLeaf(opened, openings.get(seq) ?? []);
  return entries;
}

/**
 * The entries at these positions of a log of the transaction's tenant, in the log's order; without those that the terms of their rows
 * already rule out: to read and open one takes ten times as long.
 */
export async function entriesAt(
  client: pg.ClientBase,
  logId: number,
  seqs: readonly number[],
  { clauses }: Pick<Candidates, "clauses">,
): Promise<Entry[]> {
  if (seqs.length === 0) return [];
  const [first, last] = [seqs.reduce((a, b) => Math.min(a, b)), seqs.reduce((a, b) => Math.max(a, b))];
  const values: unknown[] = [logId, seqs, first, last];
  const termsOf = (terms: readonly number[]) => {
    values.push(terms);
    return `(select array_agg(((e.seq >> 16) << 32) | term) from unnest($${values.length}::bigint[]) term)`;
  };
  const conditions = clauses.map((terms) => ` and e.terms && ${termsOf(terms)}`);
  const { rows } = await client.query<EntryRow>(
    `select ${ENTRY_ROW} from tallystick.entries e where e.log_id = $1 and e.seq = any ($2::bigint[])
       and e.recorded_at >= tallystick.time_at($1, $3) and e.recorded_at <= tallystick.time_at($1, $4)${conditions.join("")} order by e.seq`,
    values,
  );
  return openedEntries(client, logId, rows);
}
