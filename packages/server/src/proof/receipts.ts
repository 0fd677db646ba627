/**
 * Receipts: proofs that entries are in the log that a checkpoint names (C2SP tlog-proof, docs/spec section 4).
 */
import type { Opening } from "@tallystick/core/commitment";
import { verifyInclusion } from "@tallystick/core/proof";
import { inclusionProof } from "@tallystick/core/prover";
import { formatReceipt } from "@tallystick/core/receipt";
import { tilesForInclusion } from "@tallystick/core/tiles";
import { leafHash } from "@tallystick/core/tree";
import type pg from "pg";
import type { Database } from "../db/database.ts";
import { AppendError } from "../log/errors.ts";
import type { LogIdentity } from "../log/identity.ts";
import { readOpenings } from "../log/openings.ts";
import type { TileReader } from "../log/tile-reader.ts";
import type { Checkpoints } from "../signing/checkpoints.ts";
import type { SignedCheckpoint } from "../signing/published.ts";

/** Entries that wait for receipts. */
interface Waiting {
  readonly seqs: readonly number[];
  readonly resolve: (receipts: string[]) => void;
  readonly reject: (error: unknown) => void;
}

/** Receipts that are made at once: a bulk request may have more. */
const MAX_BATCH = 5_000;

export class Receipts {
  readonly #database: Database;
  readonly #checkpoints: Checkpoints;
  readonly #tiles: TileReader;
  readonly #waiting = new Map<number, Waiting[]>();

  constructor(options: { database: Database; checkpoints: Checkpoints; tiles: TileReader }) {
    this.#database = options.database;
    this.#checkpoints = options.checkpoints;
    this.#tiles = options.tiles;
  }

  /**
   * Receipts of entries that have just been committed, in order. Whoever asks while others are being made shares the next
   * checkpoint with everyone who waits.
   *
   * @throws {AppendError} `unsignable`, `inconsistent`. @throws {import("../signing/signer.ts").SignerError}, or what the database throws.
   */
  issue(log: LogIdentity, seqs: readonly number[]): Promise<string[]> {
    if (seqs.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(log.logId);
      if (waiting !== undefined) {
        waiting.push({ seqs, resolve, reject });
        return;
      }
      this.#waiting.set(log.logId, [{ seqs, resolve, reject }]);
      void this.#run(log);
    });
  }

  /**
   * The receipt of an entry for a checkpoint that covers it.
   * @throws {AppendError} `inconsistent` when the stored hashes do not prove it.
   */
  async prove(log: LogIdentity, seq: number, checkpoint: SignedCheckpoint): Promise<string> {
    const [receipt] = await this.#database.readLatest(log.tenantId, (client) =>
      this.#receipts(client, log, [seq], checkpoint),
    );
    return receipt!;
  }

  async #run(log: LogIdentity): Promise<void> {
    const waiting = this.#waiting.get(log.logId)!;
    while (waiting.length > 0) {
      const batch = take(waiting);
      const seqs = batch.flatMap((one) => one.seqs);
      try {
        const checkpoint = await this.#checkpoints.sign(log, Math.max(...seqs) + 1);
        const receipts = await this.#database.readLatest(log.tenantId, (client) =>
          this.#receipts(client, log, seqs, checkpoint),
        );
        for (const { seqs: own, resolve } of batch) resolve(receipts.splice(0, own.length));
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#waiting.delete(log.logId); // in the same turn as the last look at it: nobody comes between
  }

  async #receipts(
    client: pg.ClientBase,
    log: LogIdentity,
    seqs: readonly number[],
    { size, root, note }: SignedCheckpoint,
  ): Promise<string[]> {
    const needed = seqs.flatMap((seq) => tilesForInclusion(seq, size));
    const [entries, hashes] = await Promise.all([
      readLeaves(client, log.logId, seqs),
      this.#tiles.hashes(client, log.logId, size, needed),
    ]);
    return seqs.map((seq) => {
      const entry = entries.get(seq);
      if (entry === undefined) throw inconsistent(log, seq, "it is not in the database");
      try {
        const proof = inclusionProof(seq, size, hashes);
        // What does not verify here would not verify there.
        const hash = leafHash(Buffer.from(entry.leaf));
        verifyInclusion({ leafIndex: seq, treeSize: size, leafHash: hash, root, proof });
        return formatReceipt({ leaf: entry.leaf, openings: entry.openings, proof, checkpoint: note });
      } catch (cause) {
        throw inconsistent(log, seq, (cause as Error).message, cause);
      }
    });
  }
}

/** Leaves and openings of these positions. */
export async function readLeaves(
  client: pg.ClientBase,
  logId: number,
  seqs: readonly number[],
): Promise<Map<number, { leaf: string; openings: readonly Opening[] }>> {
  const { rows } = await client.query<{ seq: string; leaf: string; recorded_at: string }>(
    `select seq, leaf, to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as recorded_at
     from tallystick.entries where log_id = $1 and seq = any ($2::bigint[])
       and recorded_at >= tallystick.time_at($1, $3) and recorded_at <= tallystick.time_at($1, $4)`,
    [logId, seqs, Math.min(...seqs), Math.max(...seqs)],
  );
  const entries = rows.map(({ seq, leaf, recorded_at }) => ({ seq: Number(seq), leaf, recordedAt: recorded_at }));
  const openings = await readOpenings(client, logId, entries);
  return new Map(entries.map(({ seq, leaf }) => [seq, { leaf, openings: openings.get(seq) ?? [] }]));
}

function take(waiting: Waiting[]): Waiting[] {
  const batch: Waiting[] = [];
  let count = 0;
  while (waiting.length > 0 && (batch.length === 0 || count + waiting[0]!.seqs.length <= MAX_BATCH)) {
    const next = waiting.shift()!;
    batch.push(next);
    count += next.seqs.length;
  }
  return batch;
}

function inconsistent(log: LogIdentity, seq: number, why: string, cause?: unknown): AppendError {
  return new AppendError(
    "inconsistent",
    `entry ${seq} of ${log.name} cannot be proved from what is stored (${why}): run "tallystick verify" and keep the database as it is`,
    { cause },
  );
}
