/**
 * The rows of segments: what is read to make them, and how they are inserted.
 */
import type { Leaf } from "@tallystick/core/leaf";
import { LeafError, parseLeaf } from "@tallystick/core/leaf";
import type pg from "pg";
import { ArrayParam, OID } from "../db/array-param.ts";
import { copyRows } from "../verify/copy.ts";
import { LENGTH_BYTES, readInt64 } from "../verify/row.ts";
import { openedTexts } from "./opened-texts.ts";
import type { SegmentText, SegmentTexts } from "./segment-text.ts";
import { SEGMENT_ENTRIES, SEGMENTS_VERSION } from "./text-terms.ts";

/** A log whose segments are made, in a transaction that sees its tenant. */
export interface SegmentLog {
  readonly logId: number;
  readonly tenantId: string;
}

/** A leaf of the only version whose meaning is known; undefined of any other text. */
export function knownLeaf(text: string): Leaf | undefined {
  try {
    const leaf = parseLeaf(text);
    return leaf.v === 1 ? leaf : undefined;
  } catch (error) {
    if (error instanceof LeafError) return undefined;
    throw error;
  }
}

/** Reads the leaves of whole segments [from, to), position by position; undefined where none can be read. Returns their bytes.
 * `byTime` reads no partition but those of their time, as someone who has named the tenant can. */
export async function readLeaves(
  client: pg.ClientBase,
  { logId }: SegmentLog,
  from: number,
  to: number,
  take: (leaf: Leaf | undefined, seq: number) => void,
  { byTime = true }: { readonly byTime?: boolean } = {},
): Promise<number> {
  let next = from * SEGMENT_ENTRIES;
  const end = to * SEGMENT_ENTRIES;
  let bytes = 0;
  const times = byTime
    ? `and e.recorded_at >= tallystick.time_at(${logId}, ${next}) and e.recorded_at <= tallystick.time_at(${logId}, ${end - 1})`
    : "";
  await copyRows(
    client,
    `select e.seq, e.leaf from tallystick.entries e where e.log_id = ${logId} and e.seq >= ${next} and e.seq < ${end} ${times}
     order by e.seq, e.recorded_at`,
    (row, at) => {
      const seq = readInt64(row, at + LENGTH_BYTES);
      if (seq < next) return; // a second row for a position, which verification names
      for (; next < seq; next++) take(undefined, next);
      const leafAt = at + LENGTH_BYTES + 8 + LENGTH_BYTES;
      const leafEnd = leafAt + row.readInt32BE(leafAt - LENGTH_BYTES);
      bytes += leafEnd - leafAt;
      take(knownLeaf(row.toString("utf8", leafAt, leafEnd)), next++);
    },
  );
  for (; next < end; next++) take(undefined, next);
  return bytes;
}

/** The rows of text_openings of whole segments [from, to), from the openings that there are now. */
export async function openedSegments(
  client: pg.ClientBase,
  { logId }: SegmentLog,
  texts: SegmentTexts,
  from: number,
  to: number,
): Promise<SegmentText[]> {
  const first = from * SEGMENT_ENTRIES;
  const end = to * SEGMENT_ENTRIES;
  const rows: { seq: number; pointer: string; value: string }[] = [];
  await copyRows(
    client,
    `select seq, pointer, value from tallystick.openings where log_id = ${logId} and seq >= ${first} and seq < ${end}
       and recorded_at >= tallystick.time_at(${logId}, ${first}) and recorded_at <= tallystick.time_at(${logId}, ${end - 1})
     order by seq, pointer, recorded_at`,
    (row, at) => {
      const pointerAt = at + LENGTH_BYTES + 8 + LENGTH_BYTES;
      const pointerEnd = pointerAt + row.readInt32BE(pointerAt - LENGTH_BYTES);
      const valueAt = pointerEnd + LENGTH_BYTES;
      rows.push({
        seq: readInt64(row, at + LENGTH_BYTES),
        pointer: row.toString("utf8", pointerAt, pointerEnd),
        value: row.toString("utf8", valueAt, valueAt + row.readInt32BE(pointerEnd)),
      });
    },
  );
  return openedTextsOf(rows, texts, from, to);
}

/** The rows of text_openings of whole segments [from, to), from openings in the order of seq and pointer. */
export function openedTextsOf(
  openings: readonly { readonly seq: number; readonly pointer: string; readonly value: string }[],
  texts: SegmentTexts,
  from: number,
  to: number,
): SegmentText[] {
  const made: SegmentText[] = [];
  let at = 0;
  for (let segment = from; segment < to; segment++) {
    const end = (segment + 1) * SEGMENT_ENTRIES;
    if (at === openings.length || openings[at]!.seq >= end) {
      made.push(NOTHING);
      continue;
    }
    for (let seq = segment * SEGMENT_ENTRIES; seq < end; seq++) {
      const start = at;
      while (at < openings.length && openings[at]!.seq === seq) at++;
      const { texts: said, ips } = openedTexts(openings.slice(start, at));
      texts.addOpened(said, ips);
    }
    made.push(texts.finish(segment));
  }
  return made;
}

const NOTHING: SegmentText = { terms: new Float64Array(), text: "" };

/** Inserts rows of successive segments, the first of number `from`. A row that is there already fails the whole transaction. */
export async function insertSegments(
  client: pg.ClientBase,
  table: "text_segments" | "text_openings",
  { logId, tenantId }: SegmentLog,
  segments: readonly number[],
  rows: readonly SegmentText[],
): Promise<void> {
  const values: unknown[] = [logId, tenantId, SEGMENTS_VERSION];
  const places = rows.map(({ terms, text }, i) => {
    values.push(segments[i], termsParam(terms), text);
    const last = values.length;
    return `($1::integer, $${last - 2}::bigint, $2::uuid, $3::smallint, $${last - 1}::bigint[], $${last}::text)`;
  });
  await client.query(
    `insert into tallystick.${table} (log_id, segment, tenant_id, version, terms, text) values ${places.join(", ")}`,
    values,
  );
}

/** No dimensions, no nulls, the element type. */
const EMPTY_ARRAY = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, OID.int8]);

/** As PostgreSQL's binary form of a bigint[]. */
export function termsParam(terms: Float64Array): Buffer {
  if (terms.length === 0) return EMPTY_ARRAY;
  const param = new ArrayParam(OID.int8, terms.length * 12);
  for (const term of terms) param.int8(term);
  return param.finish();
}
