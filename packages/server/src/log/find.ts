/**
 * Finding entries that match: by the indexes of entries, of openings and of text, whichever lead to fewer, and by a look at each.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { type Filter, matcherOf, NO_FILTER } from "@tallystick/core/filter";
import type { Leaf } from "@tallystick/core/leaf";
import type pg from "pg";
import { narrowingAdvice } from "../search/advice.ts";
import { knownActions } from "../search/known-actions.ts";
import { findSegments, indexedSegments, positionsIn, type Range } from "../search/segment-search.ts";
import { type TextClause, textClausesOf } from "../search/text-clauses.ts";
import { SEGMENT_ENTRIES } from "../search/text-terms.ts";
import { ENTRY_ROW, type EntryRow, entriesAt, openedEntries } from "./entry-rows.ts";
import { type Candidates, candidatesOf, rectangular } from "./filter.ts";
import type { Entry } from "./reader.ts";

/** A page was not filled in the time that a query may take; the message says what would narrow the search. */
export class SearchTimeoutError extends Error {
  constructor(filter: Filter = NO_FILTER, options?: ErrorOptions) {
    super(narrowingAdvice(filter), options);
    this.name = "SearchTimeoutError";
  }
}

const SEARCH_TIMEOUT_MS = 5_000;
/** Entries that are read at once: leaves have 64 kB at most. */
const MAX_CANDIDATES = 1_024;
/** Fewer segments than these are gone through sooner than the entries of an actor. */
const FEW_SEGMENTS = 500;
/** Segments that are read at a time. */
const FIRST_SEGMENTS = 8;
const MAX_SEGMENTS = 128;
/** Entries of them that are read at a time. */
const MIN_ENTRIES = 16;
const MAX_ENTRIES = 256;
/** Entries that are looked at between two looks at the clock, and turns of others. */
const TURN_ENTRIES = 64;

/** Whether PostgreSQL stopped a statement that took too long. */
function isStopped(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === "57014";
}

/** A search that is under way. */
interface Search {
  readonly client: pg.ClientBase;
  readonly logId: number;
  readonly filter: Filter;
  readonly desc: boolean;
  readonly limit: number;
  readonly matches: (leaf: Leaf) => boolean;
  readonly found: Entry[];
  /** No search takes longer than one query may. */
  readonly deadline: number;
}

export interface FindOptions extends Range {
  /** Newest first. */
  readonly desc: boolean;
  /** At least so many are found where there are so many. */
  readonly limit: number;
  /** Whether the roll-ups may say which actions there are. */
  readonly derived: boolean;
}

/**
 * Entries of [from, to) that match, in the log's order or against it, with their openings merged in.
 *
 * @param client in a transaction that sees the log's tenant.
 * @throws {SearchTimeoutError}
 */
export async function findEntries(
  client: pg.ClientBase,
  logId: number,
  filter: Filter,
  { from, to, desc, limit, derived }: FindOptions,
): Promise<Entry[]> {
  const range = await rangeOf(client, logId, filter, { from, to });
  const deadline = performance.now() + SEARCH_TIMEOUT_MS;
  const search: Search = { client, logId, filter, desc, limit, matches: matcherOf(filter), found: [], deadline };
  try {
    await (derived ? find : findIn)(search, range);
  } catch (cause) {
    throw isStopped(cause) ? new SearchTimeoutError(filter, { cause }) : cause;
  }
  return search.found;
}

/** The positions that times and cursor leave. */
async function rangeOf(
  client: pg.ClientBase,
  logId: number,
  { from, to }: Filter,
  { from: first, to: end }: Range,
): Promise<Range> {
  if (from === undefined && to === undefined) return { from: first, to: end };
  const { rows } = await client.query<{ from: number; to: number }>(
    `select greatest(case when $2::timestamptz is null then 0 else tallystick.size_before($1, $2) end, $3::bigint)::float8 as from,
       least(case when $4::timestamptz is null then $5::bigint else tallystick.size_before($1, $4) end, $5::bigint)::float8 as to`,
    [logId, from ?? null, first, to ?? null, end],
  );
  return rows[0]!;
}

/** Actions that are asked for by a pattern are looked for as the actions that there are, as far as those are known. */
async function find(search: Search, range: Range): Promise<void> {
  const { client, logId, filter, desc, limit, found } = search;
  const known = await knownActions(client, logId, filter);
  if (known === undefined) return findIn(search, range);
  const parts: [Filter | undefined, Range][] = [
    [known.filter, { from: range.from, to: Math.min(range.to, known.upTo) }],
    [filter, { from: Math.max(range.from, known.upTo), to: range.to }],
  ];
  for (const [asked, part] of desc ? parts.reverse() : parts) {
    if (asked !== undefined && part.from < part.to && found.length < limit) {
      await findIn({ ...search, filter: asked }, part);
    }
  }
}

/**
 * Text is looked for in segments, and entry by entry where the worker has not come yet. Where something is asked for that the index of
 * entries knows, and the text is too common to lead anywhere, every entry of that kind is looked at instead.
 */
async function findIn(search: Search, range: Range): Promise<void> {
  const { client, logId, filter, desc } = search;
  const clauses = textClausesOf(logId, filter);
  const candidates = candidatesOf(logId, filter);
  const indexed = clauses.length === 0 ? 0 : (await indexedSegments(client, logId)) * SEGMENT_ENTRIES;
  const head = { from: range.from, to: Math.min(range.to, indexed) };
  if (head.from >= head.to || (await isBetterByEntries(search, clauses, candidates, head))) {
    return findByEntries(search, candidates, range);
  }
  const tail = { from: Math.max(range.from, indexed), to: range.to };
  const parts = [
    () => findBySegments(search, clauses, candidates, head),
    () => findByEntries(search, candidates, tail, true),
  ];
  for (const part of desc ? parts.reverse() : parts) if (search.found.length < search.limit) await part();
}

/** Whether what the index of entries knows leads to fewer entries than the text does. */
async function isBetterByEntries(
  { client, logId, desc }: Search,
  clauses: readonly TextClause[],
  { clauses: terms, openingTerms }: Candidates,
  range: Range,
): Promise<boolean> {
  if (terms.length === 0 && openingTerms === null) return false;
  const segments = await findSegments(client, logId, clauses, range, desc, FEW_SEGMENTS);
  return segments.length === FEW_SEGMENTS;
}

/** @throws {SearchTimeoutError} */
function requireTime({ deadline, filter }: Search): void {
  if (performance.now() > deadline) throw new SearchTimeoutError(filter);
}

/** Those that match; large entries take their time, which is not to be everybody's. */
async function keepMatching(search: Search, entries: readonly Entry[]): Promise<void> {
  for (let at = 0; at < entries.length; at += TURN_ENTRIES) {
    if (at > 0) await nextTurn();
    requireTime(search);
    for (const entry of entries.slice(at, at + TURN_ENTRIES)) {
      if (search.matches(entry.opened)) search.found.push(entry);
    }
  }
}

async function findBySegments(
  search: Search,
  clauses: readonly TextClause[],
  candidates: Candidates,
  range: Range,
): Promise<void> {
  const { client, logId, desc, limit, found } = search;
  let { from, to } = range;
  let read = 0;
  const before = found.length;
  for (let wanted = FIRST_SEGMENTS; from < to; ) {
    requireTime(search);
    const segments = await findSegments(client, logId, clauses, { from, to }, desc, wanted);
    const positions = await positionsIn(client, logId, clauses, { from, to }, desc, segments, () =>
      requireTime(search),
    );
    for (let at = 0, size = MIN_ENTRIES; at < positions.length && found.length < limit; ) {
      requireTime(search);
      // Nearly all of them match, unless something else is asked for as well: then ever more are looked at.
      const part = positions.slice(at, at + Math.max(size, limit - found.length));
      at += part.length;
      size = Math.min(size * 4, MAX_ENTRIES);
      const entries = await entriesAt(client, logId, part, candidates);
      await keepMatching(search, desc ? entries.reverse() : entries);
    }
    if (found.length >= limit || segments.length < wanted) return;
    // As many as the rest should take at the density so far, and no fewer than a turn is worth.
    read += segments.length;
    const needed = ((limit - found.length) * read) / Math.max(1, found.length - before);
    wanted = Math.min(Math.max(Math.ceil(needed * 1.2), FIRST_SEGMENTS), MAX_SEGMENTS);
    const last = segments.at(-1)!;
    if (desc) to = last * SEGMENT_ENTRIES;
    else from = (last + 1) * SEGMENT_ENTRIES;
  }
}

/** @param isTail most of the entries are not what is asked for, and there are few of them. */
async function findByEntries(search: Search, candidates: Candidates, range: Range, isTail = false): Promise<void> {
  const { client, logId, filter, desc, limit, found } = search;
  let { from, to } = range;
  // More than one turn where candidates turned out not to match: ever larger ones then, as many of their kind may follow.
  const fewest = isTail ? SEGMENT_ENTRIES : 0;
  for (
    let wanted = Math.max(limit - found.length, fewest);
    found.length < limit;
    wanted = Math.min(wanted * 4, MAX_CANDIDATES)
  ) {
    requireTime(search);
    const { rows } = await client.query<EntryRow>(
      `select ${ENTRY_ROW}
       from tallystick.find_candidates($1, $2, $3, $4, $5, $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10, $11) found
       join tallystick.entries e on e.log_id = $1 and e.seq = found.seq and e.recorded_at = found.recorded_at
       order by case when $4 then -e.seq else e.seq end`,
      [
        logId,
        from,
        to,
        desc,
        wanted,
        rectangular(candidates.clauses),
        candidates.openingTerms,
        candidates.openingOrTerms,
        candidates.actionPatterns,
        filter.occurredFrom ?? null,
        filter.occurredTo ?? null,
      ],
    );
    await keepMatching(search, await openedEntries(client, logId, rows));
    if (rows.length < wanted) return;
    const last = Number(rows.at(-1)!.seq);
    if (desc) to = last;
    else from = last + 1;
  }
}
