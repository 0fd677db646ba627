import { completeSubtrees, consistencySubtrees, type HashReader, inclusionSubtrees, type Subtree } from "./prover.ts";
import { type LeafRange, rangeSubtrees } from "./range-proof.ts";
import { HASH_BYTES, hashesIn, nodeHash, partialWidth, requireSize, TILE_HEIGHT, TILE_WIDTH } from "./tree.ts";

export class TileError extends Error {
  override readonly name = "TileError";
  readonly code: "path" | "tile_length" | "no_tile" | "bundle" | "entry_length";

  constructor(code: TileError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

/** A tile of hashes (C2SP tlog-tiles). */
export interface Tile {
  /** Each hash spans 256^level leaves. */
  readonly level: number;
  /** Position among the level's tiles. */
  readonly index: number;
  /** Hashes in it: 256, or fewer in the level's last, partial tile. */
  readonly width: number;
}

/** A bundle of entries, beside the tile of level 0 with the same index and width. */
export interface EntryBundle extends Omit<Tile, "level"> {
  readonly level: "entries";
}

/**
 * The path of a tile or entry bundle below the log's prefix: `tile/<L>/<N>`, with `.p/<W>` when partial, such as
 * `tile/0/x001/x234/067.p/8`. The tile's numbers are taken as valid.
 */
export function formatTilePath({ level, index, width }: Tile | EntryBundle): string {
  let path = String(index % 1000).padStart(3, "0");
  for (let rest = Math.floor(index / 1000); rest > 0; rest = Math.floor(rest / 1000)) {
    path = `x${String(rest % 1000).padStart(3, "0")}/${path}`;
  }
  return `tile/${level}/${path}${width === TILE_WIDTH ? "" : `.p/${width}`}`;
}

/**
 * Reads what {@link formatTilePath} writes, and nothing else. Throws {@link TileError} `path` on any other spelling, a
 * level above 63, a width of 0 or above 255, or an index above 2^53 - 1. Whether a log has the tile, {@link widthOf} says.
 */
export function parseTilePath(path: string): Tile | EntryBundle {
  const match = /^tile\/(entries|\d{1,2})\/((?:x\d{3}\/){0,5}\d{3})(?:\.p\/(\d{1,3}))?$/.exec(path);
  if (match !== null) {
    const [, level, elements, partial] = match;
    const index = Number(elements!.replaceAll(/[x/]/g, ""));
    const width = partial === undefined ? TILE_WIDTH : Number(partial);
    const tile: Tile | EntryBundle = { level: level === "entries" ? level : Number(level), index, width };
    const inRange = Number.isSafeInteger(index) && (tile.level === "entries" || tile.level <= 63);
    const widthInRange = partial === undefined || (width >= 1 && width < TILE_WIDTH);
    // Leading zeros in a level, a width or an x000 element do not survive the round trip.
    if (inRange && widthInRange && formatTilePath(tile) === path) return tile;
  }
  throw new TileError("path", `${JSON.stringify(path.slice(0, 100))} is no tile path`);
}

/** Hashes that a tree of `treeSize` leaves has in a tile: 256 when full, fewer at the edge, 0 when it has no such tile. */
export function widthOf(level: number, index: number, treeSize: number): number {
  const hashes = Math.floor(treeSize / TILE_WIDTH ** level);
  return Math.max(0, Math.min(TILE_WIDTH, hashes - index * TILE_WIDTH));
}

/**
 * How many full tiles a tree has on each level, and how wide the partial one after them is (0: none), from level 0 up
 * to the last level with a tile. Throws TreeError `bad_size`.
 */
export function tileCounts(treeSize: number): { full: number; partial: number }[] {
  requireSize(treeSize);
  const counts = [];
  for (let level = 0; TILE_WIDTH ** level <= treeSize; level++) {
    const full = Math.floor(treeSize / TILE_WIDTH ** (level + 1));
    counts.push({ full, partial: partialWidth(treeSize, level) });
  }
  return counts;
}

/** The tiles that {@link tileReader} will ask for to make an inclusion proof; throws as `inclusionProof` does. */
export function tilesForInclusion(leafIndex: number, treeSize: number): Tile[] {
  return tilesOf(inclusionSubtrees(leafIndex, treeSize), treeSize);
}

/** The tiles that {@link tileReader} will ask for to make a consistency proof; throws as `consistencyProof` does. */
export function tilesForConsistency(oldSize: number, newSize: number): Tile[] {
  return tilesOf(consistencySubtrees(oldSize, newSize), newSize);
}

/** The tiles that {@link tileReader} will ask for to make a range proof; throws as `rangeProof` does. */
export function tilesForRange(range: LeafRange): Tile[] {
  const { left, right } = rangeSubtrees(range);
  return tilesOf([left, right], range.treeSize);
}

/** The tiles that {@link tileReader} will ask for to find the tree's root: the last of each level. */
export function tilesForRoot(treeSize: number): Tile[] {
  requireSize(treeSize);
  return tilesOf([completeSubtrees(0, treeSize)], treeSize);
}

/**
 * Reads hashes for `inclusionProof`, `consistencyProof`, `rangeProof` and `rootFrom` out of tiles of a tree of `treeSize` leaves.
 * `readTile(level, index, width)` gives a tile's data, exactly `width` hashes of 32 bytes; each tile is read once, and
 * each inner hash computed once, for as long as the reader is kept. Nothing here vouches for the tiles: verify the proof
 * or the root that comes out.
 *
 * The reader throws {@link TileError}: `no_tile` for a subtree that the tree does not have, `tile_length` for data of
 * another length than asked for; and what `readTile` throws. To read tiles asynchronously, fetch those that
 * {@link tilesForInclusion} and its like name first.
 */
export function tileReader(
  treeSize: number,
  readTile: (level: number, index: number, width: number) => Uint8Array,
): HashReader {
  requireSize(treeSize);
  const tiles = new Map<string, HashReader>();
  return (height, index) => {
    const tile = tileOf({ height, index }, treeSize);
    const key = `${tile.level}/${tile.index}`;
    let read = tiles.get(key);
    if (read === undefined) {
      read = subtreesIn(readTile(tile.level, tile.index, tile.width), tile.width);
      tiles.set(key, read);
    }
    const heightInTile = height % TILE_HEIGHT;
    return read(heightInTile, index - tile.index * 2 ** (TILE_HEIGHT - heightInTile));
  };
}

function subtreesIn(data: Uint8Array, width: number): HashReader {
  if (data.length !== width * HASH_BYTES) {
    throw new TileError("tile_length", `a tile of ${width} hashes has ${width * HASH_BYTES} bytes, got ${data.length}`);
  }
  const levels = [hashesIn(data, 0, width)];
  const read: HashReader = (height, index) => {
    levels[height] ??= [];
    levels[height][index] ??= nodeHash(read(height - 1, 2 * index), read(height - 1, 2 * index + 1));
    return levels[height][index];
  };
  return read;
}

function tilesOf(groups: readonly (readonly Subtree[])[], treeSize: number): Tile[] {
  const tiles = new Map<string, Tile>();
  for (const subtree of groups.flat()) {
    const tile = tileOf(subtree, treeSize);
    tiles.set(`${tile.level}/${tile.index}`, tile);
  }
  return [...tiles.values()];
}

function tileOf({ height, index }: Subtree, treeSize: number): Tile {
  const valid = Number.isSafeInteger(height) && Number.isSafeInteger(index) && height >= 0 && index >= 0;
  if (!valid || (index + 1) * 2 ** height > treeSize) {
    throw new TileError("no_tile", `a tree of ${treeSize} has no complete subtree ${index} of height ${height}`);
  }
  const level = Math.floor(height / TILE_HEIGHT);
  const tileIndex = Math.floor((index * 2 ** (height % TILE_HEIGHT)) / TILE_WIDTH);
  return { level, index: tileIndex, width: widthOf(level, tileIndex, treeSize) };
}

/**
 * Entries (leaves) as the bundle `tile/entries/<N>` carries them: each behind its length, two bytes, big-endian.
 * Throws {@link TileError} `entry_length` for an entry above 65,535 bytes.
 */
export function formatEntryBundle(entries: readonly Uint8Array[]): Uint8Array {
  const bundle = new Uint8Array(entries.reduce((total, entry) => total + 2 + entry.length, 0));
  const view = new DataView(bundle.buffer);
  let offset = 0;
  for (const entry of entries) {
    if (entry.length > 0xffff) throw new TileError("entry_length", `an entry of ${entry.length} bytes fits no bundle`);
    view.setUint16(offset, entry.length);
    bundle.set(entry, offset + 2);
    offset += 2 + entry.length;
  }
  return bundle;
}

/**
 * The `width` entries of a bundle, as views of `bundle`. Throws {@link TileError} `bundle` when it is cut short, or has
 * more or fewer entries. Nothing here vouches for the entries: compare their leaf hashes with the tile.
 */
export function parseEntryBundle(bundle: Uint8Array, width: number): Uint8Array[] {
  const view = new DataView(bundle.buffer, bundle.byteOffset, bundle.byteLength);
  const entries: Uint8Array[] = [];
  for (let offset = 0; offset < bundle.length; ) {
    const start = offset + 2;
    if (start > bundle.length) throw new TileError("bundle", `cut short in the length of entry ${entries.length}`);
    offset = start + view.getUint16(offset);
    if (offset > bundle.length) throw new TileError("bundle", `cut short in entry ${entries.length}`);
    entries.push(bundle.subarray(start, offset));
  }
  if (entries.length !== width) throw new TileError("bundle", `${entries.length} entries where ${width} were expected`);
  return entries;
}
