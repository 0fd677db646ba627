/**
 * The segments of text search against the entries that they are made of: a segment that hides an entry's words, or invents some, makes
 * searches find what is not there, or not find what is.
 */
import type { Leaf } from "@tallystick/core/leaf";
import type pg from "pg";
import type { LogIdentity } from "../log/identity.ts";
import { openedTextsOf, readLeaves, termsParam } from "../search/segment-rows.ts";
import { type SegmentText, SegmentTexts } from "../search/segment-text.ts";
import { SEGMENT_ENTRIES, SEGMENTS_VERSION } from "../search/text-terms.ts";
import { copyRows } from "./copy.ts";
import type { OpeningRow } from "./openings.ts";
import type { ProblemList } from "./report.ts";
import { LENGTH_BYTES, readInt64, uuidText } from "./row.ts";
import { OPENING } from "./sql.ts";

/** What derives segments remembers values; it serves one batch at a time, and batches of a log may be under way side by side. */
const idle = new Map<number, SegmentTexts[]>();
const MAX_IDLE_LOGS = 4;

function takeTexts(logId: number): SegmentTexts {
  return idle.get(logId)?.pop() ?? new SegmentTexts(logId);
}

function giveBack(logId: number, texts: SegmentTexts): void {
  if (!idle.has(logId) && idle.size >= MAX_IDLE_LOGS) idle.clear();
  idle.set(logId, [...(idle.get(logId) ?? []), texts]);
}

type Table = "text_segments" | "text_openings";

/** Derives the whole segments of a span as its leaves go by, and compares them with those that are stored. */
export class SegmentCheck {
  readonly #log: LogIdentity;
  readonly #problems: ProblemList;
  readonly #first: number;
  readonly #end: number;
  readonly #texts: SegmentTexts;
  readonly #made: SegmentText[] = [];
  #next: number;

  /** Of the segments that lie wholly in [from, to). */
  constructor(log: LogIdentity, problems: ProblemList, { from, to }: { readonly from: number; readonly to: number }) {
    this.#log = log;
    this.#problems = problems;
    this.#first = Math.ceil(from / SEGMENT_ENTRIES);
    this.#end = Math.max(this.#first, Math.floor(to / SEGMENT_ENTRIES));
    this.#next = this.#first * SEGMENT_ENTRIES;
    this.#texts = takeTexts(log.logId);
  }

  /** Told of each leaf in the log's order; undefined where it cannot be read. */
  take(seq: number, leaf: Leaf | undefined): void {
    if (seq < this.#next || seq >= this.#end * SEGMENT_ENTRIES) return; // not ours, or a second row for a position
    while (this.#next < seq) this.#add(undefined);
    this.#add(leaf?.v === 1 ? leaf : undefined);
  }

  #add(leaf: Leaf | undefined): void {
    this.#texts.add(leaf?.event);
    this.#next++;
    if (this.#next % SEGMENT_ENTRIES === 0) this.#made.push(this.#texts.finish(this.#next / SEGMENT_ENTRIES - 1));
  }

  /** Compares, behind the last leaf. `openings` are those of the span, in the order of seq and pointer. */
  async finish(client: pg.ClientBase, openings: readonly OpeningRow[]): Promise<void> {
    if (this.#first === this.#end) return;
    while (this.#next < this.#end * SEGMENT_ENTRIES) this.#add(undefined);
    const { logId } = this.#log;
    const { rows } = await client.query<{ indexed: number; due: number[] }>(
      `select coalesce((select segment + 1 from tallystick.text_segments where log_id = $1 order by segment desc limit 1), 0)::float8 as indexed,
         array(select segment::float8 from tallystick.text_openings_due where log_id = $1 and segment >= $2 and segment < $3) as due`,
      [logId, this.#first, this.#end],
    );
    const { indexed, due } = rows[0]!;
    const end = Math.min(this.#end, indexed);
    if (this.#first < end) {
      await this.#compare(client, "text_segments", end, this.#made, new Set());
      const first = openings.findIndex(({ seq }) => seq >= this.#first * SEGMENT_ENTRIES);
      const ours = first < 0 ? [] : openings.slice(first);
      const opened = openedTextsOf(ours, this.#texts, this.#first, end);
      await this.#compare(client, "text_openings", end, opened, new Set(due));
    }
    giveBack(logId, this.#texts);
  }

  async #compare(
    client: pg.ClientBase,
    table: Table,
    end: number,
    made: readonly SegmentText[],
    skipped: ReadonlySet<number>,
  ): Promise<void> {
    const { logId } = this.#log;
    let next = this.#first;
    const missing = (to: number) => {
      for (; next < to; next++) {
        if (!skipped.has(next)) this.#report(table, next, "segment", "there is no row for", {});
      }
    };
    await copyRows(
      client,
      `select x.segment, x.tenant_id, x.version, x.terms, x.text from tallystick.${table} x
       where x.log_id = ${logId} and x.segment >= ${this.#first} and x.segment < ${end} order by x.segment`,
      (row, at) => {
        const segment = readInt64(row, at + LENGTH_BYTES);
        missing(segment);
        next++;
        if (!skipped.has(segment)) this.#compareRow(table, segment, row, at, made[segment - this.#first]!);
      },
    );
    missing(end);
  }

  #compareRow(table: Table, segment: number, row: Buffer, at: number, { terms, text }: SegmentText): void {
    const tenantAt = at + LENGTH_BYTES + 8 + LENGTH_BYTES;
    const versionAt = tenantAt + 16 + LENGTH_BYTES;
    const termsAt = versionAt + 2 + LENGTH_BYTES;
    const textAt = termsAt + row.readInt32BE(termsAt - LENGTH_BYTES) + LENGTH_BYTES;
    const tenant = uuidText(row, tenantAt);
    if (tenant !== this.#log.tenantId) {
      this.#report(table, segment, "tenant_id", "another tenant than the log's has the row for", {
        stored: tenant,
        expected: this.#log.tenantId,
      });
    }
    const version = row.readInt16BE(versionAt);
    if (version !== SEGMENTS_VERSION) {
      this.#problems.add({
        seq: segment * SEGMENT_ENTRIES,
        id: null,
        kind: "unknown_version",
        field: `${table}.version`,
        stored: `${version}`,
        expected: `${SEGMENTS_VERSION}`,
        detail: `the words of positions ${placesOf(segment)} were derived by a version that this program does not know`,
      });
      return;
    }
    const storedText = row.subarray(textAt, textAt + row.readInt32BE(textAt - LENGTH_BYTES));
    if (!storedText.equals(Buffer.from(text))) this.#reportText(table, segment, storedText.toString(), text);
    if (!row.subarray(termsAt, textAt - LENGTH_BYTES).equals(termsParam(terms))) {
      this.#report(table, segment, "terms", "the terms are not those of the words of", {});
    }
  }

  /** Names the first value that is another one, or elsewhere, and an entry that has it. Of what is behind commitments nothing is told: the report outlives an erasure. */
  #reportText(table: Table, segment: number, stored: string, expected: string): void {
    const [lines, right] = [stored.split("\n"), expected.split("\n")];
    const differs = right.findIndex((one, i) => one !== lines[i]);
    const line = differs < 0 ? right.length : differs; // behind all that should be there is something else
    const said = right[line] ?? lines[line] ?? "";
    const at = Number.parseInt(said.slice(said.indexOf("\t") + 1), 10) || 0;
    const values = table === "text_openings" ? {} : { stored: lines[line] ?? "", expected: right[line] ?? "" };
    this.#report(table, segment, "text", "the text is not what the entries say, of", values, at < 256 ? at : 0);
  }

  #report(
    table: Table,
    segment: number,
    field: string,
    what: string,
    values: { stored?: string; expected?: string },
    at = 0,
  ): void {
    this.#problems.add({
      seq: segment * SEGMENT_ENTRIES + at,
      id: null,
      kind: "text_index",
      field: `${table}.${field}`,
      ...values,
      detail: `${what} positions ${placesOf(segment)}: searches for text find there what is not there, or miss what is (${table})`,
    });
  }
}

function placesOf(segment: number): string {
  return `${segment * SEGMENT_ENTRIES} to ${(segment + 1) * SEGMENT_ENTRIES - 1}`;
}

/** Checks a segment that no batch has had as a whole: one that a month's end goes through. */
export async function checkSplitSegment(
  client: pg.ClientBase,
  log: LogIdentity,
  segment: number,
  problems: ProblemList,
): Promise<void> {
  const range = { from: segment * SEGMENT_ENTRIES, to: (segment + 1) * SEGMENT_ENTRIES };
  const check = new SegmentCheck(log, problems, range);
  await readLeaves(client, log, segment, segment + 1, (leaf, seq) => check.take(seq, leaf), { byTime: false });
  const { rows } = await client.query<OpeningRow>(
    `select ${OPENING} from tallystick.openings o where o.log_id = $1 and o.seq >= $2 and o.seq < $3 order by o.seq, o.pointer, o.recorded_at`,
    [log.logId, range.from, range.to],
  );
  await check.finish(client, rows);
}

/** Names segments of positions that the log has not got. */
export async function checkStraySegments(
  client: pg.ClientBase,
  { logId }: LogIdentity,
  problems: ProblemList,
): Promise<void> {
  const { rows } = await client.query<{ segment: number }>(
    `select segment::float8 as segment from (select segment from tallystick.text_segments where log_id = $1
         union select segment from tallystick.text_openings where log_id = $1) s
     where segment >= (select coalesce(max(size), 0) / ${SEGMENT_ENTRIES} from tallystick.heads where log_id = $1) order by 1 limit 1000`,
    [logId],
  );
  for (const { segment } of rows) {
    problems.add({
      seq: segment * SEGMENT_ENTRIES,
      id: null,
      kind: "text_index",
      field: "segment",
      stored: `${segment}`,
      detail: `there are words of positions ${placesOf(segment)}, which the log has not got yet`,
    });
  }
}
