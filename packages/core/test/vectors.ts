import { readFileSync } from "node:fs";

/** Reads a file of language-neutral cases, `tree/roots.json` for example. */
export function readVectors<T>(path: string): T {
  return JSON.parse(readFileSync(new URL(`../../../vectors/${path}`, import.meta.url), "utf8"));
}

/** Leaf hashes that differ from each other, made by rule, for trees in tests. */
export function counterLeaf(index: number): Uint8Array {
  const leaf = new Uint8Array(8);
  new DataView(leaf.buffer).setBigUint64(0, BigInt(index));
  return leaf;
}
