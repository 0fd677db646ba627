/**
 * Batches in which nothing is wrong, which are nearly all: what is left to check of them is how they fit to each other.
 */
import { HASH_BYTES, TILE_WIDTH } from "@tallystick/core/tree";
import type { LogIdentity } from "../log/identity.ts";
import { ChainCheck, type ChainSegment } from "./chains.ts";
import type { CheckedEntry } from "./entry.ts";
import { checkOpenings } from "./openings.ts";
import type { SignatureCount } from "./publishers.ts";
import type { Batch } from "./read.ts";
import { ProblemList } from "./report.ts";
import type { MinuteCounts } from "./roll-ups.ts";
import type { Span } from "./sql.ts";
import type { TileRow } from "./tiles.ts";
import type { HeadRow } from "./tree.ts";

/** A batch whose every row is what its leaf says, with no position missing, and whose hashes are those of its tiles. */
export interface CleanBatch {
  readonly span: Span;
  /** Leaf hashes of the whole span. */
  readonly hashes: Uint8Array;
  readonly erased: number;
  readonly signatures: SignatureCount;
  /** Entries that tell of publisher keys. */
  readonly keyChanges: number;
  /** Heads within the span, each with the id of the entry before it; their roots are not checked. */
  readonly heads: readonly { readonly head: HeadRow; readonly id: string }[];
  /** The first head at or beyond the end of the first commit. */
  readonly firstTime: string;
  readonly lastTime: string;
  readonly lastId: string;
  /** Without their data, which is checked. */
  readonly tiles: ReadonlyMap<number, TileRow>;
  readonly segments: readonly ChainSegment[];
  readonly minutes: readonly MinuteCounts[];
}

/** A batch as a clean one; undefined where anything about it is in doubt. `size` is that of the log. */
export function cleanBatch(log: LogIdentity, batch: Batch, size: number): CleanBatch | undefined {
  const { span, entries, heads } = batch;
  const { from, to } = span;
  if (batch.problems.count > 0 || entries.length !== to - from || (heads.at(-1)?.size ?? 0) < to) return undefined;
  const hashes = Buffer.from(new ArrayBuffer(entries.length * HASH_BYTES));
  const chains = new Map<string, Chain>();
  const within: CleanBatch["heads"][number][] = [];
  const ended: CheckedEntry[] = [];
  let open = new Map<string, CheckedEntry>();
  let nextHead = 0;
  let lastTime = "";
  for (const [i, entry] of entries.entries()) {
    const head = heads[nextHead]!;
    const { seq, service, recordedAt, computed } = entry;
    if (seq !== from + i || computed !== entry.stored || service === undefined) return undefined;
    if (recordedAt !== head.recordedAt || recordedAt < lastTime || head.tenantId !== log.tenantId) return undefined;
    const chain = chains.get(service.id);
    if (chain === undefined) {
      chains.set(service.id, { first: service, last: entry, inFirstCommit: within.length === 0 });
    } else {
      if (service.seq !== chain.last.service!.seq + 1 || service.prev !== chain.last.computed) return undefined;
      chain.last = entry;
    }
    hashes.write(computed, i * HASH_BYTES, "hex");
    open.set(service.id, entry);
    lastTime = recordedAt;
    if (head.size !== seq + 1) continue;
    nextHead++;
    within.push({ head, id: entry.id });
    ended.push(...open.values());
    open = new Map();
  }
  if (!sameAsTiles(batch, hashes, size)) return undefined;
  const problems = new ProblemList();
  const erased = checkOpenings(log, entries, batch.openings, problems);
  const check = new ChainCheck(log, problems);
  check.checkHeads(entries, batch.serviceHeads, ended, to);
  if (problems.count > 0) return undefined;
  const segments = [...chains].map(([serviceId, { first, last, inFirstCommit }]) => ({
    serviceId,
    firstSeq: first.seq,
    firstPrev: first.prev,
    last: { ...last, commitments: undefined, signed: undefined },
    sealed: (Math.floor(last.seq / TILE_WIDTH) + 1) * TILE_WIDTH <= size,
    headed: check.isHeaded(last),
    inFirstCommit,
    open: open.has(serviceId),
  }));
  return {
    span,
    hashes,
    erased,
    signatures: batch.signatures,
    keyChanges: entries.filter(({ keyChange }) => keyChange).length,
    heads: within,
    firstTime: entries[0]!.recordedAt,
    lastTime,
    lastId: entries.at(-1)!.id,
    tiles: new Map([...batch.tiles].map(([index, tile]) => [index, { ...tile, data: Buffer.alloc(0) }])),
    segments,
    minutes: batch.minutes,
  };
}

interface Chain {
  readonly first: NonNullable<CheckedEntry["service"]>;
  last: CheckedEntry;
  readonly inFirstCommit: boolean;
}

/** Whether every position that lies in a full tile has the tile's hash. */
function sameAsTiles({ span: { from, to }, tiles }: Batch, hashes: Buffer, size: number): boolean {
  for (let start = from; start < to; ) {
    const index = Math.floor(start / TILE_WIDTH);
    const end = Math.min(to, (index + 1) * TILE_WIDTH);
    if ((index + 1) * TILE_WIDTH <= size) {
      const at = (start % TILE_WIDTH) * HASH_BYTES;
      const ours = hashes.subarray((start - from) * HASH_BYTES, (end - from) * HASH_BYTES);
      const tile = tiles.get(index);
      if (tile === undefined || !ours.equals(tile.data.subarray(at, at + ours.length))) return false;
    }
    start = end;
  }
  return true;
}
