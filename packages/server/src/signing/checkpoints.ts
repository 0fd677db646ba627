/**
 * Checkpoints: signs committed heads, publishes them while logs grow, and refuses to sign a head that is not a continuation of what
 * was signed before (docs/spec, section 8).
 */
import { verifyConsistency } from "@tallystick/core/proof";
import { consistencyProof, rootFrom } from "@tallystick/core/prover";
import { tilesForConsistency, tilesForRoot } from "@tallystick/core/tiles";
import { emptyRoot } from "@tallystick/core/tree";
import type { Database } from "../db/database.ts";
import { AppendError } from "../log/errors.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { TileReader } from "../log/tile-reader.ts";
import { isSignedBy, keepCheckpoint, readCheckpoints, type SignedCheckpoint } from "./published.ts";
import { type Refusal, Refusals } from "./refusals.ts";
import { type SignedHead, sameHead } from "./sign-lock.ts";
import { type Signer, SignerError } from "./signer.ts";

export interface CheckpointsOptions {
  readonly database: Database;
  readonly signer: Signer;
  /** The log key's. */
  readonly publicKey: Uint8Array;
  readonly tiles: TileReader;
  readonly logger: {
    error(facts: object, message: string): void;
    warn(facts: object, message: string): void;
    info(message: string): void;
  };
  /** Told of each checkpoint that was published. */
  readonly onPublished?: (log: LogIdentity, checkpoint: SignedCheckpoint) => void;
}

// Somebody else may sign between a look at the lock and our turn; each time we are behind, so are they ahead.
const SIGN_ATTEMPTS = 20;
// Rows that are not ours, before one that is: beyond that a log has no checkpoint to show, and verify says why.
const FORGED_AT_MOST = 20;

export class Checkpoints {
  readonly #options: CheckpointsOptions;
  /** What we know to have been signed last. */
  readonly #signed = new Map<number, SignedHead>();
  /** What this server has committed last. */
  readonly #committed = new Map<number, SignedHead>();
  /** The sign-lock could not be used when it was last tried. */
  #lockAway = false;
  readonly #refusals: Refusals;
  readonly #signing = new Map<number, Promise<SignedCheckpoint>>();

  constructor(options: CheckpointsOptions) {
    this.#options = options;
    this.#refusals = new Refusals(({ log, detail }) => options.logger.error({ log }, detail));
  }

  /** The logs that are refused, for whoever asks how things are. */
  get refusals(): readonly Refusal[] {
    return this.#refusals.list();
  }

  refusalOf(logId: number): Refusal | undefined {
    return this.#refusals.of(logId);
  }

  /** What the sign-lock says at the start: remembered, and compared with what the database has at the same size. */
  compare(log: LogIdentity, signed: SignedHead, found: SignedHead | undefined): void {
    this.#signed.set(log.logId, signed);
    if (!sameHead(signed, found)) this.#refusals.refuse(log, signed, found);
  }

  /** The log key has signed another root at a size that was signed: somebody else has the key, and nothing here can mend that. */
  refuseForked(log: LogIdentity, signed: SignedHead, other: SignedHead): AppendError {
    const because = "a checkpoint of another root was published at that size, signed by the same key";
    return this.#refusals.refuse(log, signed, other, because, true);
  }

  /** The log was closed, and the database has forgotten its successor. */
  refuseClosed(log: LogIdentity, successor: string): void {
    const signed = this.#signed.get(log.logId) ?? { size: 0, root: emptyRoot() };
    const because = `its successor ${successor} was signed, which the database does not have`;
    this.#refusals.refuse(log, signed, undefined, because, true);
  }

  /** Told of each head that this server has committed: the next commit finds the log as this one has left it. */
  committed(logId: number, edge: { readonly size: number; root(): Uint8Array }): void {
    this.#committed.set(logId, { size: edge.size, root: edge.root() });
  }

  /**
   * Asked by every commit about the head it would build on ({@link import("../log/append.ts").AppendLimits}). Answers at once where
   * this server has committed that head itself; else the sign-lock is asked, which others may have written since.
   *
   * @throws {AppendError} `unsignable`.
   */
  checkHead(log: Omit<LogIdentity, "tenantId">, head: SignedHead): Promise<void> | undefined {
    this.#requireNoLess(log, head, this.#signed.get(log.logId));
    // A lock that cannot be read costs signatures and no entry: each try takes seconds, with the log's own lock held. The next
    // signature compares.
    if (this.#lockAway || sameHead(this.#committed.get(log.logId), head)) return undefined;
    return this.#options.signer.last(log.name).then(
      (signed) => this.#requireNoLess(log, head, signed),
      (error) => {
        if (!(error instanceof SignerError)) throw error;
        this.#lockAway = true;
      },
    );
  }

  #requireNoLess(log: Omit<LogIdentity, "tenantId">, head: SignedHead, signed: SignedHead | undefined): void {
    if (signed !== undefined && (head.size < signed.size || (head.size === signed.size && !sameHead(head, signed)))) {
      this.#refusals.refuse(log, signed, head);
    }
    this.#refusals.check(log.logId);
  }

  /**
   * Signs the newest committed head, of at least this size. Whoever asks while a signature is being made may share it.
   *
   * @throws {AppendError} `unsignable` where the log is not what was signed before, or its hashes do not make up its head.
   * @throws {import("./signer.ts").SignerError} where the sign-lock cannot be written.
   */
  async sign(log: LogIdentity, atLeast = 0): Promise<SignedCheckpoint> {
    for (;;) {
      const underWay = this.#signing.get(log.logId);
      if (underWay === undefined) break;
      const signed = await underWay.catch(() => undefined);
      if (signed !== undefined && signed.size >= atLeast) return signed;
    }
    const signing = this.#signNewest(log);
    this.#signing.set(log.logId, signing);
    try {
      const signed = await signing;
      this.#lockAway = false;
      return signed;
    } catch (error) {
      if (error instanceof SignerError) this.#lockAway = true;
      throw error;
    } finally {
      this.#signing.delete(log.logId);
    }
  }

  /** As {@link sign}, and publishes it: keeps it in the database. Nothing is done for a head that was published before. */
  async publish(log: LogIdentity, atLeast = 0): Promise<SignedCheckpoint> {
    const checkpoint = await this.sign(log, atLeast);
    await keepCheckpoint(this.#options.database, log, checkpoint);
    await this.#requirePublished(log, checkpoint);
    this.#options.onPublished?.(log, checkpoint);
    return checkpoint;
  }

  /**
   * The newest published checkpoint, or the one of this size, with at least so many cosignatures; undefined where there is none. Its
   * note has all the cosignatures that were kept, in the order in which they came.
   */
  async published(log: LogIdentity, size?: number, cosigned = 0): Promise<SignedCheckpoint | undefined> {
    // Whoever may insert rows may insert others: what this key has not signed is not given as if it had.
    const isOurs = (one: SignedCheckpoint) => isSignedBy(this.#options.publicKey, log.name, one);
    const read = (limit: number) => readCheckpoints(this.#options.database, log, { size, cosigned, limit });
    const [newest] = await read(1);
    const row = newest === undefined || isOurs(newest) ? newest : (await read(FORGED_AT_MOST)).find(isOurs);
    if (row === undefined) return undefined;
    return { ...row, note: row.note + row.lines.map((line) => `${line}\n`).join("") };
  }

  /** What is published at this size has to be this: also where somebody was faster. */
  async #requirePublished(log: LogIdentity, checkpoint: SignedCheckpoint): Promise<void> {
    const [kept] = await readCheckpoints(this.#options.database, log, { size: checkpoint.size, limit: 1 });
    if (kept === undefined || kept.note === checkpoint.note) return;
    if (isSignedBy(this.#options.publicKey, log.name, kept)) {
      throw this.refuseForked(log, checkpoint, kept);
    }
    this.#options.logger.error(
      { log: log.name, size: checkpoint.size },
      "somebody has put a checkpoint into the database that this server has not signed: run tallystick verify",
    );
  }

  /** The log has a successor: nothing is asked of it any more. */
  close(logId: number): void {
    this.#refusals.end(logId);
    this.#signed.delete(logId);
    this.#committed.delete(logId);
  }

  async #signNewest(log: LogIdentity): Promise<SignedCheckpoint> {
    const { signer } = this.#options;
    if (this.#refusals.isFinal(log.logId)) this.#refusals.check(log.logId);
    let last = this.#signed.get(log.logId) ?? (await signer.last(log.name));
    for (let attempt = 0; attempt < SIGN_ATTEMPTS; attempt++) {
      // After what was signed last is known: signed heads are committed ones, so that this one cannot be older by mere delay.
      const head = await this.#extension(log, last);
      const signed = await signer.sign(log.name, head, last);
      if (signed.note !== undefined) {
        this.#signed.set(log.logId, head);
        if (this.#refusals.end(log.logId)) this.#options.logger.info(`${log.name} is signed again`);
        return { ...head, note: signed.note };
      }
      last = signed.last;
      if (last !== undefined) this.#signed.set(log.logId, last);
    }
    throw new AppendError("unavailable", `others sign ${log.name} all the time: try again`);
  }

  /** The newest committed head, shown to be a continuation of what was signed last: by a proof from the stored hashes. */
  async #extension(log: LogIdentity, last: SignedHead | undefined): Promise<SignedHead> {
    const { database, tiles } = this.#options;
    return database.readLatest(log.tenantId, async (client) => {
      const { rows } = await client.query<{ size: string; root: Buffer }>(
        "select size, root from tallystick.heads where log_id = $1 order by size desc limit 1",
        [log.logId],
      );
      const head = { size: Number(rows[0]!.size), root: rows[0]!.root };
      if (last !== undefined && (head.size < last.size || (head.size === last.size && !sameHead(head, last)))) {
        throw this.#refusals.refuse(log, last, head);
      }
      if (last === undefined || last.size === 0) {
        const hashes = await tiles.hashes(client, log.logId, head.size, tilesForRoot(head.size));
        if (head.root.equals(attempt(() => rootFrom(head.size, hashes)) ?? Buffer.alloc(0))) return head;
        throw this.#refusals.refuse(log, last ?? head, head, "its stored hashes do not give the root of its head");
      }
      if (head.size > last.size) {
        const needed = tilesForConsistency(last.size, head.size);
        const hashes = await tiles.hashes(client, log.logId, head.size, needed);
        const proof = attempt(() => consistencyProof(last.size, head.size, hashes));
        const claim = { oldSize: last.size, newSize: head.size, oldRoot: last.root, newRoot: head.root };
        if (proof === undefined || attempt(() => verifyConsistency({ ...claim, proof })) === undefined) {
          throw this.#refusals.refuse(
            log,
            last,
            head,
            `its tree of ${head.size} entries does not begin with the tree that was signed`,
          );
        }
      }
      return head;
    });
  }
}

/** Undefined where hashes are missing or do not fit: what that means, the caller says. */
function attempt<T>(prove: () => T): T | undefined {
  try {
    return prove();
  } catch {
    return undefined;
  }
}
