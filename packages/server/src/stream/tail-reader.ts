/**
 * Reading a log in the order of its positions, up to its end: what follows it is built on.
 */
import type { Database } from "../db/database.ts";
import { ENTRY_ROW, type EntryRow, openedEntries } from "../log/entry-rows.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { Entry } from "../log/reader.ts";

/** How many entries are read at once, at most: of the largest there are, 16 MiB. */
export const RUN_ENTRIES = 256;

export class TailReader {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * The next entries from a position on, none left out between them; fewer than `limit` are all that are committed.
   * Positions are taken in the order of commits, behind the log's lock, so that whoever sees one sees all before it. Never from a
   * standby: what has been told of is there.
   *
   * @param notBefore when an entry before was recorded: partitions before that are not looked into.
   */
  async run(
    log: LogIdentity,
    from: number,
    { limit, notBefore }: { limit: number; notBefore: string | undefined },
  ): Promise<Entry[]> {
    return this.#database.readLatest(log.tenantId, async (client) => {
      const { rows } = await client.query<EntryRow>(
        `select ${ENTRY_ROW} from tallystick.entries e
         where e.log_id = $1 and e.seq >= $2 and e.recorded_at >= $3 order by e.seq limit $4`,
        [log.logId, from, notBefore ?? "-infinity", limit],
      );
      return openedEntries(client, log.logId, rows);
    });
  }

  /** Entries that are committed. */
  async size(log: LogIdentity): Promise<number> {
    return this.#database.readLatest(log.tenantId, async (client) => {
      const { rows } = await client.query<{ size: string }>(SIZE, [log.logId]);
      return Number(rows[0]!.size);
    });
  }

  /** The same where readers are sent, which may be a standby that is behind. */
  async sizeForReaders(log: LogIdentity): Promise<number> {
    return this.#database.read(log.tenantId, async (client) => {
      const { rows } = await client.query<{ size: string }>(SIZE, [log.logId]);
      return Number(rows[0]!.size);
    });
  }
}

const SIZE = "select size from tallystick.heads where log_id = $1 order by size desc limit 1";
