/**
 * Verification of a log: every entry, column, opening, tile, head and chain that the database holds, against what the leaves
 * say (docs/spec, sections 3 and 8). Memory does not grow with the log, and no transaction is held for longer than a batch.
 */
import { HASH_BYTES, TILE_WIDTH } from "@tallystick/core/tree";
import type { ReadAccess } from "./verify-access.ts";
import { ChainCheck } from "./verify-chains.ts";
import type { CleanBatch } from "./verify-clean.ts";
import type { CheckedEntry, LogIdentity } from "./verify-entry.ts";
import { checkOpenings } from "./verify-openings.ts";
import {
  type Batch,
  type Pinned,
  readBatch,
  readBeyond,
  readPinned,
  readStrays,
  readTile,
  type Snapshot,
  type Span,
  type StrayRow,
} from "./verify-read.ts";
import { ProblemList, type VerifyReport } from "./verify-report.ts";
import { checkTile, hashIn, type TileRow } from "./verify-tiles.ts";
import { type HeadRow, TreeCheck } from "./verify-tree.ts";
import { VerifyWorkers } from "./verify-workers.ts";

export interface VerifyOptions {
  /** Verifies the chain of this service alone: its entries, their columns and openings, and its heads; not the tree. */
  readonly serviceId?: string | undefined;
  /** Lets threads of their own look for what is wrong, which takes a long log a fraction of the time. */
  readonly access?: ReadAccess | undefined;
  /** From this size of the log on; starting threads takes some time of its own. */
  readonly threadsFrom?: number | undefined;
  /** Positions that are read at once: a multiple of 256. */
  readonly batchSize?: number | undefined;
  /** Ends the verification, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Told after each batch how many of the log's positions have been gone through. */
  readonly onProgress?: ((checked: number, size: number) => void) | undefined;
}

// 16 tiles: some 4 MB of rows.
const BATCH_SIZE = 16 * TILE_WIDTH;
const STRAYS_AT_ONCE = 1_000;
const THREADS_FROM = 50_000;
const EMPTY_ROOT = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/**
 * Verifies a log up to the head that is the newest when it begins. Nothing is taken from the database on trust but the newest
 * head's root, which receipts and witnesses check.
 *
 * @param snapshot runs each of the reads, in a transaction of its own; two may be under way at once.
 * @returns what is wrong. A log that was changed is no error.
 * @throws what `snapshot` throws, where the database could not be read: nothing is then known.
 */
export async function verifyLog(
  snapshot: Snapshot,
  log: LogIdentity,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const pinned = await snapshot((client) => readPinned(client, log));
  const verification = new Verification(snapshot, log, pinned, options);
  await verification.run();
  return verification.report();
}

class Verification {
  readonly #snapshot: Snapshot;
  readonly #log: LogIdentity;
  readonly #pinned: Pinned;
  readonly #options: VerifyOptions;
  readonly #size: number;
  readonly #problems = new ProblemList();
  readonly #tree: TreeCheck;
  readonly #chains: ChainCheck;
  #checked = 0;
  #erased = 0;
  /** The newest entry of each service since the last head. */
  readonly #commitServices = new Map<string, CheckedEntry>();
  /** Time of the entries since the last head. */
  #commitTime: string | undefined;
  #newestTime = "";
  #lastId: string | null = null;
  #missing: { from: number; to: number } | undefined;

  constructor(snapshot: Snapshot, log: LogIdentity, pinned: Pinned, options: VerifyOptions) {
    this.#snapshot = snapshot;
    this.#log = log;
    this.#pinned = pinned;
    this.#options = options;
    this.#size = pinned.head?.size ?? 0;
    this.#tree = new TreeCheck(this.#problems);
    this.#chains = new ChainCheck(log, this.#problems);
  }

  async run(): Promise<void> {
    const { serviceId, signal, onProgress } = this.#options;
    const wholeLog = serviceId === undefined;
    this.#checkPinned();
    for await (const batch of this.#batches()) {
      signal?.throwIfAborted();
      if (!("hashes" in batch)) {
        this.#problems.addAll(batch.problems);
        this.#checked += batch.entries.length;
        const entries = wholeLog ? this.#walk(batch) : this.#walkChain(batch);
        this.#erased += checkOpenings(this.#log, entries, batch.openings, this.#problems);
      }
      await this.#checkTiles(batch.tiles);
      onProgress?.(batch.span.to, this.#size);
    }
    this.#reportMissing();
    this.#tree.finish();
    this.#chains.finish(this.#pinned.services, serviceId);
    if (wholeLog) await this.#checkStrays();
  }

  report(): VerifyReport {
    return {
      ok: this.#problems.count === 0,
      log: this.#log.name,
      size: this.#size,
      root: this.#pinned.head?.root ?? EMPTY_ROOT,
      checked: this.#checked,
      erased: this.#erased,
      problems: this.#problems.list(),
    };
  }

  /** Compares the tiles that have become full; those of the lowest level are likely to be among `tiles`. */
  async #checkTiles(tiles: ReadonlyMap<number, TileRow>): Promise<void> {
    for (const tile of this.#tree.takeTiles()) {
      const { level, index } = tile;
      const known = level === 0 ? tiles.get(index) : undefined;
      const stored = known ?? (await this.#snapshot((client) => readTile(client, this.#log, level, index)));
      checkTile(this.#log, tile, stored, this.#problems);
    }
  }

  /** The batches of the log in its order. Clean ones have been gone through already. */
  #batches(): AsyncGenerator<Batch | CleanBatch> {
    const { access, serviceId, threadsFrom = THREADS_FROM } = this.#options;
    if (access === undefined || serviceId !== undefined || this.#size < threadsFrom) return this.#readAhead();
    return this.#byThreads(access);
  }

  /** Each batch is read while the one before it is looked at. */
  async *#readAhead(): AsyncGenerator<Batch> {
    let ahead: Promise<Batch[]> | undefined;
    try {
      for (const span of this.#batchSpans()) {
        const current = ahead;
        ahead = this.#read(span);
        ahead.catch(() => {}); // met when it is awaited
        if (current !== undefined) yield* await current;
      }
      if (ahead !== undefined) yield* await ahead;
    } finally {
      await ahead?.catch(() => {});
    }
  }

  /** Threads find the clean batches, of which there is only to see that they fit; all others are read here. */
  async *#byThreads(access: ReadAccess): AsyncGenerator<Batch | CleanBatch> {
    const workers = new VerifyWorkers({ access, log: this.#log, size: this.#size });
    try {
      const asked: { span: Span; clean: Promise<CleanBatch | undefined> }[] = [];
      for (const span of [...this.#batchSpans(), undefined]) {
        if (span !== undefined) asked.push({ span, clean: workers.check(span) });
        while (asked.length > (span === undefined ? 0 : workers.ahead)) {
          const next = asked.shift()!;
          const clean = await next.clean;
          if (clean !== undefined && this.#placeClean(clean)) yield clean;
          else yield* await this.#read(next.span);
        }
      }
    } finally {
      await workers.close();
    }
  }

  *#batchSpans(): Generator<Span> {
    const { batchSize = BATCH_SIZE } = this.#options;
    for (const { from, to, since, until } of this.#pinned.spans) {
      for (let start = from; start < to; ) {
        const end = Math.min(to, (Math.floor(start / batchSize) + 1) * batchSize);
        yield { from: start, to: end, since, until };
        start = end;
      }
    }
  }

  /** Reads a batch. Where a row cannot be read it is found by halving, and everything else is read around it. */
  async #read(span: Span): Promise<Batch[]> {
    const { serviceId } = this.#options;
    const read = (withEntries: boolean) =>
      this.#snapshot((client) => readBatch(client, this.#log, span, { serviceId, withEntries }));
    try {
      return [await read(true)];
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      const { from, to } = span;
      if (to - from === 1) {
        const batch = await read(false);
        const reason = error instanceof Error ? error.message : String(error);
        batch.problems.add({
          seq: from,
          id: null,
          kind: "unreadable",
          detail: `PostgreSQL cannot read the entry at position ${from}: ${reason}`,
        });
        return [batch];
      }
      const middle = Math.floor((from + to) / 2);
      return [...(await this.#read({ ...span, to: middle })), ...(await this.#read({ ...span, from: middle }))];
    }
  }

  #checkPinned(): void {
    const { head, firstHead, extraTiles, gaps } = this.#pinned;
    for (const { relation, gap } of gaps) {
      this.#problems.add({ seq: null, id: null, kind: "enforcement", field: relation, detail: `${relation}: ${gap}` });
    }
    if (this.#options.serviceId !== undefined) return;
    if (head === undefined) this.#problems.add({ seq: null, id: null, kind: "head", detail: "the log has no head" });
    else if (firstHead === undefined)
      this.#problems.add({
        seq: null,
        id: null,
        kind: "head",
        detail: "the head of size 0, which is made with the log, is missing",
      });
    else this.#head(firstHead);
    for (const { level, index } of extraTiles.first) {
      this.#problems.add({
        seq: null,
        id: null,
        kind: "tile",
        detail: `tile ${level}/${index} is beyond the end of the log`,
      });
    }
    this.#problems.addUnlisted(extraTiles.count - extraTiles.first.length);
  }

  /** Goes through the positions of a batch: which entries are there, and what surrounds them. Returns the log's own entries. */
  #walk(batch: Batch): CheckedEntry[] {
    const { span, entries, heads } = batch;
    let next = span.from;
    let nextHead = 0;
    const placed: CheckedEntry[] = [];
    const ended: CheckedEntry[] = [];
    const passed = () => {
      next++;
      const head = heads[nextHead];
      if (head?.size !== next) return;
      nextHead++;
      this.#head(head);
      ended.push(...this.#commitServices.values());
      this.#commitServices.clear();
    };
    const skipTo = (to: number) => {
      while (next < to) {
        this.#skip(next, this.#sealed(batch, next), next === batch.unreadable);
        passed();
      }
    };
    for (let i = 0; i < entries.length; ) {
      let end = i + 1;
      while (end < entries.length && entries[end]!.seq === entries[i]!.seq) end++;
      skipTo(entries[i]!.seq);
      const sealed = this.#sealed(batch, next);
      const entry = end === i + 1 ? entries[i]! : this.#chooseFrom(entries.slice(i, end), sealed);
      this.#place(entry, sealed);
      placed.push(entry);
      if (entry.service !== undefined) this.#commitServices.set(entry.service.id, entry);
      passed();
      i = end;
    }
    skipTo(span.to);
    this.#chains.checkHeads(placed, batch.serviceHeads, ended, this.#tree.certifiedSize);
    return placed;
  }

  /** Goes through a clean batch as a whole; false, and nothing is done, where it does not fit to what came before. */
  #placeClean({ span, hashes, erased, heads, firstTime, lastTime, lastId, segments }: CleanBatch): boolean {
    const sameCommit = this.#commitTime === undefined || this.#commitTime === firstTime;
    if (!sameCommit || firstTime < this.#newestTime || !segments.every((segment) => this.#chains.fits(segment)))
      return false;
    this.#reportMissing();
    this.#checked += span.to - span.from;
    this.#erased += erased;

    // The commit that was open: what it ends with is here, or was there before.
    for (const { serviceId, inFirstCommit } of segments) if (inFirstCommit) this.#commitServices.delete(serviceId);
    if (heads.length > 0) {
      this.#chains.checkHeads([], [], [...this.#commitServices.values()], this.#tree.certifiedSize);
      this.#commitServices.clear();
    }
    for (const segment of segments) {
      this.#chains.join(segment);
      if (segment.open) this.#commitServices.set(segment.serviceId, segment.last);
    }

    let next = span.from;
    const appendTo = (to: number) => {
      this.#tree.appendAll(hashes.subarray((next - span.from) * HASH_BYTES, (to - span.from) * HASH_BYTES));
      next = to;
    };
    this.#commitTime = undefined;
    for (const { head, id } of heads) {
      appendTo(head.size);
      this.#lastId = id;
      this.#head(head);
    }
    appendTo(span.to);
    this.#lastId = lastId;
    this.#newestTime = lastTime;
    if (heads.at(-1)?.head.size !== span.to) this.#commitTime = lastTime;
    return true;
  }

  /** The same for one service's chain, without the tree. */
  #walkChain({ entries, serviceHeads }: Batch): readonly CheckedEntry[] {
    for (const entry of entries) {
      const { seq, id, computed, stored } = entry;
      if (computed !== stored) {
        this.#problems.add({
          seq,
          id,
          kind: "leaf",
          field: "leaf",
          stored: computed,
          expected: stored,
          detail: "the leaf and its leaf_hash do not belong together: one of them was changed",
        });
      }
      this.#chains.check(entry, undefined, 0);
    }
    this.#chains.checkHeads(entries, serviceHeads, [], 0);
    return entries;
  }

  #place(entry: CheckedEntry, sealed: string | undefined): void {
    this.#reportMissing();
    const { seq, id, recordedAt } = entry;
    if (entry.computed === entry.stored) {
      if (this.#commitTime !== undefined && this.#commitTime !== recordedAt) {
        this.#problems.add({
          seq: seq - 1,
          id: this.#lastId,
          kind: "head",
          field: "size",
          expected: `${seq}`,
          detail: `the head of size ${seq}, which was recorded at ${this.#commitTime} with this entry, is missing`,
        });
      }
      this.#commitTime = recordedAt;
      if (recordedAt < this.#newestTime) {
        this.#problems.add({
          seq,
          id,
          kind: "order",
          field: "recorded_at",
          stored: recordedAt,
          expected: this.#newestTime,
          detail: "the entry's time is before that of an earlier entry",
        });
      } else this.#newestTime = recordedAt;
    }
    this.#chains.check(entry, sealed, this.#tree.certifiedSize);
    this.#tree.append(entry, sealed);
    this.#lastId = id;
  }

  #skip(seq: number, sealed: string | undefined, unreadable: boolean): void {
    this.#chains.gap(seq);
    this.#tree.skip(sealed);
    this.#commitServices.clear(); // which of the services' entries came last, only the missing one would tell
    this.#lastId = null;
    if (unreadable) return;
    if (this.#missing === undefined) this.#missing = { from: seq, to: seq + 1 };
    else this.#missing.to = seq + 1;
  }

  #reportMissing(): void {
    if (this.#missing === undefined) return;
    const { from, to } = this.#missing;
    this.#missing = undefined;
    const range = to === from + 1 ? `${from}` : `${from} to ${to - 1}`;
    this.#problems.add({
      seq: from,
      id: null,
      kind: "missing",
      field: "seq",
      expected: range,
      detail: to === from + 1 ? `entry ${range} is missing` : `entries ${range} are missing (${to - from})`,
    });
  }

  #head(head: HeadRow): void {
    const { size, recordedAt, tenantId } = head;
    const problem = (field: string, stored: string, expected: string, detail: string) =>
      this.#problems.add({
        seq: size === 0 ? null : size - 1,
        id: this.#lastId,
        kind: "head",
        field,
        stored,
        expected,
        detail,
      });
    if (tenantId !== this.#log.tenantId)
      problem(
        "tenant_id",
        tenantId,
        this.#log.tenantId,
        `the head of size ${size} is filed under another tenant than its log`,
      );
    if (this.#commitTime !== undefined && this.#commitTime !== recordedAt) {
      problem(
        "recorded_at",
        recordedAt,
        this.#commitTime,
        `the head of size ${size} has another time than the entries of its commit`,
      );
    }
    this.#commitTime = undefined;
    this.#tree.head(head, this.#lastId);
  }

  /** The hash that the entry's full tile has for it. */
  #sealed({ tiles }: Batch, seq: number): string | undefined {
    const index = Math.floor(seq / TILE_WIDTH);
    const tile = (index + 1) * TILE_WIDTH <= this.#size ? tiles.get(index) : undefined;
    return tile === undefined ? undefined : hashIn(tile.data, seq % TILE_WIDTH);
  }

  /** Of several rows for one position, the one that was recorded; the others are named. */
  #chooseFrom(rows: readonly CheckedEntry[], sealed: string | undefined): CheckedEntry {
    const chosen =
      rows.find((row) => row.computed === sealed && !row.misfiled) ??
      rows.find((row) => row.computed === sealed) ??
      rows.find((row) => !row.misfiled && row.computed === row.stored) ??
      rows.find((row) => !row.misfiled) ??
      rows[0]!;
    for (const { seq, id, recordedAt } of rows.filter((row) => row !== chosen)) {
      this.#problems.add({
        seq,
        id,
        kind: "extra",
        detail: `there is a second row for position ${seq} (recorded_at ${recordedAt})`,
      });
    }
    return chosen;
  }

  /** Names rows that stand where the log has no entry: among the entries of another time, or beyond the newest head. */
  async #checkStrays(): Promise<void> {
    for (const span of this.#pinned.spans) {
      for (let last: StrayRow | undefined, more = true; more; ) {
        const rows = await this.#snapshot((client) =>
          readStrays(client, this.#log, span, this.#size, STRAYS_AT_ONCE, last),
        );
        for (const { seq, id, recordedAt } of rows) {
          this.#problems.add({
            seq,
            id,
            kind: "extra",
            detail: `there is a row for position ${seq} among entries of another time (recorded_at ${recordedAt})`,
          });
        }
        last = rows.at(-1);
        more = rows.length === STRAYS_AT_ONCE;
      }
    }
    const { entries, openings } = await this.#snapshot((client) => readBeyond(client, this.#log, STRAYS_AT_ONCE));
    for (const { seq, id, size } of entries) {
      this.#problems.add({
        seq,
        id,
        kind: "extra",
        detail: `the entry lies beyond the newest head, of size ${size}: it was put there, or its head was removed`,
      });
    }
    this.#problems.addUnlisted((entries[0]?.count ?? 0) - entries.length);
    for (const { seq, pointer } of openings) {
      this.#problems.add({
        seq,
        id: null,
        kind: "opening",
        field: "pointer",
        stored: pointer,
        detail: "there is an opening beyond the newest head",
      });
    }
  }
}

/** Whether an error is about the rows, as against the connection, a timeout or a right. */
function isUnreadable(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  if (typeof code !== "string") return error instanceof RangeError || error instanceof TypeError;
  return /^(XX|22|54|58)...$/.test(code);
}
