import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromHex, toHex } from "../src/hex.ts";
import { verifyConsistency, verifyInclusion } from "../src/proof.ts";
import { consistencyProof, type HashReader, inclusionProof, rootFrom } from "../src/prover.ts";
import { emptyRoot, largestPowerBelow, leafHash, nodeHash, rootOf } from "../src/tree.ts";
import { counterLeaf, readVectors } from "./vectors.ts";

const hashes = Array.from({ length: 2048 }, (_, i) => leafHash(counterLeaf(i)));
const subtrees = new Map<string, Uint8Array>();
const read: HashReader = (height, index) => {
  if (height === 0) return hashes[index]!;
  const key = `${height}/${index}`;
  const known = subtrees.get(key) ?? nodeHash(read(height - 1, 2 * index), read(height - 1, 2 * index + 1));
  subtrees.set(key, known);
  return known;
};
const roots = Array.from({ length: 301 }, (_, size) => rootOf(hashes.slice(0, size)));
const rootAt = (size: number) => roots[size] ?? rootFrom(size, read);

// RFC 6962 sections 2.1.1 and 2.1.2, word for word.
function path(m: number, d: readonly Uint8Array[]): Uint8Array[] {
  if (d.length === 1) return [];
  const k = largestPowerBelow(d.length);
  return m < k ? [...path(m, d.slice(0, k)), rootOf(d.slice(k))] : [...path(m - k, d.slice(k)), rootOf(d.slice(0, k))];
}
function subproof(m: number, d: readonly Uint8Array[], b: boolean): Uint8Array[] {
  if (m === d.length) return b ? [] : [rootOf(d)];
  const k = largestPowerBelow(d.length);
  return m <= k
    ? [...subproof(m, d.slice(0, k), b), rootOf(d.slice(k))]
    : [...subproof(m - k, d.slice(k), false), rootOf(d.slice(0, k))];
}

function inclusion(leafIndex: number, treeSize: number) {
  const proof = inclusionProof(leafIndex, treeSize, read);
  return { leafIndex, treeSize, leafHash: hashes[leafIndex]!, root: rootAt(treeSize), proof };
}

function consistency(oldSize: number, newSize: number) {
  const proof = consistencyProof(oldSize, newSize, read);
  return { oldSize, newSize, oldRoot: rootAt(oldSize), newRoot: rootAt(newSize), proof };
}

function flip(bytes: Uint8Array, bit: number): Uint8Array {
  const changed = new Uint8Array(bytes);
  changed[bit >> 3]! ^= 1 << (bit & 7);
  return changed;
}

const refused = (code?: string) => expect.objectContaining({ name: "ProofError", ...(code && { code }) });

test("rootFrom() agrees with rootOf()", () => {
  roots.forEach((root, size) => {
    expect(toHex(rootFrom(size, read))).toBe(toHex(root));
  });
});

describe("inclusion", () => {
  test("every leaf of every tree to 130: the RFC's proof, verified, for no other index, size or root", () => {
    for (let size = 1; size <= 130; size++) {
      for (let index = 0; index < size; index++) {
        const claim = inclusion(index, size);
        const { proof, ...proven } = claim;
        expect(verifyInclusion(claim)).toEqual(proven);
        if (size <= 40) expect(proof).toEqual(path(index, hashes.slice(0, size)));
        for (const leafIndex of [index - 1, index + 1]) {
          expect(() => verifyInclusion({ ...claim, leafIndex })).toThrow(refused());
        }
        for (const treeSize of [size - 1, size + 1]) {
          expect(() => verifyInclusion({ ...claim, treeSize, root: rootAt(treeSize) })).toThrow(refused());
        }
      }
    }
  });

  test("no other index of the tree, and no other leaf, fits a proof", () => {
    for (let size = 1; size <= 33; size++) {
      for (let index = 0; index < size; index++) {
        const claim = inclusion(index, size);
        for (let other = 0; other < size; other++) {
          if (other === index) continue;
          expect(() => verifyInclusion({ ...claim, leafIndex: other })).toThrow(refused());
          expect(() => verifyInclusion({ ...claim, leafHash: hashes[other]! })).toThrow(refused("root_mismatch"));
        }
      }
    }
  });

  test("any changed bit, dropped or added hash is refused", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2048 }), fc.nat(), fc.nat(), fc.nat(255), (size, at, which, bit) => {
        const claim = inclusion(at % size, size);
        verifyInclusion(claim);
        const { leafHash, root, proof } = claim;
        expect(() => verifyInclusion({ ...claim, leafHash: flip(leafHash, bit) })).toThrow(refused("root_mismatch"));
        expect(() => verifyInclusion({ ...claim, root: flip(root, bit) })).toThrow(refused("root_mismatch"));
        const extra = [...proof, root];
        expect(() => verifyInclusion({ ...claim, proof: extra })).toThrow(refused("proof_length"));
        if (proof.length === 0) return;
        const k = which % proof.length;
        expect(() => verifyInclusion({ ...claim, proof: proof.with(k, flip(proof[k]!, bit)) })).toThrow(refused());
        expect(() => verifyInclusion({ ...claim, proof: proof.toSpliced(k, 1) })).toThrow(refused("proof_length"));
        expect(() => verifyInclusion({ ...claim, proof: proof.toSpliced(k, 0, proof[k]!) })).toThrow(refused());
        const short = proof.with(k, proof[k]!.subarray(1));
        expect(() => verifyInclusion({ ...claim, proof: short })).toThrow(refused("hash_length"));
      }),
    );
  });

  test("sizes near 2^53 are proven exactly", () => {
    const anywhere: HashReader = (height, index) => leafHash(`${height}/${index}`);
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.maxSafeNat(), (a, b) => {
        const [leafIndex, treeSize] = a < b ? [a, b] : [b, a + 1];
        if (!Number.isSafeInteger(treeSize)) return;
        // No such tree can be built: any root will do that the same proof leads to from both sides.
        const proof = inclusionProof(leafIndex, treeSize, anywhere);
        const claim = { leafIndex, treeSize, leafHash: anywhere(0, leafIndex), root: emptyRoot(), proof };
        expect(() => verifyInclusion(claim)).toThrow(refused("root_mismatch"));
        expect(() => verifyInclusion({ ...claim, proof: [...proof, emptyRoot()] })).toThrow(refused("proof_length"));
      }),
    );
  });

  test.each([
    [0, 0, "index"],
    [5, 5, "index"],
    [-1, 5, "index"],
    [0.5, 5, "index"],
    [Number.NaN, 5, "index"],
    [0, -1, "size"],
    [0, 2 ** 53, "size"],
    [0, 1.5, "size"],
  ])("leaf %d of %d is refused: %s", (leafIndex, treeSize, code) => {
    const claim = { leafIndex, treeSize, leafHash: hashes[0]!, root: hashes[0]!, proof: [] };
    expect(() => verifyInclusion(claim)).toThrow(refused(code));
    expect(() => inclusionProof(leafIndex, treeSize, read)).toThrow(refused(code));
  });
});

describe("consistency", () => {
  test("every pair of sizes to 80: the RFC's proof, verified, for no neighbouring size", () => {
    for (let newSize = 0; newSize <= 80; newSize++) {
      for (let oldSize = 0; oldSize <= newSize; oldSize++) {
        const claim = consistency(oldSize, newSize);
        expect(verifyConsistency(claim)).toEqual({ size: newSize, root: rootAt(newSize) });
        if (oldSize === 0) continue;
        expect(claim.proof).toEqual(subproof(oldSize, hashes.slice(0, newSize), true));
        if (oldSize === newSize) continue;
        for (const other of [oldSize - 1, oldSize + 1]) {
          expect(() => verifyConsistency({ ...claim, oldSize: other, oldRoot: rootAt(other) })).toThrow(refused());
        }
        for (const other of [newSize - 1, newSize + 1]) {
          expect(() => verifyConsistency({ ...claim, newSize: other, newRoot: rootAt(other) })).toThrow(refused());
        }
      }
    }
  });

  test("any changed bit, dropped or added hash is refused", () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 2048 }), fc.nat(), fc.nat(), fc.nat(255), (newSize, old, which, bit) => {
        const claim = consistency(1 + (old % (newSize - 1)), newSize);
        verifyConsistency(claim);
        const { oldRoot, newRoot, proof } = claim;
        expect(() => verifyConsistency({ ...claim, oldRoot: flip(oldRoot, bit) })).toThrow(refused());
        expect(() => verifyConsistency({ ...claim, newRoot: flip(newRoot, bit) })).toThrow(refused("root_mismatch"));
        expect(() => verifyConsistency({ ...claim, proof: [...proof, newRoot] })).toThrow(refused("proof_length"));
        expect(() => verifyConsistency({ ...claim, proof: [] })).toThrow(refused("proof_length"));
        const k = which % proof.length;
        expect(() => verifyConsistency({ ...claim, proof: proof.with(k, flip(proof[k]!, bit)) })).toThrow(refused());
        expect(() => verifyConsistency({ ...claim, proof: proof.toSpliced(k, 1) })).toThrow(refused("proof_length"));
        const short = proof.with(k, proof[k]!.subarray(1));
        expect(() => verifyConsistency({ ...claim, proof: short })).toThrow(refused("hash_length"));
      }),
    );
  });

  test("a tree in which one old leaf was changed is refused, whichever leaf", () => {
    for (let changed = 0; changed < 20; changed++) {
      const forged = hashes.slice(0, 33).with(changed, leafHash("forged"));
      const proof = subproof(20, forged, true);
      const claim = { oldSize: 20, newSize: 33, oldRoot: rootAt(20), newRoot: rootOf(forged), proof };
      expect(() => verifyConsistency(claim)).toThrow(refused("old_root_mismatch"));
    }
  });

  test.each([
    [2, 1],
    [-1, 1],
    [0, 2 ** 53],
    [0.5, 1],
    [Number.NaN, 1],
  ])("%d to %d is refused: size", (oldSize, newSize) => {
    const claim = { oldSize, newSize, oldRoot: hashes[0]!, newRoot: hashes[0]!, proof: [] };
    expect(() => verifyConsistency(claim)).toThrow(refused("size"));
    expect(() => consistencyProof(oldSize, newSize, read)).toThrow(refused("size"));
  });
});

interface Cases<T> {
  accept: (T & { name: string })[];
  reject: (T & { name: string; error: string })[];
}

describe("vectors/tree/inclusion.json", () => {
  interface Case {
    leaf_index: number;
    tree_size: number;
    leaf_hash: string;
    root: string;
    proof: string[];
  }
  const { accept, reject } = readVectors<Cases<Case>>("tree/inclusion.json");
  const claim = (c: Case) => ({
    leafIndex: c.leaf_index,
    treeSize: c.tree_size,
    leafHash: fromHex(c.leaf_hash),
    root: fromHex(c.root),
    proof: c.proof.map(fromHex),
  });
  test.each(accept)("accept: $name", (c) => {
    expect(toHex(verifyInclusion(claim(c)).leafHash)).toBe(c.leaf_hash);
  });
  test.each(reject)("reject: $name ($error)", (c) => {
    expect(() => verifyInclusion(claim(c))).toThrow(refused(c.error));
  });
});

describe("vectors/tree/consistency.json", () => {
  interface Case {
    old_size: number;
    new_size: number;
    old_root: string;
    new_root: string;
    proof: string[];
  }
  const { accept, reject } = readVectors<Cases<Case>>("tree/consistency.json");
  const claim = (c: Case) => ({
    oldSize: c.old_size,
    newSize: c.new_size,
    oldRoot: fromHex(c.old_root),
    newRoot: fromHex(c.new_root),
    proof: c.proof.map(fromHex),
  });
  test.each(accept)("accept: $name", (c) => {
    expect(toHex(verifyConsistency(claim(c)).root)).toBe(c.new_root);
  });
  test.each(reject)("reject: $name ($error)", (c) => {
    expect(() => verifyConsistency(claim(c))).toThrow(refused(c.error));
  });
});
