/**
 * Evidence of a log (docs/evidence.md), read in batches: no transaction lasts longer than one of them, and no more than one is in
 * memory. The checkpoint is fixed at the start, so that entries that are recorded meanwhile change nothing.
 */
import type { Opening } from "@tallystick/core/commitment";
import { type EvidenceSelection, EvidenceWriter } from "@tallystick/core/evidence";
import { type Filter, NO_FILTER } from "@tallystick/core/filter";
import { type Leaf, LeafError, parseLeaf } from "@tallystick/core/leaf";
import { inclusionProof } from "@tallystick/core/prover";
import { isKeyChange } from "@tallystick/core/publisher-keys";
import { type RangeProof, rangeProof } from "@tallystick/core/range-proof";
import { tilesForInclusion, tilesForRange } from "@tallystick/core/tiles";
import { formatVerifierKey, verifierKey } from "@tallystick/core/verifier-key";
import type { Database } from "../db/database.ts";
import { termHash } from "../log/columns.ts";
import { AppendError } from "../log/errors.ts";
import type { LogIdentity } from "../log/identity.ts";
import { readOpenings } from "../log/openings.ts";
import { LogSearch, type SearchRange } from "../log/search.ts";
import { SYSTEM_SERVICE } from "../log/system.ts";
import type { SignedCheckpoint } from "../signing/published.ts";
import type { Signing } from "../signing/signing.ts";

/** Entries read at once. Leaves have at most 64 kB each. */
const BATCH = 250;
/** Positions whose leaves, of 64 kB at most, are looked at in one query. */
const SCAN_SPAN = 16_384;
/** Text that is handed on at once. */
const PIECE_CHARACTERS = 65_536;

/** Which entries, and what they are proved by. */
export interface EvidencePlan {
  readonly log: LogIdentity;
  readonly selection: EvidenceSelection;
  /** What a selection by filter asks of entries. */
  readonly filter: Filter;
  readonly checkpoint: SignedCheckpoint;
  /** The logs before, the nearest first, each with a checkpoint that was kept. */
  readonly predecessors: readonly { readonly log: LogIdentity; readonly checkpoint: SignedCheckpoint }[];
  readonly witnessKeys: readonly string[];
  /** RFC 3339 UTC. */
  readonly createdAt: string;
  readonly generator: string;
  /** Ends a search that nobody waits for any more. */
  readonly signal?: AbortSignal | undefined;
}

interface EvidenceRow {
  readonly seq: number;
  readonly leaf: string;
  /** As it is stored: whoever reads the file sees whether it is the leaf's. */
  readonly leafHash: Uint8Array;
  readonly openings: readonly Opening[];
  readonly proof?: readonly Uint8Array[];
}

/** A checkpoint to prove by. */
type Cited = Pick<SignedCheckpoint, "size" | "note">;

/** What the first entry of a successor says (docs/spec, section 13). */
interface Succession {
  readonly found: { readonly size: number; readonly root: string };
  readonly signed: { readonly size: number; readonly root: string } | null;
  readonly checkpoint: string | null;
}

interface FoundRow {
  readonly seq: string;
  readonly leaf: string;
  readonly leaf_hash: Buffer;
  readonly recorded_at: string;
}

interface FoundEntry {
  readonly seq: number;
  readonly leaf: string;
  readonly leafHash: Uint8Array;
  readonly recordedAt: string;
}

const FOUND_COLUMNS = `e.seq, e.leaf, e.leaf_hash, to_char(e.recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as recorded_at`;

export class EvidenceReader {
  readonly #database: Database;
  readonly #signing: Pick<Signing, "key" | "tiles">;
  readonly #entries: LogSearch;

  constructor({ database, signing }: { database: Database; signing: Pick<Signing, "key" | "tiles"> }) {
    this.#database = database;
    this.#signing = signing;
    this.#entries = new LogSearch(database);
  }

  /**
   * The file, in pieces. The first piece comes when the first entry has been found; undefined where there is none.
   *
   * Whoever stops early, or meets an error, has a file without a manifest, which no verifier takes for whole.
   *
   * @throws {AppendError} `inconsistent`, here or later: hashes that the log's size asks for are missing.
   */
  async open(plan: EvidencePlan): Promise<AsyncGenerator<string> | undefined> {
    const range = plan.selection.kind === "range";
    const batches = range ? this.#range(plan) : this.#matches(plan);
    const first = await batches.next();
    if (first.done) return undefined;
    return this.#pieces(plan, range ? await this.#rangeProof(plan) : undefined, first.value, batches);
  }

  async *#pieces(
    plan: EvidencePlan,
    proof: RangeProof | undefined,
    first: readonly EvidenceRow[],
    rest: AsyncGenerator<readonly EvidenceRow[]>,
  ): AsyncGenerator<string> {
    const { log, selection, checkpoint, witnessKeys, createdAt, generator } = plan;
    const writer = new EvidenceWriter();
    yield writer.header({
      log: log.name,
      verifierKey: formatVerifierKey(verifierKey(log.name, this.#signing.key.publicKey)),
      witnessKeys,
      checkpoint: checkpoint.note,
      selection,
      ...(proof !== undefined && { rangeProof: proof }),
      createdAt,
      generator,
    });
    yield* this.#keyHistory(plan, writer);
    let piece = "";
    const take = (rows: readonly EvidenceRow[]) => {
      const pieces: string[] = [];
      for (const { leaf, leafHash, openings, proof } of rows) {
        piece += writer.entry(leaf, leafHash, openings, proof);
        if (piece.length < PIECE_CHARACTERS) continue;
        pieces.push(piece);
        piece = "";
      }
      return pieces;
    };
    yield* take(first);
    for await (const rows of rest) yield* take(rows);
    yield piece + writer.manifest();
  }

  async #rangeProof({ log, selection: { from, to }, checkpoint: { size } }: EvidencePlan): Promise<RangeProof> {
    const range = { from, to, treeSize: size };
    return this.#database.readLatest(log.tenantId, async (client) => {
      const hashes = await this.#signing.tiles.hashes(client, log.logId, size, tilesForRange(range));
      try {
        return rangeProof(range, hashes);
      } catch (cause) {
        throw inconsistent(log, cause);
      }
    });
  }

  async *#range({ log, selection: { from, to } }: EvidencePlan): AsyncGenerator<EvidenceRow[]> {
    for (let start = from; start < to; start += BATCH) {
      const end = Math.min(start + BATCH, to);
      const rows = await this.#database.readLatest(log.tenantId, async (client) => {
        const { rows } = await client.query<FoundRow>(
          `select ${FOUND_COLUMNS} from tallystick.entries e where log_id = $1 and seq >= $2 and seq < $3
             and recorded_at >= tallystick.time_at($1, $2) and recorded_at <= tallystick.time_at($1, $3 - 1) order by seq`,
          [log.logId, start, end],
        );
        const entries = rows.map((row) => ({ ...row, seq: Number(row.seq), recordedAt: row.recorded_at }));
        const openings = await readOpenings(client, log.logId, entries);
        return entries.map(({ seq, leaf, leaf_hash: leafHash }) => ({
          ...{ seq, leaf, leafHash },
          openings: openings.get(seq) ?? [],
        }));
      });
      // What is missing here the verifier will name: the file is made all the same.
      if (rows.length > 0) yield rows;
    }
  }

  #matches({ log, selection, filter, checkpoint, signal }: EvidencePlan): AsyncGenerator<EvidenceRow[]> {
    const { from, to } = selection;
    return this.#search(log, { filter, from, to, signal }, checkpoint.size);
  }

  /** All of the server's own entries that the checkpoints cover, in the logs before too: those about publishers' keys among them. */
  async *#keyHistory({ log, checkpoint, predecessors }: EvidencePlan, writer: EvidenceWriter): AsyncGenerator<string> {
    let at: { readonly log: LogIdentity; readonly checkpoint: Cited } = { log, checkpoint };
    const histories = [await this.#ownEntries(log, checkpoint.size)];
    const steps: { readonly first: EvidenceRow; readonly note: string }[] = [];
    for (const before of predecessors) {
      const first = await this.#first(at.log, at.checkpoint.size);
      at = { log: before.log, checkpoint: citedBy(first) ?? before.checkpoint };
      steps.push({ first, note: at.checkpoint.note });
      histories.push(await this.#ownEntries(at.log, at.checkpoint.size));
    }
    // Of logs before that have no change of a key nothing is said.
    const depth = histories.findLastIndex((own) => own.some(({ leaf }) => tellsOfKey(leaf)));
    for (const { first, note } of steps.slice(0, Math.max(0, depth))) {
      yield writer.predecessor(first.leaf, first.leafHash, first.proof!, note);
    }
    for (const own of histories.slice(0, Math.max(0, depth) + 1).reverse()) {
      for (const { leaf, leafHash, proof } of own) yield writer.keyChange(leaf, leafHash, proof!);
    }
  }

  /**
   * The server's own entries below a size. They are one chain: where the search terms do not lead to all of it, because somebody has
   * changed them, every leaf is looked at.
   */
  async #ownEntries(log: LogIdentity, size: number): Promise<EvidenceRow[]> {
    let entries = await this.#indexedOwnEntries(log);
    if (entries === undefined) {
      entries = [];
      for (let start = 0; start < size; start += SCAN_SPAN) {
        entries.push(...(await this.#scannedOwnEntries(log, start, Math.min(start + SCAN_SPAN, size))));
      }
    }
    const covered = entries.filter(({ seq }) => seq < size);
    const proved: EvidenceRow[] = [];
    for (let start = 0; start < covered.length; start += BATCH) {
      proved.push(...(await this.#proved(log, covered.slice(start, start + BATCH), size)));
    }
    return proved;
  }

  /** By search terms, of the log as it is now; undefined where these are not the whole chain. */
  async #indexedOwnEntries(log: LogIdentity): Promise<FoundEntry[] | undefined> {
    return this.#database.readLatest(log.tenantId, async (client) => {
      const { rows: heads } = await client.query<{ length: string; size: string }>(
        `select (select coalesce(max(seq) + 1, 0) from tallystick.service_heads where log_id = $1 and service_id = $2) as length,
           (select coalesce(max(size), 0) from tallystick.heads where log_id = $1) as size`,
        [log.logId, SYSTEM_SERVICE],
      );
      const { length, size } = heads[0]!;
      const { rows } = await client.query<FoundRow>(
        `select ${FOUND_COLUMNS} from tallystick.positions_of($1, $2, $3) found
         join tallystick.entries e on e.log_id = $1 and e.seq = found.seq and e.recorded_at = found.recorded_at order by e.seq`,
        [log.logId, size, [termHash(log.logId, "service_id", SYSTEM_SERVICE)]],
      );
      const found = foundEntries(rows);
      const gapless = found.every(({ leaf }, index) => ownLeaf(leaf)?.service.seq === index);
      return gapless && found.length === Number(length) ? found : undefined;
    });
  }

  async #scannedOwnEntries(log: LogIdentity, from: number, to: number): Promise<FoundEntry[]> {
    return this.#database.readLatest(log.tenantId, async (client) => {
      const { rows } = await client.query<FoundRow>(
        `select ${FOUND_COLUMNS} from tallystick.entries e where log_id = $1 and seq >= $2 and seq < $3
           and recorded_at >= tallystick.time_at($1, $2) and recorded_at <= tallystick.time_at($1, $3 - 1)
           and strpos(leaf, $4) > 0 order by seq`,
        [log.logId, from, to, `"service":{"id":"${SYSTEM_SERVICE}"`],
      );
      return foundEntries(rows);
    });
  }

  /** A log's first entry. */
  async #first(log: LogIdentity, treeSize: number): Promise<EvidenceRow> {
    for await (const rows of this.#search(log, { filter: NO_FILTER, from: 0, to: 1 }, treeSize)) return rows[0]!;
    throw inconsistent(log, new Error("it has no first entry"));
  }

  /** Entries that match, each with its proof in the tree of `treeSize`. */
  async *#search(log: LogIdentity, range: SearchRange, treeSize: number): AsyncGenerator<EvidenceRow[]> {
    for await (const entries of this.#entries.entries(log, range)) yield await this.#proved(log, entries, treeSize);
  }

  async #proved(log: LogIdentity, entries: readonly FoundEntry[], treeSize: number): Promise<EvidenceRow[]> {
    return this.#database.readLatest(log.tenantId, async (client) => {
      const needed = entries.flatMap(({ seq }) => tilesForInclusion(seq, treeSize));
      const [openings, hashes] = await Promise.all([
        readOpenings(client, log.logId, entries),
        this.#signing.tiles.hashes(client, log.logId, treeSize, needed),
      ]);
      try {
        return entries.map(({ seq, leaf, leafHash }) => ({
          ...{ seq, leaf, leafHash },
          openings: openings.get(seq) ?? [],
          proof: inclusionProof(seq, treeSize, hashes),
        }));
      } catch (cause) {
        throw inconsistent(log, cause);
      }
    });
  }
}

function inconsistent(log: LogIdentity, cause: unknown): AppendError {
  return new AppendError(
    "inconsistent",
    `entries of ${log.name} cannot be proved from what is stored (${(cause as Error).message}): run "tallystick verify" and keep the database as it is`,
    { cause },
  );
}

function foundEntries(rows: readonly FoundRow[]): FoundEntry[] {
  const entries = rows.map(({ seq, leaf, leaf_hash: leafHash, recorded_at: recordedAt }) => ({
    ...{ seq: Number(seq), leaf, leafHash, recordedAt },
  }));
  return entries.filter(({ leaf }) => ownLeaf(leaf) !== undefined); // terms are hashes, which may collide
}

/** A leaf that is the server's own; undefined for any other, and for what is no leaf: whoever reads the file sees that one is missing. */
function ownLeaf(text: string): Leaf | undefined {
  try {
    const leaf = parseLeaf(text);
    return leaf.service.id === SYSTEM_SERVICE ? leaf : undefined;
  } catch (error) {
    if (error instanceof LeafError) return undefined;
    throw error;
  }
}

function tellsOfKey(text: string): boolean {
  const leaf = ownLeaf(text);
  return leaf !== undefined && isKeyChange(leaf);
}

/** What a log's first entry cites of the log before; undefined where that log had less when the successor was opened. */
function citedBy({ leaf }: EvidenceRow): Cited | undefined {
  const { found, signed, checkpoint: note } = (ownLeaf(leaf)?.event.metadata ?? {}) as Partial<Succession>;
  if (!found || !signed || !note) return undefined;
  const provable = signed.size < found.size || (signed.size === found.size && signed.root === found.root);
  return provable ? { size: signed.size, note } : undefined;
}
