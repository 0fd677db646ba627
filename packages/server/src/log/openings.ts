/**
 * The openings of entries, as they are kept.
 */
import type { Opening } from "@tallystick/core/commitment";
import type pg from "pg";

/**
 * The openings that these entries still have, by position. Entries without a commitment cost nothing.
 *
 * @param client in a transaction that sees the log's tenant.
 */
export async function readOpenings(
  client: pg.ClientBase,
  logId: number,
  entries: readonly { readonly seq: number; readonly recordedAt: string; readonly leaf: string }[],
): Promise<Map<number, Opening[]>> {
  const committed = entries.filter(({ leaf }) => leaf.includes('{"$committed":"'));
  if (committed.length === 0) return new Map();
  const times = committed.map(({ recordedAt }) => recordedAt).sort();
  const { rows } = await client.query<Opening & { seq: string }>(
    `select seq, pointer, salt, value from tallystick.openings
     where log_id = $1 and seq = any ($2::bigint[]) and recorded_at >= $3 and recorded_at <= $4`,
    [logId, committed.map(({ seq }) => seq), times[0], times.at(-1)],
  );
  const bySeq = Map.groupBy(rows, ({ seq }) => Number(seq));
  return new Map(
    [...bySeq].map(([seq, openings]) => [seq, openings.map(({ pointer, salt, value }) => ({ pointer, salt, value }))]),
  );
}
