/**
 * Rows that stand where the log has no entry.
 */
import type pg from "pg";
import { TIME } from "../db/time.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { OpeningRow } from "./openings.ts";
import type { ProblemList } from "./report.ts";
import { allOf, OPENING, type Snapshot, type Span, within } from "./sql.ts";

const STRAYS_AT_ONCE = 1_000;

/** Names rows among the entries of another time, or beyond the newest head. `size` is that of the log when it was pinned. */
export async function checkStrays(
  snapshot: Snapshot,
  log: LogIdentity,
  spans: readonly Span[],
  size: number,
  problems: ProblemList,
): Promise<void> {
  for (const span of spans) {
    for (let last: StrayRow | undefined, more = true; more; ) {
      const rows = await snapshot((client) => readStrays(client, log, span, size, STRAYS_AT_ONCE, last));
      for (const { seq, id, recordedAt } of rows) {
        const detail = `there is a row for position ${seq} among entries of another time (recorded_at ${recordedAt})`;
        problems.add({ seq, id, kind: "extra", detail });
      }
      last = rows.at(-1);
      more = rows.length === STRAYS_AT_ONCE;
    }
  }
  const { entries, openings } = await snapshot((client) => readBeyond(client, log, STRAYS_AT_ONCE));
  for (const { seq, id, size: newest } of entries) {
    const detail = `the entry lies beyond the newest head, of size ${newest}: it was put there, or its head was removed`;
    problems.add({ seq, id, kind: "extra", detail });
  }
  problems.addUnlisted((entries[0]?.count ?? 0) - entries.length);
  for (const { seq, pointer } of openings) {
    const detail = "there is an opening beyond the newest head";
    problems.add({ seq, id: null, kind: "opening", field: "pointer", stored: pointer, detail });
  }
  problems.addUnlisted((openings[0]?.count ?? 0) - openings.length);
}

/** A row that stands where the log has no entry. */
interface StrayRow {
  readonly seq: number;
  readonly id: string;
  readonly recordedAt: string;
}

/**
 * Entries that were recorded in a span but stand at positions of others, after the one given.
 * @param size positions from here on are not looked at: entries that arrive meanwhile are there.
 */
async function readStrays(
  client: pg.ClientBase,
  { logId }: LogIdentity,
  span: Span,
  size: number,
  limit: number,
  after: StrayRow | undefined,
): Promise<StrayRow[]> {
  const stray = (condition: string) =>
    `(select e.seq::float8 as seq, e.id, ${TIME("e.recorded_at")} as "recordedAt" from tallystick.entries e
      where e.log_id = $1 and ${condition} and ${within("e", span)} and (e.seq, e.recorded_at) > ($2, $3::timestamptz)
      order by e.seq, e.recorded_at limit $4)`;
  const { rows } = await client.query<StrayRow>(
    `${stray(`e.seq < ${span.from}`)} union all ${stray(`e.seq >= ${span.to} and e.seq < ${size}`)} order by seq, "recordedAt" limit $4`,
    [logId, after?.seq ?? -1, after?.recordedAt ?? "-infinity", limit],
  );
  return rows;
}

/** What lies beyond the newest head, which no commit does. */
async function readBeyond(client: pg.ClientBase, { logId }: LogIdentity, limit: number) {
  const newest = "(select coalesce(max(size), 0) from tallystick.heads where log_id = $1)";
  const [entries, openings] = await allOf([
    client.query<StrayRow & { count: number; size: number }>(
      `select e.seq::float8 as seq, e.id, ${TIME("e.recorded_at")} as "recordedAt", (count(*) over ())::float8 as count, ${newest}::float8 as size
       from tallystick.entries e where e.log_id = $1 and e.seq >= ${newest} order by e.seq, e.recorded_at limit $2`,
      [logId, limit],
    ),
    client.query<OpeningRow & { count: number }>(
      `select ${OPENING}, (count(*) over ())::float8 as count from tallystick.openings o where o.log_id = $1 and o.seq >= ${newest} order by o.seq limit $2`,
      [logId, limit],
    ),
  ]);
  return { entries: entries.rows, openings: openings.rows };
}
