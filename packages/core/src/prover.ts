import { requireIndex, requireSize, requireSizes } from "./proof.ts";
import { emptyRoot, largestPowerBelow, nodeHash } from "./tree.ts";

/** The complete subtree over leaves [index * 2^height, (index + 1) * 2^height). */
export interface Subtree {
  readonly height: number;
  readonly index: number;
}

/** Gives the hash of a complete subtree of the tree a proof is made in; height 0 is a leaf hash. */
export type HashReader = (height: number, index: number) => Uint8Array;

/**
 * The subtrees an inclusion proof is made of: the hashes in a group, folded from the right, are one hash of the proof.
 * Only a right edge that is no complete subtree makes a group of more than one.
 * Throws {@link ProofError}: `size` for a bad tree size, `index` unless `leafIndex` is in it.
 */
export function inclusionSubtrees(leafIndex: number, treeSize: number): Subtree[][] {
  requireSize(treeSize);
  requireIndex(leafIndex, treeSize);
  const groups: Subtree[][] = [];
  // RFC 6962 section 2.1.1 from the root down; a proof lists from the leaf up.
  let begin = 0;
  let end = treeSize;
  while (end - begin > 1) {
    const split = begin + largestPowerBelow(end - begin);
    if (leafIndex < split) {
      groups.push(completeSubtrees(split, end));
      end = split;
    } else {
      groups.push(completeSubtrees(begin, split));
      begin = split;
    }
  }
  return groups.reverse();
}

/**
 * As {@link inclusionSubtrees}, for the proof that the first `oldSize` leaves of a tree of `newSize` are an older tree
 * (RFC 6962 section 2.1.2). Empty where either tree is empty or both are the same.
 * Throws {@link ProofError} `size` for a bad size, or an old one greater than the new.
 */
export function consistencySubtrees(oldSize: number, newSize: number): Subtree[][] {
  requireSizes(oldSize, newSize);
  if (oldSize === 0) return [];
  const groups: Subtree[][] = [];
  let begin = 0;
  let end = newSize;
  while (oldSize !== end) {
    const split = begin + largestPowerBelow(end - begin);
    if (oldSize <= split) {
      groups.push(completeSubtrees(split, end));
      end = split;
    } else {
      groups.push(completeSubtrees(begin, split));
      begin = split;
    }
  }
  // From begin 0 the subtree is the whole old tree, whose root the verifier has.
  if (begin > 0) groups.push(completeSubtrees(begin, end));
  return groups.reverse();
}

/**
 * The proof that the leaf at `leafIndex` is in the tree of `treeSize` leaves (RFC 6962 section 2.1.1): 32-byte hashes,
 * from the leaf up. Throws {@link ProofError} `size` or `index`, and what `read` throws.
 */
export function inclusionProof(leafIndex: number, treeSize: number, read: HashReader): Uint8Array[] {
  return inclusionSubtrees(leafIndex, treeSize).map((group) => foldRight(group, read));
}

/**
 * The proof that a tree of `newSize` leaves extends its first `oldSize` (RFC 6962 section 2.1.2): 32-byte hashes.
 * Throws {@link ProofError} `size`, and what `read` throws.
 */
export function consistencyProof(oldSize: number, newSize: number, read: HashReader): Uint8Array[] {
  return consistencySubtrees(oldSize, newSize).map((group) => foldRight(group, read));
}

/**
 * The root of the tree of `treeSize` leaves, from the hashes of its complete subtrees (RFC 6962 section 2.1).
 * Throws {@link ProofError} `size`, and what `read` throws.
 */
export function rootFrom(treeSize: number, read: HashReader): Uint8Array {
  requireSize(treeSize);
  return treeSize === 0 ? emptyRoot() : foldRight(completeSubtrees(0, treeSize), read);
}

/**
 * The fewest complete subtrees that together span the leaves [begin, end), from left to right. From 0, or where the tree
 * splits, the largest comes first.
 */
export function completeSubtrees(begin: number, end: number): Subtree[] {
  const subtrees: Subtree[] = [];
  while (begin < end) {
    let height = 0;
    while (2 ** (height + 1) <= end - begin && begin % 2 ** (height + 1) === 0) height++;
    subtrees.push({ height, index: begin / 2 ** height });
    begin += 2 ** height;
  }
  return subtrees;
}

function foldRight(group: readonly Subtree[], read: HashReader): Uint8Array {
  return group.map(({ height, index }) => read(height, index)).reduceRight((right, left) => nodeHash(left, right));
}
