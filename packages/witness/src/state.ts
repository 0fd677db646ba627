/**
 * What the witness remembers, in one SQLite file: of each log the newest checkpoint it cosigned, and checkpoints that
 * contradict one another. Any number of processes may share the file.
 */
import { DatabaseSync } from "node:sqlite";
import type { TreeHead } from "@tallystick/core/tree";
import { WitnessError } from "./witness-error.ts";

/** How long a process waits for another's transaction, which takes milliseconds. */
const BUSY_TIMEOUT_MS = 5_000;
const SQLITE_BUSY = 5;

/**
 * Of one log and kind no more are kept. Whoever holds checkpoints of a log can send them with wrong proofs at will: of these the
 * oldest go, so that no stranger keeps out what comes after them. Of two roots at one size, which only the log's key can make, the
 * first stay: they show what there is to see.
 */
export const MAX_CONFLICTS = 100;

const SCHEMA = `
  create table if not exists witness (
    only_row integer primary key check (only_row = 1),
    vkey text not null
  ) strict;
  create table if not exists logs (
    origin text primary key,
    size integer not null,
    root blob not null,
    time integer not null,
    note text not null
  ) strict;
  create table if not exists conflicts (
    number integer primary key,
    origin text not null,
    kind text not null,
    size integer not null,
    root blob not null,
    note text not null,
    kept_note text not null,
    seen_at integer not null,
    unique (origin, kind, size, root)
  ) strict;
`;

/** The newest checkpoint of a log that was cosigned. */
export interface Cosigned extends TreeHead {
  /** When it was, in POSIX seconds. */
  readonly time: number;
  /** With the log's signatures. */
  readonly note: string;
}

/**
 * Two checkpoints by one log's key that contradict each other.
 * - `same_size`: two roots at one size. Both notes together prove that the log showed two histories.
 * - `no_proof`: the larger came with a proof that does not lead from one to the other. The log can clear itself by a
 *   proof that does; then the conflict is dropped.
 */
export interface Conflict {
  readonly origin: string;
  readonly kind: "same_size" | "no_proof";
  readonly size: number;
  readonly root: Uint8Array;
  /** The checkpoint that was refused, with the log's signatures. */
  readonly note: string;
  /** The one that had been cosigned. */
  readonly keptNote: string;
  /** In POSIX seconds. */
  readonly seenAt: number;
}

type Row = Record<string, unknown>;

/** Whether another process had the file locked for longer than a transaction ever takes. */
export function isBusy(error: unknown): boolean {
  return (error as { errcode?: unknown }).errcode === SQLITE_BUSY;
}

export class WitnessState {
  readonly #path: string;
  readonly #db: DatabaseSync;

  /**
   * Opens the file, making it where it is missing.
   * @throws {WitnessError} `state`.
   */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#db = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
      // EXTRA also flushes the directory once the journal is gone: a power cut after COMMIT cannot bring back what was before.
      this.#db.exec("pragma journal_mode = truncate; pragma synchronous = extra");
      this.transaction(() => this.#db.exec(SCHEMA));
    } catch (cause) {
      const { message } = cause as Error;
      throw new WitnessError(
        "state",
        `the witness's state ${path} cannot be opened (${message}): give this user the right to write there, or name another --state. Never bring it back from a backup: a witness that forgot what it signed vouches for nothing`,
        { cause },
      );
    }
  }

  close(): void {
    this.#db.close();
  }

  /** The verifier key this state belongs to; undefined in a new one. */
  get owner(): string | undefined {
    return this.#db.prepare("select vkey from witness").get()?.vkey as string | undefined;
  }

  /**
   * Makes the state this witness's. @throws {WitnessError} `name` when it is another's: a state tells what one key and
   * name has signed, and nothing about any other.
   */
  claim(vkey: string): void {
    const owner = this.transaction(() => {
      this.#db.prepare("insert into witness (only_row, vkey) values (1, ?) on conflict do nothing").run(vkey);
      return this.owner;
    });
    if (owner !== vkey) {
      const name = owner?.slice(0, owner.indexOf("+"));
      throw new WitnessError(
        "name",
        `the state ${this.#path} is that of ${owner}: use --name ${name} and its key, or name another --state`,
      );
    }
  }

  /**
   * Runs statements in one transaction that no other process can interleave with. When it returns, what it wrote is on disk;
   * when it throws, nothing was written, unless COMMIT itself failed: then all of it was or none.
   */
  transaction<T>(run: () => T): T {
    this.#db.exec("begin immediate");
    try {
      const result = run();
      this.#db.exec("commit");
      return result;
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec("rollback");
      throw error;
    }
  }

  /** The newest checkpoint of a log that was cosigned; undefined where none was. */
  cosigned(origin: string): Cosigned | undefined {
    const row = this.#db.prepare("select size, root, time, note from logs where origin = ?").get(origin);
    return row as Cosigned | undefined;
  }

  /** Within a {@link transaction} that has read what was there. */
  setCosigned(origin: string, { size, root, time, note }: Cosigned): void {
    this.#db
      .prepare(
        `insert into logs (origin, size, root, time, note) values (?, ?, ?, ?, ?)
         on conflict (origin) do update set size = excluded.size, root = excluded.root, time = excluded.time, note = excluded.note`,
      )
      // Numbers are bound as floating point, which SQLite takes for integers only below 2^51.
      .run(origin, BigInt(size), root, BigInt(time), note);
    // The proof that was missing has come.
    this.#db
      .prepare("delete from conflicts where origin = ? and kind = 'no_proof' and size = ? and root = ?")
      .run(origin, BigInt(size), root);
  }

  /**
   * Within a {@link transaction}. Returns whether it is kept now and was not before; one of kind `no_proof` always is, in the place
   * of the oldest where there is no room.
   */
  keepConflict({ origin, kind, size, root, note, keptNote, seenAt }: Conflict): boolean {
    if (kind === "no_proof") {
      this.#db
        .prepare(
          `delete from conflicts where number in (
             select number from conflicts where origin = ? and kind = ? order by number desc limit -1 offset ?
           ) and not exists (select 1 from conflicts where origin = ? and kind = ? and size = ? and root = ?)`,
        )
        .run(origin, kind, MAX_CONFLICTS - 1, origin, kind, BigInt(size), root);
    }
    const { changes } = this.#db
      .prepare(
        `insert into conflicts (origin, kind, size, root, note, kept_note, seen_at)
         select ?, ?, ?, ?, ?, ?, ? where (select count(*) from conflicts where origin = ? and kind = ?) < ?
         on conflict do nothing`,
      )
      .run(origin, kind, BigInt(size), root, note, keptNote, BigInt(seenAt), origin, kind, MAX_CONFLICTS);
    return changes !== 0;
  }

  /** All that are kept, oldest first. */
  conflicts(): Conflict[] {
    const rows = this.#db.prepare("select * from conflicts order by number").all() as Row[];
    return rows.map(
      ({ kept_note, seen_at, number, ...row }) => ({ ...row, keptNote: kept_note, seenAt: seen_at }) as Conflict,
    );
  }
}
