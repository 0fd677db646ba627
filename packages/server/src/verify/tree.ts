/**
 * Entries against the tree: tiles and heads, recomputed.
 */
import { type FullTile, TreeEdge } from "@tallystick/core/edge";
import { HASH_BYTES, TILE_WIDTH } from "@tallystick/core/tree";
import type { ProblemList } from "./report.ts";

/** A stored head. */
export interface HeadRow {
  readonly size: number;
  /** RFC 3339. */
  readonly recordedAt: string;
  /** Hex. */
  readonly root: string;
  readonly tenantId: string;
}

/** An entry whose hash is told differently by its leaf, its column and its tile. */
interface Deviation {
  readonly seq: number;
  readonly id: string;
  readonly computed: string;
  readonly stored: string;
  readonly sealed: string | undefined;
}

// Beyond these a verification keeps counts only: memory stays flat however much was changed.
const MAX_DEVIATIONS = 1_000;
const MAX_TILES_WAITING = 256;

/**
 * The tree over the entries, twice where they disagree: once of what the leaves hash to, once of the hashes recorded for them
 * (by their tile, else by `leaf_hash`). The next head whose root is one of the two tells which is the truth.
 */
export class TreeCheck {
  readonly #problems: ProblemList;
  #size = 0;
  // Undefined from an entry on whose hash nothing tells.
  #computed: TreeEdge | undefined = new TreeEdge();
  #recorded: TreeEdge | undefined = this.#computed;
  #deviations: Deviation[] = [];
  #deviationCount = 0;
  /** Heads that neither tree gives, until a later one is given: it is then they that are wrong. */
  #failed: { head: HeadRow; id: string | null; computed: string; recorded: string }[] = [];
  #failedCount = 0;
  #uncheckedHeads = 0;
  #certifiedSize = 0;

  constructor(problems: ProblemList) {
    this.#problems = problems;
  }

  get size(): number {
    return this.#size;
  }

  /** Entries before this position are as the newest head that fits says. */
  get certifiedSize(): number {
    return this.#certifiedSize;
  }

  /** Adds the next entry. `sealed` is its hash in its full tile, where there is one. Hashes are hex. */
  append(entry: { seq: number; id: string; computed: string; stored: string }, sealed: string | undefined): void {
    this.#size++;
    const { computed, stored } = entry;
    if (computed !== stored || (sealed !== undefined && sealed !== computed)) {
      if (this.#recorded === this.#computed) this.#recorded = this.#computed?.clone();
      this.#deviationCount++;
      if (this.#deviations.length < MAX_DEVIATIONS) {
        this.#deviations.push({ seq: entry.seq, id: entry.id, computed, stored, sealed });
      }
    }
    this.#grow(computed, sealed ?? stored);
  }

  /** Adds hashes that leaves, columns and tiles agree on. */
  appendAll(hashes: Uint8Array): void {
    const edges = new Set([this.#computed, this.#recorded]);
    for (let at = 0; at < hashes.length; at += HASH_BYTES) {
      const hash = hashes.subarray(at, at + HASH_BYTES);
      for (const edge of edges) edge?.append(hash);
    }
    this.#size += hashes.length / HASH_BYTES;
  }

  /** Goes on past an entry that is not there; its tile may still know its hash. */
  skip(sealed: string | undefined): void {
    this.#size++;
    this.#grow(sealed, sealed);
  }

  /** Compares a head of the present size. `id` is that of the entry before it. */
  head(head: HeadRow, id: string | null): void {
    if (this.#computed === undefined && this.#recorded === undefined) {
      this.#uncheckedHeads++;
      return;
    }
    const computed = rootOf(this.#computed);
    if (computed === head.root) {
      this.#settle(this.#computed, "computed");
      return;
    }
    const recorded = this.#recorded === this.#computed ? computed : rootOf(this.#recorded);
    if (recorded === head.root) {
      this.#settle(this.#recorded, "recorded");
      return;
    }
    this.#failedCount++;
    if (this.#failed.length < MAX_DEVIATIONS) this.#failed.push({ head, id, computed, recorded });
  }

  /** The tiles that have become full and can be compared now. */
  takeTiles(): FullTile[] {
    const edge = this.#recorded ?? this.#computed;
    if (edge === undefined) return [];
    const forked = this.#recorded !== this.#computed;
    // Which tree is true is known at the next head; a log without heads must not fill memory.
    if (forked && this.#size % (TILE_WIDTH * MAX_TILES_WAITING) !== 0) return [];
    if (forked) this.#computed?.takeTiles();
    return edge.takeTiles();
  }

  /** Reports what no head could settle. */
  finish(): void {
    for (const { seq, id, computed, stored, sealed } of this.#deviations) {
      const expected = sealed ?? stored;
      this.#problems.add({
        seq,
        id,
        kind: "leaf",
        field: "leaf",
        stored: computed,
        expected,
        detail:
          sealed === undefined
            ? "the leaf's hash and the column leaf_hash differ, and no head tells which of them was changed"
            : "the leaf's hash and the tile's differ, and no head tells which of them was changed",
      });
    }
    const unlisted = this.#deviationCount - this.#deviations.length;
    if (unlisted > 0)
      this.#problems.add({
        seq: null,
        id: null,
        kind: "leaf",
        detail: `${unlisted} more entries have a hash that is not the recorded one`,
      });
    const [first] = this.#failed;
    if (first !== undefined) {
      const others = this.#failedCount - 1;
      this.#problems.add({
        ...headProblem(first.head, first.id, first.computed || first.recorded),
        detail: `the entries do not give the root of the head of size ${first.head.size}: it, or an entry since the head before it, was changed${others === 0 ? "" : `; nor those of the ${others} heads after it`}`,
      });
    }
    if (this.#uncheckedHeads > 0) {
      this.#problems.add({
        seq: null,
        id: null,
        kind: "head",
        field: "root",
        detail: `${this.#uncheckedHeads} heads could not be compared, because entries before them are missing`,
      });
    }
  }

  #grow(computed: string | undefined, recorded: string | undefined): void {
    const forked = this.#recorded !== this.#computed;
    this.#computed = appended(this.#computed, computed);
    this.#recorded = forked ? appended(this.#recorded, recorded) : this.#computed;
  }

  #settle(edge: TreeEdge | undefined, truth: "computed" | "recorded"): void {
    this.#certifiedSize = this.#size;
    for (const { head, id, computed, recorded } of this.#failed) {
      const expected = truth === "computed" ? computed : recorded;
      this.#problems.add({
        ...headProblem(head, id, expected),
        detail: `the root of the head of size ${head.size} is not that of the entries before it`,
      });
    }
    const unlistedHeads = this.#failedCount - this.#failed.length;
    if (unlistedHeads > 0)
      this.#problems.add({
        seq: null,
        id: null,
        kind: "head",
        detail: `${unlistedHeads} more heads have roots that the entries do not give`,
      });
    this.#failed = [];
    this.#failedCount = 0;
    for (const deviation of this.#deviations) this.#report(deviation, truth);
    const unlisted = this.#deviationCount - this.#deviations.length;
    if (unlisted > 0)
      this.#problems.add({
        seq: null,
        id: null,
        kind: "leaf",
        detail: `${unlisted} more entries have a hash that is not the recorded one`,
      });
    this.#deviations = [];
    this.#deviationCount = 0;
    this.#computed = edge;
    this.#recorded = edge;
  }

  #report({ seq, id, computed, stored, sealed }: Deviation, truth: "computed" | "recorded"): void {
    const recorded = sealed ?? stored;
    if (truth === "recorded" && computed !== recorded) {
      const both = stored === computed ? "the leaf and its leaf_hash were changed" : "the leaf was changed";
      this.#problems.add({
        seq,
        id,
        kind: "leaf",
        field: "leaf",
        stored: computed,
        expected: recorded,
        detail: `${both}: the tree has another hash for this entry`,
      });
      return;
    }
    if (stored !== computed) {
      this.#problems.add({
        seq,
        id,
        kind: "leaf_hash",
        field: "leaf_hash",
        stored,
        expected: computed,
        detail: "the column is not the hash of the leaf",
      });
    }
    if (sealed !== undefined && sealed !== computed) {
      const index = Math.floor(seq / TILE_WIDTH);
      this.#problems.add({
        seq,
        id,
        kind: "tile",
        field: "data",
        stored: sealed,
        expected: computed,
        detail: `tile 0/${index} has another hash for this entry`,
      });
    }
  }
}

const scratch = Buffer.alloc(HASH_BYTES);

/** The tree with one more hash; undefined where that is not known. */
function appended(edge: TreeEdge | undefined, hash: string | undefined): TreeEdge | undefined {
  if (hash === undefined || scratch.write(hash, "hex") !== HASH_BYTES) return undefined;
  edge?.append(scratch);
  return edge;
}

function rootOf(edge: TreeEdge | undefined): string {
  return edge === undefined ? "" : hexOf(edge.root());
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

function headProblem(head: HeadRow, id: string | null, expected: string) {
  return {
    seq: head.size === 0 ? null : head.size - 1,
    id,
    kind: "head",
    field: "root",
    stored: head.root,
    expected,
  } as const;
}
