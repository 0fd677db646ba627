/**
 * The right edge of each log's tree, kept in memory while this server is the one that extends it.
 */
import { TreeEdge } from "@tallystick/core/edge";
import { TreeError } from "@tallystick/core/tree";
import type pg from "pg";
import { AppendError } from "./errors.ts";

/** A log's newest committed size and root. */
export interface Head {
  readonly size: number;
  readonly root: Buffer;
}

/** Edges that are kept: some 20 kB each. The log that has waited longest for an append is read anew when one comes. */
const MAX_EDGES = 1_000;

export class Edges {
  readonly #edges = new Map<number, TreeEdge>();

  /**
   * The edge of the tree with this head, for the caller to extend: a copy, so that an append that fails leaves no trace. It is
   * read from the database where another server extended the log since.
   *
   * @throws {AppendError} `inconsistent` when the hashes in the database do not make up the head's root: the log was changed
   *   behind the server's back, and a commit on top would hide where.
   */
  async at(client: pg.ClientBase, logId: number, head: Head): Promise<TreeEdge> {
    const known = this.#edges.get(logId);
    if (known?.size === head.size && head.root.equals(known.root())) return known.clone();
    const { rows } = await client.query<{ level: number; index: string; hash: Buffer }>(
      "select level, index, hash from tallystick.tree_edge($1, $2) order by level, index",
      [logId, head.size],
    );
    const levels: Buffer[][] = [];
    for (const { level, hash } of rows) {
      while (levels.length <= level) levels.push([]);
      levels[level]!.push(hash);
    }
    const edge = restore(
      head.size,
      levels.map((hashes) => Buffer.concat(hashes)),
    );
    if (edge === undefined || !head.root.equals(edge.root())) {
      throw new AppendError(
        "inconsistent",
        `the stored hashes of log ${logId} do not give the root of its head at size ${head.size}: run "tallystick verify" and keep the database as it is`,
      );
    }
    this.keep(logId, edge);
    return edge.clone();
  }

  /** Remembers an edge whose head has been committed. */
  keep(logId: number, edge: TreeEdge): void {
    this.#edges.delete(logId); // to the end of the map's order: its first one is the oldest
    this.#edges.set(logId, edge);
    if (this.#edges.size > MAX_EDGES) this.#edges.delete(this.#edges.keys().next().value!);
  }
}

function restore(size: number, partials: Uint8Array[]): TreeEdge | undefined {
  try {
    return TreeEdge.restore(size, partials);
  } catch (error) {
    if (error instanceof TreeError) return undefined; // hashes are missing, or there are too many
    throw error;
  }
}
