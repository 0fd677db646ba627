import {
  emptyRoot,
  HASH_BYTES,
  hashesIn,
  nodeHash,
  partialWidth,
  requireHash,
  requireSize,
  rootOf,
  TILE_HEIGHT,
  TILE_WIDTH,
  TreeError,
} from "./tree.ts";

/** A tile that has become full; it never changes again. C2SP tlog-tiles, "Merkle Tree". */
export interface FullTile {
  readonly level: number;
  /** Position among the tiles of this level. */
  readonly index: number;
  /** 256 hashes, 8,192 bytes. */
  readonly data: Uint8Array;
  /** The hash of the subtree the tile spans: also the hash it contributes to the tile above. */
  readonly root: Uint8Array;
}

/** A level's unfilled tile. */
interface OpenTile {
  /** Starts with `width` hashes; what follows them is unused. */
  data: Uint8Array;
  width: number;
  /** Whether a clone reads the same `data`, which must then be copied before a hash is written. */
  shared: boolean;
}

/**
 * The right edge of a growing RFC 6962 tree: enough to append, to know the root, and to cut tiles, in memory that
 * does not grow with the tree (8 kB a level, at most 7 levels, and the tiles not yet taken).
 */
export class TreeEdge {
  #size = 0;
  // #nodes[h] is the subtree of height h on the tree's right edge, where bit h of #size is set; else stale.
  #nodes: Uint8Array[] = [];
  #open: OpenTile[] = [];
  #full: FullTile[] = [];

  /**
   * The edge of a stored tree of `size` leaves. `partials[level]` is the data of the level's unfilled tile: 32 bytes
   * for each hash, {@link partialWidth} of them; level 0 holds leaf hashes, level n roots of full tiles of level
   * n - 1. Levels with no hash may be left off at the end. The data is copied.
   * Throws {@link TreeError}: `bad_size`, or `bad_partial` when a level's data has another length than the size asks.
   * Whether the hashes are the right ones only a comparison of `root()` with the stored head can tell.
   */
  static restore(size: number, partials: readonly Uint8Array[]): TreeEdge {
    requireSize(size);
    const edge = new TreeEdge();
    edge.#size = size;
    for (let level = 0; level < partials.length || TILE_WIDTH ** level <= size; level++) {
      const stored = partials[level] ?? new Uint8Array(0);
      const width = partialWidth(size, level);
      if (stored.length !== width * HASH_BYTES) {
        const found = `level ${level} has ${stored.length} bytes`;
        throw new TreeError("bad_partial", `${found}, a tree of ${size} leaves has ${width} hashes there`);
      }
      const data = new Uint8Array(TILE_WIDTH * HASH_BYTES);
      data.set(stored);
      edge.#open.push({ data, width, shared: false });
      for (let height = TILE_HEIGHT - 1, start = 0; height >= 0; height--) {
        const count = 2 ** height;
        if ((width & count) === 0) continue;
        edge.#nodes[level * TILE_HEIGHT + height] = rootOf(hashesIn(data, start, count));
        start += count;
      }
    }
    return edge;
  }

  /** Leaves in the tree. */
  get size(): number {
    return this.#size;
  }

  /**
   * Adds a leaf by its hash (copied). Costs one node hash on average, log2(size) at most.
   * Throws {@link TreeError} `bad_hash` unless it has 32 bytes, `bad_size` at 2^53 - 1 leaves; nothing is changed then.
   */
  append(leafHash: Uint8Array): void {
    requireHash(leafHash);
    requireSize(this.#size + 1);
    let node = leafHash;
    let height = 0;
    this.#addToTile(0, leafHash);
    // As in a binary counter: each trailing one of the old size is a subtree that this leaf completes into a larger.
    for (let rest = this.#size; rest % 2 === 1; rest = (rest - 1) / 2) {
      node = nodeHash(this.#nodes[height]!, node);
      height++;
      if (height % TILE_HEIGHT !== 0) continue;
      const level = height / TILE_HEIGHT;
      this.#closeTile(level - 1, node);
      this.#addToTile(level, node);
    }
    this.#nodes[height] = height === 0 ? new Uint8Array(leafHash) : node;
    this.#size++;
  }

  /** The root over all leaves (RFC 6962 section 2.1), 32 fresh bytes. Costs at most log2(size) node hashes. */
  root(): Uint8Array {
    let root: Uint8Array | undefined;
    for (let rest = this.#size, height = 0; rest > 0; rest = Math.floor(rest / 2), height++) {
      if (rest % 2 === 0) continue;
      const node = this.#nodes[height]!;
      root = root === undefined ? node : nodeHash(node, root);
    }
    return root === undefined ? emptyRoot() : new Uint8Array(root);
  }

  /** The data of the level's unfilled tile as it is now (a copy; no bytes where it has no hash). */
  partialTile(level: number): Uint8Array {
    const tile = this.#open[level];
    return tile === undefined ? new Uint8Array(0) : tile.data.slice(0, tile.width * HASH_BYTES);
  }

  /** The tiles that appends have filled since the last call, in the order they filled: a tile before the one above. */
  takeTiles(): FullTile[] {
    const full = this.#full;
    this.#full = [];
    return full;
  }

  /**
   * A copy that grows apart from this one, with the same tiles still to take: append to the copy, and keep it only
   * once the transaction has committed. Tiles are copied when first written to, at 8 kB each.
   */
  clone(): TreeEdge {
    const copy = new TreeEdge();
    copy.#size = this.#size;
    // Nodes and full tiles never change once made, so sharing them is safe.
    copy.#nodes = this.#nodes.slice();
    copy.#full = this.#full.slice();
    for (const tile of this.#open) {
      tile.shared = true;
      copy.#open.push({ ...tile });
    }
    return copy;
  }

  #addToTile(level: number, hash: Uint8Array): void {
    const tile = this.#open[level];
    if (tile === undefined) {
      const data = new Uint8Array(TILE_WIDTH * HASH_BYTES);
      data.set(hash);
      this.#open.push({ data, width: 1, shared: false });
      return;
    }
    if (tile.shared) {
      tile.data = new Uint8Array(tile.data);
      tile.shared = false;
    }
    tile.data.set(hash, tile.width * HASH_BYTES);
    tile.width++;
  }

  // Called before #size counts the leaf that fills the tile, so that the partial tile of #size is the one now full.
  #closeTile(level: number, root: Uint8Array): void {
    const tile = this.#open[level]!;
    const index = Math.floor(this.#size / TILE_WIDTH ** (level + 1));
    this.#full.push({ level, index, data: tile.data, root: new Uint8Array(root) });
    tile.data = new Uint8Array(TILE_WIDTH * HASH_BYTES);
    tile.width = 0;
  }
}
