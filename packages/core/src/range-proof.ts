/**
 * Range proofs: that some leaves are exactly those at [from, to) of a tree, none missing, added or moved. The proof is the
 * hashes of the fewest complete subtrees before and after the range; with the leaves they give the root.
 */
import { ProofError, requireSize } from "./proof.ts";
import { completeSubtrees, type HashReader, type Subtree } from "./prover.ts";
import { HASH_BYTES, nodeHash, type TreeHead } from "./tree.ts";

/** The leaves [from, to) of a tree of `treeSize` leaves; at least one. */
export interface LeafRange {
  readonly from: number;
  readonly to: number;
  readonly treeSize: number;
}

/** 32-byte hashes of the subtrees before and after a range, from left to right. */
export interface RangeProof {
  readonly left: readonly Uint8Array[];
  readonly right: readonly Uint8Array[];
}

/**
 * The subtrees that a range proof is made of. Throws {@link ProofError}: `size` for a bad tree size, `index` unless
 * 0 <= from < to <= treeSize. No range is empty: it would hold nothing that could be proved.
 */
export function rangeSubtrees({ from, to, treeSize }: LeafRange): { left: Subtree[]; right: Subtree[] } {
  requireSize(treeSize);
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || from < 0 || from >= to || to > treeSize) {
    throw new ProofError("index", `[${from}, ${to}) is no range of leaves in a tree of ${treeSize}`);
  }
  return { left: completeSubtrees(0, from), right: completeSubtrees(to, treeSize) };
}

/** The proof for a range. Throws as {@link rangeSubtrees}, and what `read` throws. */
export function rangeProof(range: LeafRange, read: HashReader): RangeProof {
  const { left, right } = rangeSubtrees(range);
  const hash = ({ height, index }: Subtree) => read(height, index);
  return { left: left.map(hash), right: right.map(hash) };
}

/** Checks a range leaf by leaf; its memory grows with the logarithm of the tree's size. */
export class RangeVerifier {
  readonly #range: LeafRange;
  readonly #right: readonly { height: number; hash: Uint8Array }[];
  /** The complete subtrees over all leaves so far, from left to right, heights decreasing. */
  readonly #edge: { height: number; hash: Uint8Array }[] = [];
  #next: number;

  /**
   * Throws {@link ProofError}: as {@link rangeSubtrees}; `proof_length` when the proof has too few or too many hashes for
   * the range, `hash_length` for one that has not 32 bytes.
   */
  constructor({ from, to, treeSize, left, right }: LeafRange & RangeProof) {
    this.#range = { from, to, treeSize };
    const subtrees = rangeSubtrees(this.#range);
    this.#edge = pair(subtrees.left, left);
    this.#right = pair(subtrees.right, right);
    this.#next = from;
  }

  /** The position whose leaf is expected next; `to` when none is. */
  get next(): number {
    return this.#next;
  }

  /** Takes the hash of the leaf at {@link next}. Throws {@link ProofError} `leaf_count` at the end, or `hash_length`. */
  append(leafHash: Uint8Array): void {
    if (this.#next >= this.#range.to) throw leafCountError(this.#range, "more");
    requireHash(leafHash);
    push(this.#edge, 0, leafHash);
    this.#next++;
  }

  /**
   * Returns the head that the leaves belong to when `root` is its root; it vouches for nothing unless it is a verified
   * checkpoint's, of this tree size. Throws {@link ProofError}: `leaf_count` when leaves are missing, `root_mismatch`.
   */
  finish(root: Uint8Array): TreeHead {
    if (this.#next < this.#range.to) throw leafCountError(this.#range, "fewer");
    const edge = [...this.#edge];
    for (const { height, hash } of this.#right) push(edge, height, hash);
    const found = edge.map(({ hash }) => hash).reduceRight((right, left) => nodeHash(left, right));
    if (root.length !== HASH_BYTES || !found.every((byte, i) => byte === root[i])) {
      throw new ProofError("root_mismatch", "the leaves and their proof lead to another root");
    }
    return { size: this.#range.treeSize, root };
  }
}

/** Checks a whole range at once; as {@link RangeVerifier}. Returns the head. */
export function verifyRange(
  claim: LeafRange & RangeProof & { readonly leafHashes: Iterable<Uint8Array>; readonly root: Uint8Array },
): TreeHead {
  const verifier = new RangeVerifier(claim);
  for (const leafHash of claim.leafHashes) verifier.append(leafHash);
  return verifier.finish(claim.root);
}

/** Puts a complete subtree to the right of an edge, and joins those that become one. */
function push(edge: { height: number; hash: Uint8Array }[], height: number, hash: Uint8Array): void {
  let joined = { height, hash };
  while (edge.at(-1)?.height === joined.height) {
    joined = { height: joined.height + 1, hash: nodeHash(edge.pop()!.hash, joined.hash) };
  }
  edge.push(joined);
}

function pair(subtrees: readonly Subtree[], hashes: readonly Uint8Array[]) {
  if (hashes.length !== subtrees.length) {
    throw new ProofError("proof_length", `${hashes.length} hashes where this range has ${subtrees.length}`);
  }
  return subtrees.map(({ height }, i) => {
    requireHash(hashes[i]!);
    return { height, hash: hashes[i]! };
  });
}

function requireHash(hash: Uint8Array): void {
  if (hash.length !== HASH_BYTES) throw new ProofError("hash_length", `a hash has 32 bytes, got ${hash.length}`);
}

function leafCountError({ from, to }: LeafRange, what: "more" | "fewer"): ProofError {
  return new ProofError("leaf_count", `${what} leaves than the ${to - from} of [${from}, ${to})`);
}
