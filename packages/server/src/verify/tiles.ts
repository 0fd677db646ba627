/**
 * Stored tiles against the tree that was recomputed.
 */
import type { FullTile } from "@tallystick/core/edge";
import { toHex } from "@tallystick/core/hex";
import { HASH_BYTES, TILE_WIDTH } from "@tallystick/core/tree";
import type { LogIdentity } from "../log/identity.ts";
import type { ProblemList } from "./report.ts";

/** A stored full tile. */
export interface TileRow {
  readonly level: number;
  readonly index: number;
  readonly tenantId: string;
  /** Hex. */
  readonly root: string;
  readonly data: Buffer;
}

/** Compares a tile. Hashes of level 0 are not looked at here: they are compared entry by entry. */
export function checkTile(
  log: LogIdentity,
  expected: FullTile,
  stored: TileRow | undefined,
  problems: ProblemList,
): void {
  const { level, index } = expected;
  const name = `tile ${level}/${index}`;
  const problem = (field: string, was: string, should: string, detail: string) =>
    problems.add({ seq: null, id: null, kind: "tile", field, stored: was, expected: should, detail });
  if (stored === undefined) {
    problems.add({ seq: null, id: null, kind: "tile", detail: `${name} is missing` });
    return;
  }
  if (stored.tenantId !== log.tenantId) {
    problem("tenant_id", stored.tenantId, log.tenantId, `${name} is filed under another tenant than its log`);
  }
  const root = toHex(expected.root);
  if (root !== stored.root) problem("root", stored.root, root, `the root of ${name} is not that of the entries`);
  if (level === 0) return;
  const data = Buffer.from(expected.data.buffer, expected.data.byteOffset, expected.data.byteLength);
  if (data.equals(stored.data)) return;
  for (let i = 0; i < TILE_WIDTH; i++) {
    const was = hashIn(stored.data, i);
    const should = hashIn(data, i);
    if (was !== should) {
      problem("data", was, should, `${name} has another hash for tile ${level - 1}/${index * TILE_WIDTH + i}`);
    }
  }
}

/** Hex of one hash of a tile. */
export function hashIn(data: Buffer, position: number): string {
  return data.toString("hex", position * HASH_BYTES, (position + 1) * HASH_BYTES);
}
