/**
 * Writers that keep account of what was acknowledged, and the comparison of that with what a log holds.
 */
import { fromHex, toHex } from "@tallystick/core/hex";
import { verifyInclusion } from "@tallystick/core/proof";
import { inclusionProof } from "@tallystick/core/prover";
import { tileReader } from "@tallystick/core/tiles";
import { HASH_BYTES, leafHash } from "@tallystick/core/tree";
import type pg from "pg";
import type { Head } from "./api.ts";

/** A sequence of numbers from 0 up to 1 that a seed decides (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What a log acknowledged: the head of each event, by the event's own tag (`metadata.tag`). */
export class Account {
  readonly heads = new Map<string, Head>();
  /** Events whose outcome the client never learnt, and that it did not send again. */
  readonly unknown = new Set<string>();

  /** @throws where the same event was acknowledged before as another entry. */
  acknowledge(tag: string, head: Head): void {
    const before = this.heads.get(tag);
    if (
      before !== undefined &&
      (before.id !== head.id || before.seq !== head.seq || before.leaf_hash !== head.leaf_hash)
    ) {
      throw new Error(`${tag} was acknowledged as ${before.seq} and as ${head.seq}`);
    }
    this.heads.set(tag, head);
  }
}

interface Row {
  readonly seq: string;
  readonly id: string;
  readonly leaf: string;
  readonly leaf_hash: Buffer;
}

/**
 * Compares a log with an account: positions without a gap, every acknowledged event there exactly once and where its answer
 * says, nothing there that nobody sent, each service's chain whole, and inclusion proofs of a sample out of the stored tiles.
 *
 * @param superuser sees every row. @returns how many entries the log has.
 * @throws with the first thing that is not so.
 */
export async function checkAccount(superuser: pg.Client, slug: string, account: Account): Promise<number> {
  await superuser.query("begin isolation level repeatable read read only");
  try {
    return await compare(superuser, slug, account);
  } finally {
    await superuser.query("rollback");
  }
}

async function compare(superuser: pg.Client, slug: string, account: Account): Promise<number> {
  const logs = await superuser.query<{ id: number }>("select id from tallystick.logs where slug = $1", [slug]);
  const logId = logs.rows[0]!.id;
  const { rows } = await superuser.query<Row>(
    "select seq, id, leaf, leaf_hash from tallystick.entries where log_id = $1 order by seq",
    [logId],
  );
  const found = new Map<string, Row>();
  const chains = new Map<string, { seq: number; hash: string }>();
  for (const [index, row] of rows.entries()) {
    const leaf = JSON.parse(row.leaf) as {
      seq: number;
      service: { id: string; seq: number; prev: string };
      event: { metadata: { tag: string } };
    };
    must(Number(row.seq) === index && leaf.seq === index, `position ${index} has ${row.seq}, its leaf ${leaf.seq}`);
    must(
      leafHash(row.leaf).every((byte, at) => byte === row.leaf_hash[at]),
      `the hash at ${index} is another`,
    );
    const { tag } = leaf.event.metadata;
    must(!found.has(tag), `${tag} is there twice: ${found.get(tag)?.seq} and ${index}`);
    must(account.heads.has(tag) || account.unknown.has(tag), `nobody was told of ${tag} at ${index}`);
    found.set(tag, row);
    const { service } = leaf;
    const last = chains.get(service.id);
    must(service.seq === (last?.seq ?? -1) + 1, `${service.id} goes from ${last?.seq} to ${service.seq}`);
    must(service.prev === (last?.hash ?? "0".repeat(64)), `the chain of ${service.id} is broken at ${service.seq}`);
    chains.set(service.id, { seq: service.seq, hash: toHex(row.leaf_hash) });
  }
  for (const [tag, head] of account.heads) {
    const row = found.get(tag);
    must(row !== undefined, `${tag} was acknowledged at ${head.seq} and is not there`);
    const same = Number(row!.seq) === head.seq && row!.id === head.id && toHex(row!.leaf_hash) === head.leaf_hash;
    must(same, `${tag} was acknowledged at ${head.seq} and is at ${row!.seq}`);
  }
  await checkProofs(superuser, logId, rows);
  return rows.length;
}

/** Proves some entries to be in the tree of the newest head, from the tiles that are stored and the leaf hashes behind them. */
async function checkProofs(superuser: pg.Client, logId: number, rows: readonly Row[]): Promise<void> {
  const heads = await superuser.query<{ size: string; root: Buffer }>(
    "select size, root from tallystick.heads where log_id = $1 order by size desc limit 1",
    [logId],
  );
  const { size, root } = heads.rows[0]!;
  const treeSize = Number(size);
  must(treeSize === rows.length, `the head says ${treeSize} entries, there are ${rows.length}`);
  if (treeSize === 0) return;
  const tiles = await superuser.query<{ level: number; index: string; data: Buffer; root: Buffer }>(
    "select level, index, data, root from tallystick.tiles where log_id = $1 order by level, index",
    [logId],
  );
  const full = new Map(tiles.rows.map(({ level, index, data }) => [`${level}/${index}`, data]));
  const roots = new Map(tiles.rows.map((tile) => [`${tile.level + 1}/${tile.index}`, tile.root]));
  const read = tileReader(treeSize, (level, index, width) => {
    const stored = full.get(`${level}/${index}`);
    if (stored !== undefined) return stored;
    must(width < 256, `the full tile ${level}/${index} is missing`);
    return Buffer.concat(
      Array.from({ length: width }, (_, at) =>
        level === 0 ? rows[index * 256 + at]!.leaf_hash : roots.get(`${level}/${index * 256 + at}`)!,
      ),
      width * HASH_BYTES,
    );
  });
  for (let step = 0; step < 50; step++) {
    const leafIndex = Math.floor(((treeSize - 1) * step) / 49);
    verifyInclusion({
      leafIndex,
      treeSize,
      leafHash: fromHex(toHex(rows[leafIndex]!.leaf_hash)),
      root,
      proof: inclusionProof(leafIndex, treeSize, read),
    });
  }
}

function must(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}
