/**
 * Finding entries by segments: which segments may have them, and which of their entries have values that do.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { type IpRange, isInRange } from "@tallystick/core/ip-range";
import type pg from "pg";
import type { TextClause } from "./text-clauses.ts";
import { SEGMENT_ENTRIES } from "./text-terms.ts";

/** Where an event's address is committed. */
const IP_POINTER = "/event/context/ip";

/** Positions [from, to). */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/** How many segments of a log are indexed: the first so many; no further than the log goes, whatever rows there are behind its end. */
export async function indexedSegments(client: pg.ClientBase, logId: number): Promise<number> {
  const { rows } = await client.query<{ segment: string }>(
    `select segment from tallystick.text_segments where log_id = $1 and segment < (
       select size >> 8 from tallystick.heads where log_id = $1 order by size desc limit 1) order by segment desc limit 1`,
    [logId],
  );
  return rows.length === 0 ? 0 : Number(rows[0]!.segment) + 1;
}

/**
 * Segments that may have what is asked for and reach into the range, in the log's order or against it; at most `wanted`.
 *
 * @param client in a transaction of the log's tenant.
 */
export async function findSegments(
  client: pg.ClientBase,
  logId: number,
  clauses: readonly TextClause[],
  { from, to }: Range,
  newestFirst: boolean,
  wanted: number,
): Promise<number[]> {
  const first = Math.floor(from / SEGMENT_ENTRIES);
  const end = Math.ceil(to / SEGMENT_ENTRIES);
  const byTerms = clauses.filter(({ any }) => any !== null);
  if (byTerms.length === 0) {
    const count = Math.max(0, Math.min(wanted, end - first));
    return Array.from({ length: count }, (_, i) => (newestFirst ? end - 1 - i : first + i));
  }
  const { rows } = await client.query<{ segment: string }>(
    `select segment from tallystick.find_segments($1, $2, $3, $4, $5, $6)`,
    [logId, first, end, newestFirst, wanted, JSON.stringify(byTerms.map(({ any, opened }) => ({ any, opened })))],
  );
  return rows.map(({ segment }) => Number(segment));
}

/**
 * Positions within these segments, in their order, whose entries have values with what is asked for.
 *
 * @param requireTime throws when the search has taken too long: large texts are gone through with looks at the clock, and turns of others.
 */
export async function positionsIn(
  client: pg.ClientBase,
  logId: number,
  clauses: readonly TextClause[],
  { from, to }: Range,
  newestFirst: boolean,
  segments: readonly number[],
  requireTime: () => void,
): Promise<number[]> {
  const byLine = clauses.filter(({ lines }) => lines !== null);
  const ranges = clauses.flatMap(({ addresses }) => (addresses === undefined ? [] : [addresses]));
  const positions: number[] = [];
  for (const some of byLine.length === 0 ? [segments] : await batchesOf(client, logId, segments)) {
    const texts = byLine.length === 0 ? new Map<number, never>() : await readTexts(client, logId, some);
    for (const segment of some) {
      requireTime();
      if (isLarge(texts.get(segment))) await nextTurn();
      const matches = matchesIn(byLine, texts.get(segment));
      const first = segment * SEGMENT_ENTRIES;
      for (let i = 0; i < SEGMENT_ENTRIES; i++) {
        const at = newestFirst ? SEGMENT_ENTRIES - 1 - i : i;
        const seq = first + at;
        if (seq >= from && seq < to && matches[at] === 1) positions.push(seq);
      }
    }
  }
  if (ranges.length === 0 || positions.length === 0) return positions;
  // Behind the text, which is read faster: addresses of entries that do not have it are nobody's business.
  const left = [...new Set(positions.map((seq) => Math.floor(seq / SEGMENT_ENTRIES)))];
  const addressed = await readAddressed(client, logId, left, ranges);
  return positions.filter((seq) => addressed.has(seq));
}

/** Of texts that are read at once; most segments have a few kB, some have many MB. */
const BATCH_BYTES = 4 * 1024 * 1024;
const LARGE_CHARACTERS = 100_000;

/** Segments in their order, in batches of bounded size. */
async function batchesOf(client: pg.ClientBase, logId: number, segments: readonly number[]): Promise<number[][]> {
  const { rows } = await client.query<{ segment: number; bytes: number }>(
    `select s.segment::float8 as segment, octet_length(s.text) + coalesce(octet_length(o.text), 0) as bytes
     from tallystick.text_segments s
     left join tallystick.text_openings o on o.log_id = s.log_id and o.segment = s.segment
     where s.log_id = $1 and s.segment = any ($2::bigint[])`,
    [logId, segments],
  );
  const sizes = new Map(rows.map(({ segment, bytes }) => [segment, bytes]));
  const batches: number[][] = [[]];
  let bytes = 0;
  for (const segment of segments) {
    const size = sizes.get(segment) ?? 0;
    if (bytes > 0 && bytes + size > BATCH_BYTES) {
      batches.push([]);
      bytes = 0;
    }
    batches.at(-1)!.push(segment);
    bytes += size;
  }
  return batches;
}

function isLarge(texts: Texts | undefined): boolean {
  return texts !== undefined && texts.text.length + (texts.opened?.length ?? 0) > LARGE_CHARACTERS;
}

/** Positions within these segments whose addresses are in one of each list of ranges. They are read as they are now. */
async function readAddressed(
  client: pg.ClientBase,
  logId: number,
  segments: readonly number[],
  ranges: readonly (readonly IpRange[])[],
): Promise<Set<number>> {
  const { rows } = await client.query<{ seq: string; ip: string }>(
    `select o.seq, o.value::json #>> '{}' as ip
     from unnest($2::bigint[]) segment
     join tallystick.openings o on o.log_id = $1 and o.seq >= segment * ${SEGMENT_ENTRIES} and o.seq < (segment + 1) * ${SEGMENT_ENTRIES}
     where o.pointer = $3`,
    [logId, segments, IP_POINTER],
  );
  const isIn = (ip: string) => ranges.every((anyOf) => anyOf.some((range) => isInRange(ip, range)));
  return new Set(rows.filter(({ ip }) => isIn(ip)).map(({ seq }) => Number(seq)));
}

interface Texts {
  readonly text: string;
  /** Null where it is to be made again: any entry may have what is asked for. */
  readonly opened: string | null;
}

async function readTexts(
  client: pg.ClientBase,
  logId: number,
  segments: readonly number[],
): Promise<Map<number, Texts>> {
  const { rows } = await client.query<Texts & { segment: string }>(
    `select s.segment, s.text, case when not exists (
         select from tallystick.text_openings_due d where d.log_id = s.log_id and d.segment = s.segment) then o.text end as opened
     from tallystick.text_segments s
     left join tallystick.text_openings o on o.log_id = s.log_id and o.segment = s.segment
     where s.log_id = $1 and s.segment = any ($2::bigint[])`,
    [logId, segments],
  );
  return new Map(rows.map((row) => [Number(row.segment), row]));
}

/** 1 for each position of a segment whose values have what is asked for; for all of one that is not there. */
function matchesIn(clauses: readonly TextClause[], texts: Texts | undefined): Uint8Array {
  const matches = new Uint8Array(SEGMENT_ENTRIES).fill(1);
  if (texts === undefined) return matches;
  for (const { lines, opened } of clauses) {
    if (opened && texts.opened === null) continue;
    const found = new Uint8Array(SEGMENT_ENTRIES);
    for (const phrase of lines!) {
      markValues(texts.text, phrase, found);
      if (opened) markValues(texts.opened!, phrase, found);
    }
    for (let at = 0; at < SEGMENT_ENTRIES; at++) matches[at]! &= found[at]!;
  }
  return matches;
}

/** Marks the positions of every value that has the phrase. */
function markValues(text: string, phrase: string, found: Uint8Array): void {
  for (let at = text.indexOf(phrase); at >= 0; ) {
    const tab = text.indexOf("\t", at);
    const end = text.indexOf("\n", tab);
    for (const range of text.slice(tab + 1, end < 0 ? undefined : end).split(",")) {
      const [first, last = first] = range.split("-").map(Number) as [number, number?];
      found.fill(1, first, last + 1);
    }
    at = end < 0 ? -1 : text.indexOf(phrase, end);
  }
}
