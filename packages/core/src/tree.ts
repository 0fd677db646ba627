import { sha256 } from "#sha256";

/** Bytes in a hash. */
export const HASH_BYTES = 32;
/** Levels of the tree in a tile, fixed by C2SP tlog-tiles. */
export const TILE_HEIGHT = 8;
/** Hashes in a full tile: 2^TILE_HEIGHT. */
export const TILE_WIDTH = 256;

export class TreeError extends Error {
  override readonly name = "TreeError";
  readonly code: "bad_size" | "bad_hash" | "bad_partial";

  constructor(code: TreeError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

/** What a checkpoint commits to: the number of leaves and the RFC 6962 root over them (32 bytes). */
export interface TreeHead {
  readonly size: number;
  readonly root: Uint8Array;
}

const utf8 = new TextEncoder();
// A leaf has at most 65,535 bytes and a string of n UTF-16 units at most 3n bytes of UTF-8.
const leafInput = new Uint8Array(1 + 3 * 65_536);
const leafBody = leafInput.subarray(1);
const nodeInput = new Uint8Array(1 + 2 * HASH_BYTES);
nodeInput[0] = 0x01;

/**
 * The hash of a leaf, SHA-256(0x00 || leaf) (RFC 6962 section 2.1); a string stands for its UTF-8 bytes.
 * Returns 32 fresh bytes.
 */
export function leafHash(leaf: string | Uint8Array): Uint8Array {
  let length: number;
  if (typeof leaf === "string") {
    // Encoding in place saves the copy that prepending to the string would make.
    if (leaf.length * 3 > leafBody.length) return sha256(`\0${leaf}`);
    length = utf8.encodeInto(leaf, leafBody).written;
  } else if (leaf.length <= leafBody.length) {
    leafBody.set(leaf);
    length = leaf.length;
  } else {
    const input = new Uint8Array(1 + leaf.length);
    input.set(leaf, 1);
    return sha256(input);
  }
  return sha256(leafInput.subarray(0, 1 + length));
}

/** The hash of an inner node, SHA-256(0x01 || left || right) (RFC 6962 section 2.1). Returns 32 fresh bytes. */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  nodeInput.set(left, 1);
  nodeInput.set(right, 1 + HASH_BYTES);
  return sha256(nodeInput);
}

/** The root of a tree with no leaves: SHA-256 of the empty string (RFC 6962 section 2.1). */
export function emptyRoot(): Uint8Array {
  return sha256("");
}

/**
 * The Merkle tree hash of `leafHashes` (RFC 6962 section 2.1, taken literally), 32 bytes. Costs n - 1 node hashes;
 * for a growing log use {@link TreeEdge}.
 */
export function rootOf(leafHashes: readonly Uint8Array[]): Uint8Array {
  if (leafHashes.length === 0) return emptyRoot();
  if (leafHashes.length === 1) return new Uint8Array(leafHashes[0]!);
  const split = largestPowerBelow(leafHashes.length);
  return nodeHash(rootOf(leafHashes.slice(0, split)), rootOf(leafHashes.slice(split)));
}

/** The largest power of two smaller than `n`, for `n` of 2 or more: the k of RFC 6962 section 2.1. */
export function largestPowerBelow(n: number): number {
  let power = 1;
  while (power * 2 < n) power *= 2;
  return power;
}

/** Throws {@link TreeError} `bad_size` unless `size` is an integer from 0 to 2^53 - 1. */
export function requireSize(size: number): void {
  if (!Number.isSafeInteger(size) || size < 0) throw new TreeError("bad_size", `${size} is no tree size`);
}

/** Throws {@link TreeError} `bad_hash` unless `hash` has 32 bytes. */
export function requireHash(hash: Uint8Array): void {
  if (hash.length !== HASH_BYTES) throw new TreeError("bad_hash", `a hash has 32 bytes, got ${hash.length}`);
}

/** Hashes in the unfilled tile of `level` in a tree of `size` leaves: floor(size / 256^level) mod 256. */
export function partialWidth(size: number, level: number): number {
  return Math.floor(size / TILE_WIDTH ** level) % TILE_WIDTH;
}

/** `count` hashes of concatenated hashes, from the one at `start`, as views. */
export function hashesIn(data: Uint8Array, start: number, count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => data.subarray((start + i) * HASH_BYTES, (start + i + 1) * HASH_BYTES));
}
