import fc from "fast-check";
import { expect, test } from "vitest";
import { completeSubtrees, type HashReader } from "../src/prover.ts";
import { type LeafRange, RangeVerifier, rangeProof, verifyRange } from "../src/range-proof.ts";
import { tileReader, tilesForRange } from "../src/tiles.ts";
import { leafHash, nodeHash, rootOf } from "../src/tree.ts";
import { counterLeaf } from "./vectors.ts";

const hashes = Array.from({ length: 2048 }, (_, i) => leafHash(counterLeaf(i)));
const subtrees = new Map<string, Uint8Array>();
const read: HashReader = (height, index) => {
  if (height === 0) return hashes[index]!;
  const key = `${height}/${index}`;
  const known = subtrees.get(key) ?? nodeHash(read(height - 1, 2 * index), read(height - 1, 2 * index + 1));
  subtrees.set(key, known);
  return known;
};

const refused = (code?: string) => expect.objectContaining({ name: "ProofError", ...(code && { code }) });

function claimOf(range: LeafRange) {
  const leafHashes = hashes.slice(range.from, range.to);
  return { ...range, ...rangeProof(range, read), leafHashes, root: rootOf(hashes.slice(0, range.treeSize)) };
}

/** Every range of a tree of 1 to `maxSize` leaves. */
function* rangesTo(maxSize: number): Generator<LeafRange> {
  for (let treeSize = 1; treeSize <= maxSize; treeSize++) {
    for (let from = 0; from < treeSize; from++) {
      for (let to = from + 1; to <= treeSize; to++) yield { from, to, treeSize };
    }
  }
}

const anyRange = fc.tuple(fc.integer({ min: 1, max: 2048 }), fc.nat(), fc.nat()).map(([treeSize, a, b]) => {
  const from = a % treeSize;
  return { from, to: from + 1 + (b % (treeSize - from)), treeSize };
});

test("verifyRange() accepts every range of every tree to 40", () => {
  for (const range of rangesTo(40)) {
    const claim = claimOf(range);
    expect(verifyRange(claim)).toEqual({ size: range.treeSize, root: claim.root });
  }
});

test("leaves of a range that are missing, added, swapped or another's are refused, in every tree to 17", () => {
  for (const range of rangesTo(17)) {
    const claim = claimOf(range);
    const { leafHashes } = claim;
    expect(() => verifyRange({ ...claim, leafHashes: leafHashes.slice(1) })).toThrow(refused("leaf_count"));
    expect(() => verifyRange({ ...claim, leafHashes: [...leafHashes, hashes[99]!] })).toThrow(refused("leaf_count"));
    for (let i = 0; i < leafHashes.length; i++) {
      const other = leafHashes.with(i, hashes[99]!);
      expect(() => verifyRange({ ...claim, leafHashes: other })).toThrow(refused("root_mismatch"));
      if (i === 0) continue;
      const swapped = leafHashes.with(i, leafHashes[i - 1]!).with(i - 1, leafHashes[i]!);
      expect(() => verifyRange({ ...claim, leafHashes: swapped })).toThrow(refused("root_mismatch"));
    }
  }
});

test("the leaves of a range are accepted at no other range of no tree to 9", () => {
  const trees = Array.from({ length: 10 }, (_, size) => rootOf(hashes.slice(0, size)));
  for (const range of rangesTo(9)) {
    const claim = claimOf(range);
    for (const other of rangesTo(9)) {
      if (other.from === range.from && other.to === range.to && other.treeSize === range.treeSize) continue;
      // As a forger would: with the honest proof for the other place, and with the one for this.
      for (const proof of [rangeProof(other, read), claim]) {
        const forged = { ...other, left: proof.left, right: proof.right, leafHashes: claim.leafHashes };
        const root = trees[other.treeSize]!;
        // A longer tree with the same leaves there is an honest claim of its own.
        const same = other.from === range.from && other.to === range.to && proof !== claim;
        if (same) expect(verifyRange({ ...forged, root }).size).toBe(other.treeSize);
        else expect(() => verifyRange({ ...forged, root })).toThrow(refused());
      }
    }
  }
});

test("any changed bit, dropped, added or swapped hash of a range proof is refused", () => {
  fc.assert(
    fc.property(anyRange, fc.nat(), fc.nat(255), (range, which, bit) => {
      const claim = claimOf(range);
      verifyRange(claim);
      const flip = (bytes: Uint8Array) => bytes.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
      expect(() => verifyRange({ ...claim, root: flip(claim.root) })).toThrow(refused("root_mismatch"));
      for (const side of ["left", "right"] as const) {
        const proof = claim[side];
        const longer = [...proof, claim.root];
        expect(() => verifyRange({ ...claim, [side]: longer })).toThrow(refused("proof_length"));
        if (proof.length === 0) continue;
        const k = which % proof.length;
        expect(() => verifyRange({ ...claim, [side]: proof.toSpliced(k, 1) })).toThrow(refused("proof_length"));
        const changed = proof.with(k, flip(proof[k]!));
        expect(() => verifyRange({ ...claim, [side]: changed })).toThrow(refused("root_mismatch"));
        const short = proof.with(k, proof[k]!.subarray(1));
        expect(() => verifyRange({ ...claim, [side]: short })).toThrow(refused("hash_length"));
        if (k === 0) continue;
        const swapped = proof.with(k, proof[k - 1]!).with(k - 1, proof[k]!);
        expect(() => verifyRange({ ...claim, [side]: swapped })).toThrow(refused("root_mismatch"));
      }
    }),
    { numRuns: 100 },
  );
});

test("a range proof has one hash for each bit, at most, on either side of the range", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.maxSafeNat(), fc.maxSafeNat(), (a, b, c) => {
      const [from, to, treeSize] = [a, b, c].sort((x, y) => x - y) as [number, number, number];
      fc.pre(from < to);
      const range = { from, to, treeSize };
      const { left, right } = rangeProof(range, (height, index) => leafHash(`${height}/${index}`));
      expect(left.length).toBeLessThanOrEqual(53);
      expect(right.length).toBeLessThanOrEqual(2 * 53);
    }),
  );
});

test("completeSubtrees() spans any [begin, end) without gap, by complete subtrees that no two join to one", () => {
  for (let begin = 0; begin <= 40; begin++) {
    for (let end = begin; end <= 80; end++) {
      const found = completeSubtrees(begin, end);
      let at = begin;
      for (const { height, index } of found) {
        expect(index * 2 ** height).toBe(at);
        at += 2 ** height;
      }
      expect(at).toBe(end);
      found.slice(1).forEach(({ height, index }, i) => {
        expect(found[i]!.height === height && index % 2 === 1).toBe(false);
      });
    }
  }
});

test("tilesForRange() names the tiles that rangeProof() reads", () => {
  fc.assert(
    fc.property(anyRange, (range) => {
      const named = tilesForRange(range).map(({ level, index, width }) => `${level}/${index}/${width}`);
      const readTiles: string[] = [];
      const reader = tileReader(range.treeSize, (level, index, width) => {
        readTiles.push(`${level}/${index}/${width}`);
        const size = 256 ** level;
        const data = Array.from({ length: width }, (_, i) => read(Math.log2(size), index * 256 + i));
        return new Uint8Array(Buffer.concat(data));
      });
      expect(rangeProof(range, reader)).toEqual(rangeProof(range, read));
      expect(readTiles.sort()).toEqual(named.sort());
    }),
    { numRuns: 50 },
  );
});

test("RangeVerifier says which leaf is next, takes no more than the range, and can be asked for several roots", () => {
  const { leafHashes, root, ...claim } = claimOf({ from: 3, to: 5, treeSize: 8 });
  const verifier = new RangeVerifier(claim);
  expect(verifier.next).toBe(3);
  expect(() => verifier.append(new Uint8Array(31))).toThrow(refused("hash_length"));
  verifier.append(leafHashes[0]!);
  expect(() => verifier.finish(root)).toThrow(refused("leaf_count"));
  verifier.append(leafHashes[1]!);
  expect(verifier.next).toBe(5);
  expect(() => verifier.append(hashes[5]!)).toThrow(refused("leaf_count"));
  expect(() => verifier.finish(hashes[0]!)).toThrow(refused("root_mismatch"));
  expect(verifier.finish(root)).toEqual({ size: 8, root });
});

test.each([
  [0, 0, 0, "index"],
  [0, 0, 5, "index"],
  [3, 3, 5, "index"],
  [4, 3, 5, "index"],
  [0, 6, 5, "index"],
  [-1, 1, 5, "index"],
  [0.5, 1, 5, "index"],
  [0, Number.NaN, 5, "index"],
  [0, 1, -1, "size"],
  [0, 1, 2 ** 53, "size"],
])("[%d, %d) of %d is refused: %s", (from, to, treeSize, code) => {
  expect(() => rangeProof({ from, to, treeSize }, read)).toThrow(refused(code));
  expect(() => new RangeVerifier({ from, to, treeSize, left: [], right: [] })).toThrow(refused(code));
});
