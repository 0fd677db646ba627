/**
 * The transactions that index a log: each takes some whole segments, all or nothing. What is indexed and how far is one and the same
 * thing, the rows of text_segments, so that a crash at any moment loses nothing and repeats nothing.
 */
import type { Leaf } from "@tallystick/core/leaf";
import type pg from "pg";
import { newestMinute } from "../stats/rollup-rows.ts";
import { RollupTally } from "../stats/rollup-tally.ts";
import { insertSegments, openedSegments, readLeaves, type SegmentLog } from "./segment-rows.ts";
import type { SegmentTexts } from "./segment-text.ts";
import { SEGMENT_ENTRIES } from "./text-terms.ts";

/** Counts the entries of a transaction that indexes them, in that very transaction: each entry is counted once. */
export interface Tally {
  /** Told of every entry whose leaf can be read, in the log's order. */
  add(leaf: Leaf): void;
  /** Called once, with the positions that were read, [from, to); what it writes is committed with the segments, or not at all. */
  write(client: pg.ClientBase, range: { readonly from: number; readonly to: number }): Promise<void>;
}

export type StartTally = (log: SegmentLog) => Tally;

const startRollup: StartTally = (log) => new RollupTally(log);

/** Segments of a statement, and of a transaction: 16,384 entries. */
const SEGMENTS_AT_ONCE = 4;
const MAX_SEGMENTS = 64;
/** Of leaves, after which a transaction takes no more: entries may be large. */
const MAX_BYTES = 32 * 1024 ** 2;
/** After which a transaction takes no more: other logs wait for their turn. */
const MAX_MS = 1_000;
/** Segments of a transaction that makes rows of openings again. */
const MAX_DUE = 16;

export interface RunOptions {
  /** What begins a transaction of the writing role. */
  readonly begin: string;
  readonly texts: SegmentTexts;
  /** Roll-ups unless given. */
  readonly startTally?: StartTally | undefined;
}

/**
 * Indexes the next full segments of a log, at most 16,384 entries of it.
 * @returns how many entries; 0 where there was nothing to do, or another worker is at this log.
 */
export async function indexRun(client: pg.ClientBase, log: SegmentLog, options: RunOptions): Promise<number> {
  return inTransaction(client, log, options.begin, async () => {
    const { size, segments } = await progressOf(client, log);
    const end = Math.min(Math.floor(size / SEGMENT_ENTRIES), segments + MAX_SEGMENTS);
    const rolledUp = Math.floor(((await newestMinute(client, log.logId))?.endSeq ?? 0) / SEGMENT_ENTRIES);
    const startTally = options.startTally ?? startRollup;
    // Both end at one place, unless somebody took the rows of one away to have them made again.
    if (rolledUp < segments) return rollUpRun(client, log, startTally, rolledUp, segments);
    const tally = rolledUp > segments ? undefined : startTally(log);
    const endAt = performance.now() + MAX_MS;
    let bytes = 0;
    let next = segments;
    while (
      next < end &&
      bytes < MAX_BYTES &&
      (next === segments || performance.now() < endAt) &&
      (tally !== undefined || next < rolledUp)
    ) {
      const to = Math.min(end, next + SEGMENTS_AT_ONCE, tally === undefined ? rolledUp : end);
      bytes += await indexSegments(client, log, options.texts, tally, next, to);
      next = to;
    }
    if (next > segments) await tally?.write(client, { from: segments * SEGMENT_ENTRIES, to: next * SEGMENT_ENTRIES });
    return (next - segments) * SEGMENT_ENTRIES;
  });
}

/** Rolls up what is indexed already. */
async function rollUpRun(
  client: pg.ClientBase,
  log: SegmentLog,
  startTally: StartTally,
  rolledUp: number,
  segments: number,
): Promise<number> {
  const tally = startTally(log);
  const end = Math.min(segments, rolledUp + MAX_SEGMENTS);
  const endAt = performance.now() + MAX_MS;
  let bytes = 0;
  let next = rolledUp;
  while (next < end && bytes < MAX_BYTES && (next === rolledUp || performance.now() < endAt)) {
    const to = Math.min(end, next + SEGMENTS_AT_ONCE);
    bytes += await readLeaves(client, log, next, to, (leaf) => {
      if (leaf !== undefined) tally.add(leaf);
    });
    next = to;
  }
  await tally.write(client, { from: rolledUp * SEGMENT_ENTRIES, to: next * SEGMENT_ENTRIES });
  return (next - rolledUp) * SEGMENT_ENTRIES;
}

async function indexSegments(
  client: pg.ClientBase,
  log: SegmentLog,
  texts: SegmentTexts,
  tally: Tally | undefined,
  from: number,
  to: number,
): Promise<number> {
  const made: ReturnType<SegmentTexts["finish"]>[] = [];
  const bytes = await readLeaves(client, log, from, to, (leaf, seq) => {
    if (leaf !== undefined) tally?.add(leaf);
    texts.add(leaf?.event);
    if (seq % SEGMENT_ENTRIES === SEGMENT_ENTRIES - 1) made.push(texts.finish(Math.floor(seq / SEGMENT_ENTRIES)));
  });
  const segments = made.map((_, i) => from + i);
  await insertSegments(client, "text_segments", log, segments, made);
  // Whoever erases puts the segment on the queue, and commits before or after our look at the openings: before, we do not see what
  // was erased; after, the queue still has the segment when we have committed. What the queue had before this look is done by it.
  await client.query("delete from tallystick.text_openings_due where log_id = $1 and segment >= $2 and segment < $3", [
    log.logId,
    from,
    to,
  ]);
  await insertSegments(client, "text_openings", log, segments, await openedSegments(client, log, texts, from, to));
  return bytes;
}

/**
 * Makes rows of openings again, some of whose openings were erased.
 * @returns how many segments; 0 where there was nothing to do, or another worker is at this log.
 */
export async function reopenRun(client: pg.ClientBase, log: SegmentLog, options: RunOptions): Promise<number> {
  return inTransaction(client, log, options.begin, async () => {
    const { segments: indexed } = await progressOf(client, log);
    const { rows } = await client.query<{ segment: string }>(
      `select distinct segment from tallystick.text_openings_due where log_id = $1 and segment < $2 order by segment limit $3`,
      [log.logId, indexed, MAX_DUE],
    );
    const segments = rows.map(({ segment }) => Number(segment));
    for (const segment of segments) {
      for (const table of ["text_openings_due", "text_openings"]) {
        await client.query(`delete from tallystick.${table} where log_id = $1 and segment = $2`, [log.logId, segment]);
      }
      // A statement of its own, after the deletion: it sees the erasures that the queue told of.
      const made = await openedSegments(client, log, options.texts, segment, segment + 1);
      await insertSegments(client, "text_openings", log, [segment], made);
    }
    return segments.length;
  });
}

async function progressOf(client: pg.ClientBase, { logId }: SegmentLog): Promise<{ size: number; segments: number }> {
  const { rows } = await client.query<{ size: number; segments: number }>(
    "select size::float8 as size, segments::float8 as segments from tallystick.index_progress(array[$1::integer])",
    [logId],
  );
  return rows[0]!;
}

/** The primary key would refuse a second worker's rows: the lock only spares it the work. */
async function inTransaction(
  client: pg.ClientBase,
  { logId, tenantId }: SegmentLog,
  begin: string,
  work: () => Promise<number>,
): Promise<number> {
  // What a crash of PostgreSQL takes back is made again: no need to wait for the disk.
  await client.query(`${begin}; set local synchronous_commit = off`);
  let done: number | undefined;
  try {
    const { rows } = await client.query<{ mine: boolean }>(
      `select set_config('tallystick.tenant_id', $2, true), pg_try_advisory_xact_lock(hashtext('tallystick.index'), $1::integer) as mine`,
      [logId, tenantId],
    );
    const found = rows[0]!.mine ? await work() : 0;
    if (found > 0) {
      await client.query("commit");
      done = found;
    }
    return found;
  } finally {
    if (done === undefined) await client.query("rollback").catch(() => {}); // the connection is lost: the next statement says so
  }
}
