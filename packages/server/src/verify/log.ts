/**
 * Verification of a log: every entry, column, opening, tile, head and chain that the database holds, against what the leaves
 * say (docs/spec, sections 3 and 8). Memory does not grow with the log, and no transaction is held for longer than a batch.
 */
import { TILE_WIDTH } from "@tallystick/core/tree";
import type { LogIdentity } from "../log/identity.ts";
import { SEGMENT_ENTRIES } from "../search/text-terms.ts";
import { inThreads, isUnreadable, readAhead, type Threads } from "./batches.ts";
import { ChainCheck } from "./chains.ts";
import { checkCheckpoints } from "./checkpoints.ts";
import type { CleanBatch } from "./clean.ts";
import type { CheckedEntry } from "./entry.ts";
import { checkOpenings } from "./openings.ts";
import { checkPinned, type Pinned, readPinned } from "./pinned.ts";
import { checkKeys, checkServices, type PublisherFacts, readPublishers, type SignatureCount } from "./publishers.ts";
import { type Batch, readTile } from "./read.ts";
import { ProblemList, type VerifyReport } from "./report.ts";
import { RollupCheck } from "./roll-ups.ts";
import { checkSplitSegment, checkStraySegments } from "./segments.ts";
import type { Snapshot, Span } from "./sql.ts";
import { checkStrays } from "./strays.ts";
import { checkTile, type TileRow } from "./tiles.ts";
import { TreeCheck } from "./tree.ts";
import { Walk } from "./walk.ts";

/** A log, and how its tenant is called. */
export interface VerifiedLog extends LogIdentity {
  /** The tenant's. */
  readonly slug: string;
}

export interface VerifyOptions {
  /** Verifies the chain of this service alone: its entries, their columns and openings, and its heads; not the tree. */
  readonly serviceId?: string | undefined;
  /** Lets threads of their own look for what is wrong, which takes a long log a fraction of the time. */
  readonly threads?: Threads | undefined;
  /** From this size of the log on; starting threads takes some time of its own. */
  readonly threadsFrom?: number | undefined;
  /** Positions that are read at once: a multiple of 256. */
  readonly batchSize?: number | undefined;
  /** Ends the verification, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Told after each batch how many of the log's positions have been gone through. */
  readonly onProgress?: ((checked: number, size: number) => void) | undefined;
}

// 16 tiles: some 4 MB of rows.
const BATCH_SIZE = 16 * TILE_WIDTH;
const THREADS_FROM = 50_000;
const EMPTY_ROOT = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/**
 * Verifies a log up to the head that is the newest when it begins. Nothing is taken from the database on trust but the newest
 * head's root, which receipts and witnesses check.
 *
 * @param snapshot runs each of the reads, in a transaction of its own; two may be under way at once.
 * @returns what is wrong. A log that was changed is no error.
 * @throws what `snapshot` throws, where the database could not be read: nothing is then known.
 */
export async function verifyLog(
  snapshot: Snapshot,
  log: VerifiedLog,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const [pinned, publishers] = await snapshot(async (client) => {
    const pinned = await readPinned(client, log);
    return [pinned, await readPublishers(client, log, pinned.head?.size ?? 0)];
  });
  return new Verification(snapshot, log, pinned, publishers, options).run();
}

class Verification {
  readonly #snapshot: Snapshot;
  readonly #log: VerifiedLog;
  readonly #pinned: Pinned;
  readonly #publishers: PublisherFacts;
  readonly #options: VerifyOptions;
  readonly #size: number;
  readonly #problems = new ProblemList();
  readonly #tree: TreeCheck;
  readonly #chains: ChainCheck;
  readonly #walk: Walk;
  readonly #rollups: RollupCheck;
  #checked = 0;
  #erased = 0;
  #signatures: SignatureCount = { valid: 0, erased: 0 };
  #keyChanges = 0;
  #nextSegment = 0;
  readonly #splitSegments: number[] = [];

  constructor(
    snapshot: Snapshot,
    log: VerifiedLog,
    pinned: Pinned,
    publishers: PublisherFacts,
    options: VerifyOptions,
  ) {
    this.#snapshot = snapshot;
    this.#log = log;
    this.#pinned = pinned;
    this.#publishers = publishers;
    this.#options = options;
    this.#size = pinned.head?.size ?? 0;
    this.#tree = new TreeCheck(this.#problems);
    this.#chains = new ChainCheck(log, this.#problems);
    this.#walk = new Walk(log, this.#size, this.#tree, this.#chains, this.#problems);
    this.#rollups = new RollupCheck(snapshot, log, this.#size, pinned.rollups, this.#problems);
  }

  async run(): Promise<VerifyReport> {
    const { serviceId, signal, onProgress } = this.#options;
    const { firstHead, services, spans } = this.#pinned;
    const wholeLog = serviceId === undefined;
    checkPinned(this.#pinned, wholeLog, this.#problems);
    if (wholeLog) {
      checkKeys(this.#publishers, this.#problems);
      checkServices(this.#publishers, this.#problems);
    }
    if (wholeLog && firstHead !== undefined) this.#walk.head(firstHead);
    for await (const batch of this.#batches()) {
      signal?.throwIfAborted();
      if (!("hashes" in batch)) this.#check(batch);
      await this.#checkTiles(batch.tiles);
      if (wholeLog) {
        this.#passSegments(batch.span);
        await this.#rollups.add(batch.minutes);
      }
      onProgress?.(batch.span.to, this.#size);
    }
    this.#walk.reportMissing();
    this.#tree.finish();
    this.#chains.finish(services, serviceId);
    if (wholeLog) {
      this.#checkKeyChanges();
      await checkStrays(this.#snapshot, this.#log, spans, this.#size, this.#problems);
      await checkCheckpoints(this.#snapshot, this.#log, this.#problems);
      await this.#checkSegments();
      await this.#rollups.finish();
    }
    return {
      ok: this.#problems.count === 0,
      tenant: this.#log.slug,
      log: this.#log.name,
      size: this.#size,
      root: this.#pinned.head?.root ?? EMPTY_ROOT,
      checked: this.#checked,
      erased: this.#erased,
      signatures: this.#signatures,
      problems: this.#problems.list(),
    };
  }

  /** The batches of the log in its order. Clean ones have been gone through already. */
  #batches(): AsyncGenerator<Batch | CleanBatch> {
    const { threads, serviceId, threadsFrom = THREADS_FROM, batchSize = BATCH_SIZE } = this.#options;
    const publishers = this.#publishers.history;
    const source = {
      snapshot: this.#snapshot,
      log: this.#log,
      spans: this.#pinned.spans,
      batchSize,
      serviceId,
      publishers,
      rolledUp: this.#pinned.rollups.newest?.endSeq ?? 0,
    };
    if (threads === undefined || serviceId !== undefined || this.#size < threadsFrom) return readAhead(source);
    return inThreads(source, threads, this.#size, (clean) => this.#checkClean(clean));
  }

  #check(batch: Batch): void {
    this.#problems.addAll(batch.problems);
    this.#checked += batch.entries.length;
    this.#count(batch.signatures, batch.entries.filter(({ keyChange }) => keyChange).length);
    const entries = this.#options.serviceId === undefined ? this.#walk.through(batch) : this.#checkChain(batch);
    this.#erased += checkOpenings(this.#log, entries, batch.openings, this.#problems);
  }

  #checkClean(clean: CleanBatch): boolean {
    if (!this.#walk.throughClean(clean)) return false;
    this.#checked += clean.span.to - clean.span.from;
    this.#erased += clean.erased;
    this.#count(clean.signatures, clean.keyChanges);
    return true;
  }

  #count({ valid, erased }: SignatureCount, keyChanges: number): void {
    this.#signatures = { valid: this.#signatures.valid + valid, erased: this.#signatures.erased + erased };
    this.#keyChanges += keyChanges;
  }

  /** Batches have compared the segments that lie in them; those between two remain. */
  #passSegments({ from, to }: Span): void {
    const first = Math.ceil(from / SEGMENT_ENTRIES);
    for (let segment = this.#nextSegment; segment < first; segment++) this.#splitSegments.push(segment);
    this.#nextSegment = Math.max(this.#nextSegment, first, Math.floor(to / SEGMENT_ENTRIES));
  }

  async #checkSegments(): Promise<void> {
    for (const segment of this.#splitSegments) {
      try {
        await this.#snapshot((client) => checkSplitSegment(client, this.#log, segment, this.#problems));
      } catch (error) {
        if (!isUnreadable(error)) throw error; // the entry that cannot be read has been named
      }
    }
    await this.#snapshot((client) => checkStraySegments(client, this.#log, this.#problems));
  }

  /** Keys were looked up by the index on terms: an entry that it does not show may revoke one. */
  #checkKeyChanges(): void {
    const { keyChanges } = this.#publishers;
    if (this.#keyChanges === keyChanges) return;
    this.#problems.add({
      seq: null,
      id: null,
      kind: "publisher_key",
      field: "terms",
      stored: `${keyChanges}`,
      expected: `${this.#keyChanges}`,
      detail: `${this.#keyChanges} entries tell of publisher keys and of services that must sign, and the index on terms shows ${keyChanges}: signatures were verified without the others (reindex index tallystick.entries_terms)`,
    });
  }

  /** Of one service's chain only, without the tree. */
  #checkChain({ entries, serviceHeads }: Batch): readonly CheckedEntry[] {
    for (const entry of entries) {
      const { seq, id, computed, stored } = entry;
      if (computed !== stored) {
        this.#problems.add({
          seq,
          id,
          kind: "leaf",
          field: "leaf",
          stored: computed,
          expected: stored,
          detail: "the leaf and its leaf_hash do not belong together: one of them was changed",
        });
      }
      this.#chains.check(entry, undefined, 0);
    }
    this.#chains.checkHeads(entries, serviceHeads, [], 0);
    return entries;
  }

  /** Compares the tiles that have become full; those of the lowest level are likely to be among `tiles`. */
  async #checkTiles(tiles: ReadonlyMap<number, TileRow>): Promise<void> {
    for (const tile of this.#tree.takeTiles()) {
      const { level, index } = tile;
      const known = level === 0 ? tiles.get(index) : undefined;
      const stored = known ?? (await this.#snapshot((client) => readTile(client, this.#log, level, index)));
      checkTile(this.#log, tile, stored, this.#problems);
    }
  }
}
