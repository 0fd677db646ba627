import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TreeEdge } from "../src/edge.ts";
import { fromHex, toHex } from "../src/hex.ts";
import { sha256 } from "../src/sha256.ts";
import { emptyRoot, leafHash, nodeHash, partialWidth, rootOf, TILE_WIDTH } from "../src/tree.ts";
import { counterLeaf, readVectors } from "./vectors.ts";

interface RootVectors {
  name: string;
  leaves?: string[];
  roots: { size: number; root: string }[];
}

const hashes = Array.from({ length: 1200 }, (_, i) => leafHash(counterLeaf(i)));

function edgeOver(count: number, edge = new TreeEdge()): TreeEdge {
  for (let i = edge.size; i < count; i++) edge.append(hashes[i] ?? leafHash(counterLeaf(i)));
  return edge;
}

function partialsOf(edge: TreeEdge): Uint8Array[] {
  return [0, 1, 2, 3].map((level) => edge.partialTile(level));
}

describe.each(readVectors<RootVectors[]>("tree/roots.json"))("roots of $name", ({ leaves, roots }) => {
  test("by TreeEdge", () => {
    const edge = new TreeEdge();
    for (const { size, root } of roots) {
      while (edge.size < size) edge.append(leafHash(leaves ? fromHex(leaves[edge.size]!) : counterLeaf(edge.size)));
      expect(toHex(edge.root())).toBe(root);
    }
  });

  test("by rootOf()", () => {
    for (const { size, root } of roots) {
      const all = Array.from({ length: size }, (_, i) => leafHash(leaves ? fromHex(leaves[i]!) : counterLeaf(i)));
      expect(toHex(rootOf(all))).toBe(root);
    }
  });
});

test("leafHash() is SHA-256(0x00 || leaf), for strings and bytes of any length", () => {
  const law = (text: string) => {
    const bytes = new TextEncoder().encode(text);
    const expected = sha256(Uint8Array.from([0, ...bytes]));
    expect(leafHash(text)).toEqual(expected);
    expect(leafHash(bytes)).toEqual(expected);
    expect(leafHash(Buffer.from(bytes))).toEqual(expected);
  };
  fc.assert(fc.property(fc.string({ unit: "grapheme" }), law));
  for (const length of [0, 65_535, 65_536, 65_537, 196_607, 196_608, 196_609]) {
    law("x".repeat(length));
    law("€".repeat(length / 3));
  }
});

test("nodeHash() is SHA-256(0x01 || left || right)", () => {
  const [left, right] = [leafHash("l"), leafHash("r")];
  expect(nodeHash(left, right)).toEqual(sha256(Uint8Array.from([1, ...left, ...right])));
});

test("append() and root() agree with rootOf() at every size to 600", () => {
  const edge = new TreeEdge();
  for (let size = 0; size <= 600; size++) {
    expect(edge.size).toBe(size);
    expect(toHex(edge.root())).toBe(toHex(rootOf(hashes.slice(0, size))));
    edge.append(hashes[size]!);
  }
});

test("restore() from partial tiles continues as if never stopped, at every size to 600 and at random", () => {
  const law = (size: number, more: number) => {
    const whole = edgeOver(size);
    whole.takeTiles();
    const restored = TreeEdge.restore(size, partialsOf(whole));
    expect(restored.root()).toEqual(whole.root());
    edgeOver(size + more, whole);
    edgeOver(size + more, restored);
    expect(restored.root()).toEqual(whole.root());
    expect(partialsOf(restored)).toEqual(partialsOf(whole));
    expect(restored.takeTiles()).toEqual(whole.takeTiles());
  };
  for (let size = 0; size <= 600; size++) law(size, size % 7);
  fc.assert(fc.property(fc.nat(3000), fc.nat(600), law), { numRuns: 20 });
  law(65_535, 2);
  law(65_536, 1);
});

test("takeTiles() gives each full tile once, with the hashes and root that the tree has there", () => {
  const edge = edgeOver(65_536 + 300);
  const tiles = edge.takeTiles();
  expect(edge.takeTiles()).toEqual([]);
  expect(tiles.length).toBe(257 + 1);
  expect(tiles.filter(({ level }) => level === 0).map(({ index }) => index)).toEqual([...Array(257).keys()]);
  const upper = tiles.filter(({ level }) => level === 1);
  expect(upper.map(({ index, data }) => [index, data.length])).toEqual([[0, 8192]]);
  // The tile above comes right after the tile that fills it.
  expect(tiles[256]).toBe(upper[0]);
  for (const { level, index, data, root } of tiles) {
    if (level === 1) continue;
    const leaves = Array.from({ length: TILE_WIDTH }, (_, i) => leafHash(counterLeaf(index * TILE_WIDTH + i)));
    expect(Buffer.concat(leaves).equals(data)).toBe(true);
    expect(rootOf(leaves)).toEqual(root);
    if (index < 256) expect(upper[0]!.data.subarray(32 * index, 32 * index + 32)).toEqual(root);
  }
  expect([0, 1, 2, 3].map((level) => edge.partialTile(level).length / 32)).toEqual([44, 1, 1, 0]);
});

test("clone() and its original grow apart", () => {
  const other = leafHash("another future");
  const law = (size: number, ours: number, theirs: number) => {
    const original = edgeOver(size);
    const first = original.clone();
    const second = original.clone();
    const [root, partials] = [original.root(), partialsOf(original)];
    for (let i = 0; i < ours; i++) first.append(other);
    edgeOver(size + theirs, second);
    expect(original.size).toBe(size);
    expect(original.root()).toEqual(root);
    expect(partialsOf(original)).toEqual(partials);
    expect(second.root()).toEqual(rootOf(hashes.slice(0, size + theirs)));
    expect(first.root()).toEqual(rootOf([...hashes.slice(0, size), ...Array(ours).fill(other)]));
    expect(partialsOf(edgeOver(size + theirs, original))).toEqual(partialsOf(second));
    expect(original.takeTiles()).toEqual(second.takeTiles());
    expect(first.takeTiles().length).toBe(Math.floor((size + ours) / 256));
  };
  for (const size of [0, 1, 254, 255, 256, 257, 511, 512]) law(size, 2, 3);
  fc.assert(fc.property(fc.nat(600), fc.nat(300), fc.nat(300), law), { numRuns: 30 });
});

test("nothing handed in or out is shared with the edge", () => {
  const edge = new TreeEdge();
  const mine = leafHash("mine");
  edge.append(mine);
  const before = edge.root();
  mine.fill(0);
  edge.root().fill(0);
  edge.partialTile(0).fill(0);
  expect(edge.root()).toEqual(before);
  const stored = edge.partialTile(0);
  const restored = TreeEdge.restore(1, [stored]);
  stored.fill(0);
  expect(restored.root()).toEqual(before);
  expect(restored.partialTile(0)).toEqual(before);
});

test("append() refuses what is no hash, and a tree of 2^53 leaves, and changes nothing", () => {
  const edge = edgeOver(3);
  const before = edge.root();
  expect(() => edge.append(new Uint8Array(31))).toThrow(expect.objectContaining({ code: "bad_hash" }));
  expect(edge.size).toBe(3);
  expect(edge.root()).toEqual(before);
  const size = Number.MAX_SAFE_INTEGER;
  const widths = Array.from({ length: 7 }, (_, level) => partialWidth(size, level));
  const full = TreeEdge.restore(
    size,
    widths.map((width) => new Uint8Array(32 * width)),
  );
  expect(() => full.append(hashes[0]!)).toThrow(expect.objectContaining({ code: "bad_size" }));
  expect(full.size).toBe(size);
});

test("append() and root() are exact beyond 2^31 and near 2^53", () => {
  for (const size of [2 ** 31 - 1, 2 ** 32, 2 ** 40 + 255, 2 ** 53 - 3]) {
    const partials = [];
    for (let level = 0; TILE_WIDTH ** level <= size; level++) {
      partials.push(new Uint8Array(32 * partialWidth(size, level)).fill(level + 1));
    }
    const edge = TreeEdge.restore(size, partials);
    edge.append(hashes[0]!);
    expect(edge.size).toBe(size + 1);
    const tiles = edge.takeTiles();
    expect(tiles.map(({ index }) => index)).toEqual(
      tiles.map(({ level }) => (size + 1) / TILE_WIDTH ** (level + 1) - 1),
    );
    const again = TreeEdge.restore(
      size + 1,
      Array.from({ length: 7 }, (_, level) => edge.partialTile(level)),
    );
    expect(again.root()).toEqual(edge.root());
  }
});

test.each([
  [-1, [], "bad_size"],
  [0.5, [], "bad_size"],
  [2 ** 53, [], "bad_size"],
  [Number.NaN, [], "bad_size"],
  [1, [], "bad_partial"],
  [1, [31], "bad_partial"],
  [1, [64], "bad_partial"],
  [0, [32], "bad_partial"],
  [256, [0], "bad_partial"],
  [256, [0, 32, 32], "bad_partial"],
  [257, [32], "bad_partial"],
])("restore(%j, lengths %j) throws %s", (size, lengths, code) => {
  expect(() =>
    TreeEdge.restore(
      size,
      lengths.map((length) => new Uint8Array(length)),
    ),
  ).toThrow(expect.objectContaining({ name: "TreeError", code }));
});

test("the empty tree's root is the hash of nothing", () => {
  expect(new TreeEdge().root()).toEqual(emptyRoot());
  expect(toHex(emptyRoot())).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
});
