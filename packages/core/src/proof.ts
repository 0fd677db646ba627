import { emptyRoot, HASH_BYTES, nodeHash, type TreeHead } from "./tree.ts";

/** Why a proof does not prove its claim. `size` and `index` name claims that no proof could support. */
export type ProofErrorCode =
  | "size"
  | "index"
  | "hash_length"
  | "proof_length"
  | "leaf_count"
  | "root_mismatch"
  | "old_root_mismatch";

export class ProofError extends Error {
  override readonly name = "ProofError";
  readonly code: ProofErrorCode;

  constructor(code: ProofErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** That a leaf stands at an index of the tree with this size and root. Hashes have 32 bytes. */
export interface Inclusion {
  readonly leafIndex: number;
  readonly treeSize: number;
  readonly leafHash: Uint8Array;
  readonly root: Uint8Array;
}

/** That the tree of `newSize` leaves begins with the leaves of the tree of `oldSize`. Roots have 32 bytes. */
export interface Consistency {
  readonly oldSize: number;
  readonly newSize: number;
  readonly oldRoot: Uint8Array;
  readonly newRoot: Uint8Array;
}

/**
 * Checks an inclusion proof (RFC 9162 section 2.1.3.2) and returns what it proves. A root vouches for an index only
 * together with its size: take both from one verified checkpoint.
 * Throws {@link ProofError}: `size`, `index` or `hash_length` for a malformed claim, `proof_length` when the proof has
 * too few or too many hashes for it, `root_mismatch` when it leads to another root.
 */
export function verifyInclusion(claim: Inclusion & { readonly proof: readonly Uint8Array[] }): Inclusion {
  const { leafIndex, treeSize, leafHash, root, proof } = claim;
  requireSize(treeSize);
  requireIndex(leafIndex, treeSize);
  requireHashes(leafHash, root, ...proof);
  let node = leafHash;
  let index = leafIndex;
  // The last index on the level of `node`; 0 once `node` is the root.
  let last = treeSize - 1;
  for (const sibling of proof) {
    if (last === 0) throw lengthError(proof);
    const isRight = index % 2 === 1 || index === last;
    node = isRight ? nodeHash(sibling, node) : nodeHash(node, sibling);
    [index, last] = parents(index, last, isRight);
  }
  if (last !== 0) throw lengthError(proof);
  if (!equalBytes(node, root)) throw new ProofError("root_mismatch", "the leaf and its proof lead to another root");
  return { leafIndex, treeSize, leafHash, root };
}

/**
 * Checks a consistency proof (RFC 9162 section 2.1.4.2) and returns the new tree's head. Every tree extends the empty
 * one, and itself, with no hashes in the proof.
 * Throws {@link ProofError}: `size` or `hash_length` for a malformed claim, `proof_length` when the proof has too few
 * or too many hashes for it, `old_root_mismatch` or `root_mismatch` when it leads to another old or new root.
 */
export function verifyConsistency(claim: Consistency & { readonly proof: readonly Uint8Array[] }): TreeHead {
  const { oldSize, newSize, oldRoot, newRoot, proof } = claim;
  requireSizes(oldSize, newSize);
  requireHashes(oldRoot, newRoot, ...proof);
  const head = { size: newSize, root: newRoot };
  if (oldSize === 0 || oldSize === newSize) {
    if (proof.length > 0) throw lengthError(proof);
    // Nothing is hashed here: an old root is what it must be, or the new tree is another one.
    if (!equalBytes(oldRoot, oldSize === 0 ? emptyRoot() : newRoot)) throw oldRootError();
    if (newSize === 0 && !equalBytes(newRoot, emptyRoot())) throw newRootError();
    return head;
  }
  // Up from the old tree's last leaf to the first node with leaves of only the old tree below it and a right sibling.
  let index = oldSize - 1;
  let last = newSize - 1;
  while (index % 2 === 1) [index, last] = [half(index), half(last)];
  // At index 0 that node is the whole old tree, and the proof leaves it out.
  const [start, siblings] = index === 0 ? [oldRoot, proof] : [proof[0], proof.slice(1)];
  if (start === undefined) throw lengthError(proof);
  let oldNode = start;
  let newNode = start;
  for (const sibling of siblings) {
    if (last === 0) throw lengthError(proof);
    const isRight = index % 2 === 1 || index === last;
    if (isRight) oldNode = nodeHash(sibling, oldNode);
    newNode = isRight ? nodeHash(sibling, newNode) : nodeHash(newNode, sibling);
    [index, last] = parents(index, last, isRight);
  }
  if (last !== 0) throw lengthError(proof);
  if (!equalBytes(oldNode, oldRoot)) throw oldRootError();
  if (!equalBytes(newNode, newRoot)) throw newRootError();
  return head;
}

// One level up, or as many as it takes for a right-edge node without a sibling, which moves up unchanged.
function parents(index: number, last: number, isRight: boolean): [number, number] {
  while (isRight && index % 2 === 0 && index !== 0) [index, last] = [half(index), half(last)];
  return [half(index), half(last)];
}

// Not >>> 1: sizes reach 2^53.
function half(n: number): number {
  return Math.floor(n / 2);
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** Throws {@link ProofError} `size` unless `size` is an integer from 0 to 2^53 - 1. */
export function requireSize(size: number): void {
  if (!Number.isSafeInteger(size) || size < 0) throw new ProofError("size", `${size} is no tree size`);
}

/** Throws {@link ProofError} `size` unless both are sizes and the old tree is not the larger. */
export function requireSizes(oldSize: number, newSize: number): void {
  requireSize(oldSize);
  requireSize(newSize);
  if (oldSize > newSize) throw new ProofError("size", `the old tree has ${oldSize} leaves, the new only ${newSize}`);
}

/** Throws {@link ProofError} `index` unless a tree of `treeSize` has a leaf there. */
export function requireIndex(leafIndex: number, treeSize: number): void {
  if (Number.isSafeInteger(leafIndex) && leafIndex >= 0 && leafIndex < treeSize) return;
  throw new ProofError("index", `${leafIndex} is no leaf of a tree of ${treeSize}`);
}

function requireHashes(...hashes: Uint8Array[]): void {
  const bad = hashes.find((hash) => hash.length !== HASH_BYTES);
  if (bad !== undefined) throw new ProofError("hash_length", `a hash has ${HASH_BYTES} bytes, got ${bad.length}`);
}

function lengthError(proof: readonly Uint8Array[]): ProofError {
  return new ProofError("proof_length", `${proof.length} hashes are too few or too many for these sizes`);
}

function oldRootError(): ProofError {
  return new ProofError("old_root_mismatch", "the proof leads to another old root");
}

function newRootError(): ProofError {
  return new ProofError("root_mismatch", "the proof leads to another new root");
}
