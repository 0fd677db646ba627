/**
 * Reading the rows of roll-ups.
 */
import type pg from "pg";
import { COUNTED_FIELDS, type CountedField } from "./counted-fields.ts";
import type { Span } from "./levels.ts";

/** A stretch of time and its counts, packed. */
export interface PackedRow {
  readonly level: number;
  /** When it begins, in minutes since 1970. */
  readonly minute: number;
  readonly entries: number;
  /** The position behind its last entry. */
  readonly endSeq: number;
  /** By the fields that were asked for, in their order. */
  readonly packed: readonly Uint8Array[];
}

type Row = [level: number, minute: number, entries: number, endSeq: number, ...packed: string[]];

function rowOf([level, minute, entries, endSeq, ...packed]: Row): PackedRow {
  return { level, minute, entries, endSeq, packed: packed.map((text) => Buffer.from(text, "base64")) };
}

async function query(client: pg.ClientBase, text: string, values: unknown[]): Promise<PackedRow[]> {
  const { rows } = await client.query<Row>({ text, values, rowMode: "array" });
  return rows.map(rowOf);
}

const HEAD = "r.level::integer, (extract(epoch from r.bucket) / 60)::integer, r.entries::float8, r.end_seq::float8";
// The driver takes answers as text: base64 is two thirds of the hex that bytea is written in.
const columnsOf = (fields: readonly CountedField[]) =>
  [HEAD, ...fields.map((field) => `encode(r.${field}, 'base64')`)].join(", ");

/**
 * The minute of the last entry that is counted, and so how far a log is counted; undefined where nothing is. Rows that somebody has put
 * behind the log's end do not count. Sees a log of the transaction's tenant.
 */
export async function newestMinute(client: pg.ClientBase, logId: number): Promise<PackedRow | undefined> {
  const [row] = await query(
    client,
    `select ${columnsOf(COUNTED_FIELDS)} from tallystick.rollups r where r.log_id = $1 and r.level = 0
       and r.end_seq <= (select size from tallystick.heads where log_id = $1 order by size desc limit 1) order by r.bucket desc limit 1`,
    [logId],
  );
  return row;
}

/** The rows of these spans, in no order. */
export async function packedRows(
  client: pg.ClientBase,
  logId: number,
  spans: readonly Span[],
  fields: readonly CountedField[],
): Promise<PackedRow[]> {
  if (spans.length === 0) return [];
  return query(
    client,
    `select ${columnsOf(fields)}
     from unnest($2::integer[], $3::bigint[], $4::bigint[]) as span (level, first, last)
     -- For each span by the primary key: left to itself, PostgreSQL may read all rows of the log and join them by level.
     cross join lateral (select * from tallystick.rollups r where r.log_id = $1 and r.level = span.level
       and r.bucket >= to_timestamp(span.first * 60) and r.bucket < to_timestamp(span.last * 60) offset 0) r`,
    [logId, spans.map(({ level }) => level), spans.map(({ from }) => from), spans.map(({ to }) => to)],
  );
}
