/**
 * Tiles of a log as it was at any of its sizes: full ones as they are stored, partial ones from what is below them.
 */

import type { HashReader } from "@tallystick/core/prover";
import { type Tile, tileReader } from "@tallystick/core/tiles";
import { HASH_BYTES, TILE_WIDTH } from "@tallystick/core/tree";
import type pg from "pg";

/** Full tiles that are kept in memory, 8 kB each. They never change; a proof from a wrong one does not verify. */
const MAX_KEPT = 2_048;

/** Reads the tiles of a database's logs. */
export class TileReader {
  readonly #kept = new Map<string, Buffer>();

  /**
   * The data of tiles by {@link keyOf}; one that the database has not got is left out.
   *
   * @param client in a transaction that sees the log's tenant.
   */
  async read(client: pg.ClientBase, logId: number, tiles: readonly Tile[]): Promise<Map<string, Uint8Array>> {
    const found = new Map<string, Uint8Array>();
    const wanted = new Map<string, Tile>();
    for (const tile of tiles) {
      const data = this.#kept.get(`${logId}/${keyOf(tile)}`);
      if (data !== undefined) found.set(keyOf(tile), data.subarray(0, tile.width * HASH_BYTES));
      else wanted.set(keyOf(tile), tile);
    }
    if (wanted.size === 0) return found;
    const [full, ...partials] = await Promise.all([
      readFull(client, logId, [...wanted.values()]),
      ...[...wanted.values()].filter(({ width }) => width < TILE_WIDTH).map((tile) => readPartial(client, logId, tile)),
    ]);
    for (const { tile, data } of partials) if (data !== undefined) found.set(keyOf(tile), data);
    for (const [key, { width }] of wanted) {
      const data = full.get(key);
      if (data === undefined) continue;
      this.#keep(`${logId}/${key}`, data);
      // A partial tile is the beginning of the full one that it has become since.
      found.set(key, data.subarray(0, width * HASH_BYTES));
    }
    return found;
  }

  /**
   * Hashes of the tree of `treeSize`, out of the tiles that {@link import("@tallystick/core/tiles").tilesForInclusion} and its like
   * have named. The reader throws {@link MissingTileError} for one that the database has not got.
   */
  async hashes(client: pg.ClientBase, logId: number, treeSize: number, tiles: readonly Tile[]): Promise<HashReader> {
    const found = await this.read(client, logId, tiles);
    return tileReader(treeSize, (level, index) => {
      const data = found.get(keyOf({ level, index }));
      if (data === undefined) throw new MissingTileError(logId, level, index);
      return data;
    });
  }

  #keep(key: string, data: Buffer): void {
    this.#kept.set(key, data);
    if (this.#kept.size > MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value!);
  }
}

/** The database lacks hashes that the log's size asks for. */
export class MissingTileError extends Error {
  constructor(logId: number, level: number, index: number) {
    super(
      `log ${logId} has no tile ${level}/${index}, or not all of it: run "tallystick verify" and keep the database as it is`,
    );
    this.name = "MissingTileError";
  }
}

/** Names a tile, whatever its width. */
export function keyOf({ level, index }: Omit<Tile, "width">): string {
  return `${level}/${index}`;
}

async function readFull(client: pg.ClientBase, logId: number, tiles: readonly Tile[]): Promise<Map<string, Buffer>> {
  const { rows } = await client.query<{ level: number; index: string; data: Buffer }>(
    `select t.level, t.index, t.data from unnest($2::smallint[], $3::bigint[]) as wanted (level, index)
     join tallystick.tiles t on t.log_id = $1 and t.level = wanted.level and t.index = wanted.index`,
    [logId, tiles.map(({ level }) => level), tiles.map(({ index }) => index)],
  );
  const full = new Map<string, Buffer>();
  for (const { level, index, data } of rows) {
    full.set(keyOf({ level, index: Number(index) }), data);
  }
  return full;
}

async function readPartial(
  client: pg.ClientBase,
  logId: number,
  tile: Tile,
): Promise<{ tile: Tile; data: Buffer | undefined }> {
  const { level, index, width } = tile;
  const from = index * TILE_WIDTH;
  const to = from + width;
  const { rows } =
    level === 0
      ? await client.query<{ hash: Buffer }>(
          // Between the times of its first and its last commit: no other partition is read.
          `select leaf_hash as hash from tallystick.entries
           where log_id = $1 and seq >= $2 and seq < $3
             and recorded_at >= tallystick.time_at($1, $2) and recorded_at <= tallystick.time_at($1, $3 - 1) order by seq`,
          [logId, from, to],
        )
      : await client.query<{ hash: Buffer }>(
          "select root as hash from tallystick.tiles where log_id = $1 and level = $2 and index >= $3 and index < $4 order by index",
          [logId, level - 1, from, to],
        );
  return { tile, data: rows.length === width ? Buffer.concat(rows.map(({ hash }) => hash)) : undefined };
}
