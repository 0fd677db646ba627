/**
 * The way through a log from its first position to its last: what each entry has to be, coming after those before it.
 */
import { HASH_BYTES, TILE_WIDTH } from "@tallystick/core/tree";
import type { LogIdentity } from "../log/identity.ts";
import type { ChainCheck } from "./chains.ts";
import type { CleanBatch } from "./clean.ts";
import type { CheckedEntry } from "./entry.ts";
import type { Batch } from "./read.ts";
import type { ProblemList } from "./report.ts";
import { hashIn } from "./tiles.ts";
import type { HeadRow, TreeCheck } from "./tree.ts";

export class Walk {
  readonly #log: LogIdentity;
  /** Of the log. */
  readonly #size: number;
  readonly #tree: TreeCheck;
  readonly #chains: ChainCheck;
  readonly #problems: ProblemList;
  /** The newest entry of each service since the last head. */
  readonly #commitServices = new Map<string, CheckedEntry>();
  /** Time of the entries since the last head. */
  #commitTime: string | undefined;
  #newestTime = "";
  #lastId: string | null = null;
  #missing: { from: number; to: number } | undefined;

  constructor(log: LogIdentity, size: number, tree: TreeCheck, chains: ChainCheck, problems: ProblemList) {
    this.#log = log;
    this.#size = size;
    this.#tree = tree;
    this.#chains = chains;
    this.#problems = problems;
  }

  /** Goes through the positions of a batch: which entries are there, and what surrounds them. Returns the log's own entries. */
  through(batch: Batch): CheckedEntry[] {
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
      this.head(head);
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
  throughClean({ span, hashes, heads, firstTime, lastTime, lastId, segments }: CleanBatch): boolean {
    const sameCommit = this.#commitTime === undefined || this.#commitTime === firstTime;
    if (!sameCommit || firstTime < this.#newestTime || !segments.every((segment) => this.#chains.fits(segment)))
      return false;
    this.reportMissing();

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
      this.head(head);
    }
    appendTo(span.to);
    this.#lastId = lastId;
    this.#newestTime = lastTime;
    if (heads.at(-1)?.head.size !== span.to) this.#commitTime = lastTime;
    return true;
  }

  #place(entry: CheckedEntry, sealed: string | undefined): void {
    this.reportMissing();
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

  /** Names the positions without an entry that end where the walk has come to. */
  reportMissing(): void {
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

  /** Compares a head of the size that the walk has come to. */
  head(head: HeadRow): void {
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
}
