/**
 * What a log shows of its tree: tiles, bundles of entries, consistency proofs (C2SP tlog-tiles, RFC 6962).
 */
import { verifyConsistency } from "@tallystick/core/proof";
import { consistencyProof, rootFrom } from "@tallystick/core/prover";
import {
  type EntryBundle,
  formatEntryBundle,
  type Tile,
  tilesForConsistency,
  tilesForRoot,
  widthOf,
} from "@tallystick/core/tiles";
import { HASH_BYTES, TILE_WIDTH } from "@tallystick/core/tree";
import type { Database } from "../db/database.ts";
import { readLeaves } from "../proof/receipts.ts";
import { AppendError } from "./errors.ts";
import type { LogIdentity } from "./identity.ts";
import { keyOf, type TileReader } from "./tile-reader.ts";

/** A consistency proof with the roots it is between. */
export interface Consistency {
  readonly oldRoot: Uint8Array;
  readonly newRoot: Uint8Array;
  /** 32-byte hashes. */
  readonly proof: readonly Uint8Array[];
}

export class LogReader {
  readonly #database: Database;
  readonly #tiles: TileReader;

  constructor(database: Database, tiles: TileReader) {
    this.#database = database;
    this.#tiles = tiles;
  }

  /** The data of a tile or bundle; undefined where the log is too small to have it, at that width. */
  async tile(log: LogIdentity, tile: Tile | EntryBundle): Promise<Uint8Array | undefined> {
    return this.#database.readLatest(log.tenantId, async (client) => {
      const { rows } = await client.query<{ size: string }>(
        "select size from tallystick.heads where log_id = $1 order by size desc limit 1",
        [log.logId],
      );
      const { level, index, width } = tile;
      if (widthOf(level === "entries" ? 0 : level, index, Number(rows[0]!.size)) < width) return undefined;
      if (level === "entries") {
        const seqs = Array.from({ length: width }, (_, i) => index * TILE_WIDTH + i);
        const leaves = await readLeaves(client, log.logId, seqs);
        return formatEntryBundle(
          seqs.map((seq) => Buffer.from((leaves.get(seq) ?? missing(log, `entry ${seq}`)).leaf)),
        );
      }
      const found = await this.#tiles.read(client, log.logId, [{ level, index, width }]);
      return (
        found.get(keyOf({ level, index }))?.subarray(0, width * HASH_BYTES) ?? missing(log, `tile ${level}/${index}`)
      );
    });
  }

  /**
   * The proof that the tree of `newSize` begins with that of `oldSize`, verified before it is given.
   * @param newSize no larger than the log. @throws {AppendError} `inconsistent`.
   */
  async consistency(log: LogIdentity, oldSize: number, newSize: number): Promise<Consistency> {
    return this.#database.readLatest(log.tenantId, async (client) => {
      const needed = [...tilesForConsistency(oldSize, newSize), ...tilesForRoot(newSize)];
      const [old, hashes] = await Promise.all([
        this.#tiles.hashes(client, log.logId, oldSize, tilesForRoot(oldSize)),
        this.#tiles.hashes(client, log.logId, newSize, needed),
      ]);
      try {
        const oldRoot = rootFrom(oldSize, old);
        const newRoot = rootFrom(newSize, hashes);
        const proof = consistencyProof(oldSize, newSize, hashes);
        verifyConsistency({ oldSize, newSize, oldRoot, newRoot, proof });
        return { oldRoot, newRoot, proof };
      } catch (cause) {
        throw missing(log, `a proof from ${oldSize} to ${newSize}`, cause);
      }
    });
  }
}

function missing(log: LogIdentity, what: string, cause?: unknown): never {
  throw new AppendError(
    "inconsistent",
    `${log.name} does not give ${what}: run "tallystick verify" and keep the database as it is`,
    { cause },
  );
}
