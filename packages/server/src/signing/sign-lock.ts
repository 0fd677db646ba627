/**
 * The sign-lock: what was signed last of each log, kept where a restored or rewritten database cannot take it back. A signature
 * leaves the process only after what it says is here, durably.
 */
import { existsSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";

/** A size and root that was signed. */
export interface SignedHead {
  readonly size: number;
  readonly root: Uint8Array;
}

export interface SignedLog extends SignedHead {
  /** The log's name. */
  readonly log: string;
  readonly note: string;
}

/** What became of {@link SignLock.advance}. */
export type Advance =
  | { readonly done: true }
  /** Somebody else signed meanwhile, or it was never asked: this is what was signed last. */
  | { readonly done: false; readonly last: SignedHead | undefined };

// How long to wait for another process that signs.
const BUSY_TIMEOUT_MS = 2_000;
const VERSION = 1;

/**
 * A SQLite file. SQLite's locks serialise processes that share it, and its journal makes each change all or nothing; with
 * synchronous EXTRA a change is on disk, directory included, when COMMIT returns. The rollback journal rather than WAL: that one
 * needs shared memory, which no file system shared by machines has.
 */
export class SignLock {
  readonly #file: DatabaseSync;
  readonly #select: StatementSync;
  readonly #upsert: StatementSync;

  /** Opens the file, and makes it where it is missing. Throws what SQLite throws. */
  constructor(path: string) {
    this.#file = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
    this.#file.exec("pragma journal_mode = truncate; pragma synchronous = extra;");
    const { user_version: version } = this.#file.prepare("pragma user_version").get() as { user_version: number };
    if (version > VERSION) throw new Error(`it was made by a newer release (version ${version})`);
    this.#file.exec(
      `create table if not exists signed (log text primary key, size integer not null, root blob not null, note text not null) strict, without rowid;
       pragma user_version = ${VERSION};`,
    );
    this.#select = this.#file.prepare("select log, size, root, note from signed where log = ?");
    this.#upsert = this.#file.prepare(
      "insert into signed (log, size, root, note) values (?, ?, ?, ?) on conflict (log) do update set size = excluded.size, root = excluded.root, note = excluded.note",
    );
  }

  static exists(path: string): boolean {
    return existsSync(path);
  }

  /** Everything that was signed last. */
  all(): SignedLog[] {
    const rows = this.#file.prepare("select log, size, root, note from signed order by log").all();
    return rows.map((row) => row as unknown as SignedLog);
  }

  last(log: string): SignedLog | undefined {
    return this.#select.get(log) as unknown as SignedLog | undefined;
  }

  /**
   * Remembers a head as signed, if `seen` is what was signed last: the caller has shown that the head extends it. Durable when it
   * returns. A head that is the last one already is done without writing.
   *
   * @throws what SQLite throws: nothing may then be signed.
   */
  advance(next: SignedLog, seen: SignedHead | undefined): Advance {
    this.#file.exec("begin immediate");
    try {
      const last = this.last(next.log);
      if (last !== undefined && sameHead(last, next)) {
        this.#file.exec("commit");
        return { done: true };
      }
      if (!sameHead(last, seen) || (last !== undefined && next.size <= last.size)) {
        this.#file.exec("rollback");
        return { done: false, last };
      }
      this.#upsert.run(next.log, next.size, next.root, next.note);
      this.#file.exec("commit");
      return { done: true };
    } catch (error) {
      if (this.#file.isTransaction) this.#file.exec("rollback");
      throw error;
    }
  }

  /** Remembers what was signed before, as {@link advance} does, for a log that the lock knows nothing or less of. */
  adopt(signed: SignedLog): Advance {
    return this.advance(signed, this.last(signed.log));
  }

  close(): void {
    this.#file.close();
  }
}

export function sameHead(a: SignedHead | undefined, b: SignedHead | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.size === b.size && Buffer.compare(a.root, b.root) === 0;
}
