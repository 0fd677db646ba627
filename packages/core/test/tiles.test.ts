import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TreeEdge } from "../src/edge.ts";
import { verifyConsistency, verifyInclusion } from "../src/proof.ts";
import { consistencyProof, type HashReader, inclusionProof, rootFrom } from "../src/prover.ts";
import {
  type EntryBundle,
  formatEntryBundle,
  formatTilePath,
  parseEntryBundle,
  parseTilePath,
  type Tile,
  tileCounts,
  tileReader,
  tilesForConsistency,
  tilesForInclusion,
  tilesForRoot,
  widthOf,
} from "../src/tiles.ts";
import { leafHash, nodeHash, rootOf } from "../src/tree.ts";
import { counterLeaf, readVectors } from "./vectors.ts";

const refused = (code: string) => expect.objectContaining({ name: "TileError", code });

describe("vectors/tree/paths.json", () => {
  const { accept, reject } = readVectors<{
    accept: (Pick<Tile, "index" | "width"> & { level: number | "entries"; path: string })[];
    reject: { path: string; error: string }[];
  }>("tree/paths.json");
  test.each(accept)("accept: $path", ({ path, ...tile }) => {
    expect(parseTilePath(path)).toEqual(tile);
    expect(formatTilePath(tile as Tile | EntryBundle)).toBe(path);
  });
  test.each(reject)("reject: '$path'", ({ path, error }) => {
    expect(() => parseTilePath(path)).toThrow(refused(error));
  });
});

test("formatTilePath() and parseTilePath() round trip", () => {
  fc.assert(
    fc.property(fc.nat(63), fc.maxSafeNat(), fc.integer({ min: 1, max: 256 }), (level, index, width) => {
      expect(parseTilePath(formatTilePath({ level, index, width }))).toEqual({ level, index, width });
      expect(parseTilePath(formatTilePath({ level: "entries", index, width })).level).toBe("entries");
    }),
  );
});

test("tileCounts() of the example in C2SP tlog-tiles, and of a tree of one full tile", () => {
  expect(tileCounts(70_000)).toEqual([
    { full: 273, partial: 112 },
    { full: 1, partial: 17 },
    { full: 0, partial: 1 },
  ]);
  expect(tileCounts(256)).toEqual([
    { full: 1, partial: 0 },
    { full: 0, partial: 1 },
  ]);
  expect(tileCounts(0)).toEqual([]);
  expect(() => tileCounts(-1)).toThrow(expect.objectContaining({ code: "bad_size" }));
});

test("widthOf() agrees with tileCounts()", () => {
  fc.assert(
    fc.property(fc.nat(200_000), (size) => {
      tileCounts(size).forEach(({ full, partial }, level) => {
        if (full > 0) expect(widthOf(level, full - 1, size)).toBe(256);
        expect(widthOf(level, full, size)).toBe(partial);
        expect(widthOf(level, full + 1, size)).toBe(0);
      });
      expect(widthOf(tileCounts(size).length, 0, size)).toBe(0);
    }),
  );
});

// A log's tiles as a server keeps them: full ones written once, partial ones cut at the size asked for.
const count = 66_000;
const stored = new Map<string, Uint8Array>();
const leaves: Uint8Array[] = [];
const edge = new TreeEdge();
for (let i = 0; i < count; i++) {
  leaves.push(leafHash(counterLeaf(i)));
  edge.append(leaves[i]!);
}
for (const { level, index, data } of edge.takeTiles()) stored.set(`${level}/${index}`, data);
for (const level of [0, 1, 2]) {
  stored.set(`${level}/${Math.floor(count / 256 ** (level + 1))}`, edge.partialTile(level));
}

function storedReader(size: number) {
  const asked: Tile[] = [];
  const read = tileReader(size, (level, index, width) => {
    asked.push({ level, index, width });
    return stored.get(`${level}/${index}`)!.subarray(0, 32 * width);
  });
  return { read, asked };
}

const known = new Map<string, Uint8Array>();
const plain: HashReader = (height, index) => {
  if (height === 0) return leaves[index]!;
  const key = `${height}/${index}`;
  const hash = known.get(key) ?? nodeHash(plain(height - 1, 2 * index), plain(height - 1, 2 * index + 1));
  known.set(key, hash);
  return hash;
};

const inOrder = (tiles: Tile[]) => tiles.toSorted((a, b) => a.level - b.level || a.index - b.index);

test("proofs and roots from tiles are those of the tree, from the tiles foretold, each read once", () => {
  const law = (size: number, pick: number) => {
    const index = pick % size;
    const root = storedReader(size);
    expect(rootFrom(size, root.read)).toEqual(rootFrom(size, plain));
    expect(inOrder(root.asked)).toEqual(inOrder(tilesForRoot(size)));

    const one = storedReader(size);
    const proof = inclusionProof(index, size, one.read);
    expect(proof).toEqual(inclusionProof(index, size, plain));
    expect(inOrder(one.asked)).toEqual(inOrder(tilesForInclusion(index, size)));
    const newRoot = rootFrom(size, plain);
    verifyInclusion({ leafIndex: index, treeSize: size, leafHash: leaves[index]!, root: newRoot, proof });

    const two = storedReader(size);
    const growth = consistencyProof(index, size, two.read);
    expect(growth).toEqual(consistencyProof(index, size, plain));
    expect(inOrder(two.asked)).toEqual(inOrder(tilesForConsistency(index, size)));
    const oldRoot = rootFrom(index, plain);
    verifyConsistency({ oldSize: index, newSize: size, oldRoot, newRoot, proof: growth });
  };
  for (const size of [1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, count]) {
    for (const pick of [0, 1, 255, 256, size - 1, size >> 1]) law(size, pick);
  }
  fc.assert(fc.property(fc.integer({ min: 1, max: count }), fc.nat(), law));
});

test("tileReader() reads any complete subtree, and no other", () => {
  const size = 700;
  const { read } = storedReader(size);
  for (let height = 0; height <= 9; height++) {
    for (let index = 0; (index + 1) * 2 ** height <= size; index++) {
      expect(read(height, index)).toEqual(rootOf(leaves.slice(index * 2 ** height, (index + 1) * 2 ** height)));
    }
    expect(() => read(height, Math.floor(size / 2 ** height))).toThrow(refused("no_tile"));
  }
  for (const [height, index] of [
    [-1, 0],
    [0, -1],
    [0.5, 0],
    [0, 0.5],
    [Number.NaN, 0],
    [0, Number.NaN],
  ] as const) {
    expect(() => read(height, index)).toThrow(refused("no_tile"));
  }
});

test("tileReader() refuses a tile of another length than asked for", () => {
  for (const length of [0, 31, 33, 64]) {
    const read = tileReader(1, () => new Uint8Array(length));
    expect(() => read(0, 0)).toThrow(refused("tile_length"));
  }
});

test("a changed tile gives a proof that does not verify", () => {
  const size = 1000;
  const read = tileReader(size, (level, index, width) => {
    const data = stored.get(`${level}/${index}`)!.slice(0, 32 * width);
    if (level === 1) data[40]! ^= 1;
    return data;
  });
  const proof = inclusionProof(0, size, read);
  const claim = { leafIndex: 0, treeSize: size, leafHash: leaves[0]!, root: rootFrom(size, plain), proof };
  expect(() => verifyInclusion(claim)).toThrow(expect.objectContaining({ code: "root_mismatch" }));
});

describe("entry bundles", () => {
  test("round trip", () => {
    const entries = fc.array(fc.uint8Array({ maxLength: 600 }), { maxLength: 256 });
    fc.assert(
      fc.property(entries, (list) => {
        expect(parseEntryBundle(formatEntryBundle(list), list.length)).toEqual(list);
      }),
    );
    const longest = new Uint8Array(65_535).fill(1);
    expect(parseEntryBundle(formatEntryBundle([longest, longest]), 2)).toEqual([longest, longest]);
  });

  test("the format: each entry behind its length, big-endian", () => {
    const entries = [Uint8Array.of(7), new Uint8Array(0), new Uint8Array(258)];
    expect([...formatEntryBundle(entries)]).toEqual([0, 1, 7, 0, 0, 1, 2, ...Array(258).fill(0)]);
  });

  test("a bundle inside a larger buffer", () => {
    const bundle = formatEntryBundle([Uint8Array.of(1, 2, 3)]);
    const around = new Uint8Array(100);
    around.set(bundle, 41);
    expect(parseEntryBundle(around.subarray(41, 41 + bundle.length), 1)).toEqual([Uint8Array.of(1, 2, 3)]);
  });

  test("what is cut short, or has more or fewer entries, is refused", () => {
    const bundle = formatEntryBundle([Uint8Array.of(1, 2, 3), Uint8Array.of(4)]);
    for (let length = 0; length < bundle.length; length++) {
      expect(() => parseEntryBundle(bundle.subarray(0, length), 2)).toThrow(refused("bundle"));
    }
    expect(() => parseEntryBundle(bundle, 1)).toThrow(refused("bundle"));
    expect(() => parseEntryBundle(bundle, 3)).toThrow(refused("bundle"));
  });

  test("an entry of 65,536 bytes fits no bundle", () => {
    expect(() => formatEntryBundle([new Uint8Array(65_536)])).toThrow(refused("entry_length"));
  });
});
