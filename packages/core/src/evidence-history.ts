/**
 * The history of publishers' keys in an evidence file: the server's own entries in the log, and in the logs before it, each with a proof
 * of its own. They are one chain, service `tallystick`, so that one that is left out between two others is seen.
 */
import { type Checkpoint, openCheckpoint } from "./checkpoint.ts";
import type { EvidenceKeyChange, EvidencePredecessor } from "./evidence.ts";
import type { EvidenceHead } from "./evidence-checkpoint.ts";
import { readLeaf } from "./evidence-entry.ts";
import type { EvidenceFindings } from "./evidence-findings.ts";
import { alteration, provesPlace } from "./evidence-place.ts";
import { toHex } from "./hex.ts";
import { type Leaf, NO_PREVIOUS } from "./leaf.ts";
import { PublisherError } from "./publisher-error.ts";
import { applyKeyChange, isKeyChange, type PublisherKey, SYSTEM_SERVICE, succeeding } from "./publisher-keys.ts";
import { leafHash } from "./tree.ts";
import { parseVerifierKey, verifierKey } from "./verifier-key.ts";

const SUCCEEDED = "tallystick.log.succeeded";
const KIND = "key_history";

/** A log of which the file has the server's own entries. */
interface HistoryLog {
  readonly name: string;
  readonly checkpoint: Checkpoint | undefined;
  /** The chain of service `tallystick`, as far as it was followed. */
  next: number;
  prev: string;
  /** Position of its newest entry; -1 before the first. */
  lastSeq: number;
  gapless: boolean;
  /** Whether its first entry says that there was a log before. */
  succeeds: boolean;
}

export class EvidenceHistory {
  readonly #findings: EvidenceFindings;
  readonly #head: EvidenceHead | undefined;
  /** Oldest first; the file's own log is the last one. */
  readonly #logs: HistoryLog[];
  /** Leaf hashes of the history's entries of the file's own log. */
  readonly #own = new Set<string>();
  /** Which log the history has come to; -1 before its first line. */
  #at = -1;
  /** Whether a line went by whose place in its chain is not known. */
  #lost = false;
  #uncited: string | undefined;
  #keys = new Map<string, PublisherKey>();
  #changes = 0;

  /** `log`: the file's own. */
  constructor(log: string, head: EvidenceHead | undefined, findings: EvidenceFindings) {
    this.#head = head;
    this.#findings = findings;
    this.#logs = [historyLog(log, head?.checkpoint)];
  }

  /** Changes that were proved. */
  get changes(): number {
    return this.#changes;
  }

  /** All keys that entries of the file's own log may be signed by; to be asked for behind the last change. */
  get keys(): ReadonlyMap<string, PublisherKey> {
    this.#goTo(this.#logs.length - 1);
    return this.#keys;
  }

  /**
   * Why nothing follows from the keys of the logs before, where one is shown as of less than its successor cites: nothing shows that
   * it is the log that is cited.
   */
  get uncited(): string | undefined {
    return this.#uncited;
  }

  /** Takes a line that leads to the log before. */
  addPredecessor(line: EvidencePredecessor): void {
    const { name, checkpoint } = this.#logs[0]!;
    const leaf = this.#read(line);
    if (leaf === undefined) return;
    const { seq, id, event } = leaf;
    const before = event.metadata?.predecessor;
    if (leaf.log !== name || !isSuccession(leaf) || typeof before !== "string") {
      this.#findings.find({
        seq,
        id,
        kind: KIND,
        detail: `the entry is not the first of ${name}, that names the log before`,
      });
      return;
    }
    if (!provesPlace(checkpoint, line, { seq, id, kind: KIND }, this.#findings)) return;
    const signed = this.#checkpointOf(before, line.checkpoint);
    if (signed === undefined || !this.#isCited(leaf, signed)) return;
    this.#logs.unshift(historyLog(before, signed));
  }

  /** Takes an entry of the server's own: those of one log in its order, oldest log first. */
  add(line: EvidenceKeyChange): void {
    const leaf = this.#read(line);
    if (leaf === undefined) {
      this.#lost = true;
      return;
    }
    const { seq, id, service } = leaf;
    const index = this.#logs.findIndex(({ name }) => name === leaf.log);
    const log = this.#logs[index];
    if (log === undefined || service.id !== SYSTEM_SERVICE) {
      this.#findings.find({ seq, id, kind: KIND, detail: "the entry is none of the server's own" });
      return;
    }
    if (index < this.#at || seq <= log.lastSeq) {
      this.#findings.find({ seq, id, kind: KIND, field: "seq", detail: "the history of keys is not in its order" });
      return;
    }
    if (!provesPlace(log.checkpoint, line, { seq, id, kind: KIND }, this.#findings)) {
      this.#lost = true;
      return;
    }
    this.#goTo(index);
    this.#follow(log, leaf, line.leafHash);
    if (index === this.#logs.length - 1) this.#own.add(line.leafHash);
    if (!isKeyChange(leaf)) return;
    try {
      applyKeyChange(this.#keys, leaf);
      this.#changes += 1;
    } catch (error) {
      if (!(error instanceof PublisherError)) throw error;
      this.#findings.find({ seq, id, kind: KIND, ...factsOf(error), detail: error.message });
    }
  }

  /** Takes an entry of the file itself, which the history must have where it is the server's own. */
  requireKnown({ seq, id, service }: Leaf, hash: string): void {
    if (service.id !== SYSTEM_SERVICE || this.#own.has(hash)) return;
    const detail = "the entry is one of the server's own, and the history of keys in this file leaves it out";
    this.#findings.find({ seq, id, kind: KIND, detail });
  }

  /**
   * The position of the file's own log below which no change of a key can have been left out; 0 where nothing shows that. `complete`:
   * the positions of which the file has every entry.
   */
  knownBelow(complete: { readonly from: number; readonly to: number } | undefined): number {
    const own = this.#logs.at(-1)!;
    const earlier = this.#logs.slice(0, -1);
    // Of a log before, its whole end counts: behind the last entry of the chain there may be another.
    if (earlier.some(({ lastSeq, checkpoint }) => lastSeq + 1 !== checkpoint?.size)) return 0;
    if (this.#logs[0]!.succeeds || this.#uncited !== undefined) return 0;
    if (this.#lost || this.#logs.some(({ gapless }) => !gapless)) return 0;
    const followed = own.lastSeq + 1;
    return complete !== undefined && complete.from <= followed ? Math.max(followed, complete.to) : followed;
  }

  #follow(log: HistoryLog, leaf: Leaf, hash: string): void {
    const { seq, id, service } = leaf;
    const place = { seq, id, kind: KIND } as const;
    if (!this.#lost && service.seq !== log.next) {
      const facts = { field: "service.seq", stored: `${service.seq}`, expected: `${log.next}` };
      const detail = "the history of keys has a gap: entries of the server's own before this one were left out";
      this.#findings.find({ ...place, ...facts, detail });
      log.gapless = false;
    } else if (!this.#lost && service.prev !== log.prev) {
      const facts = { field: "service.prev", stored: service.prev, expected: log.prev };
      const detail = "the entry does not follow on the one before it in the history of keys";
      this.#findings.find({ ...place, ...facts, detail });
      log.gapless = false;
    }
    // What was lost stays a gap: it was reported where it was.
    if (this.#lost) log.gapless = false;
    this.#lost = false;
    if (isSuccession(leaf)) log.succeeds = true;
    log.next = service.seq + 1;
    log.prev = hash;
    log.lastSeq = seq;
  }

  #goTo(index: number): void {
    for (; this.#at < index; this.#at++) this.#keys = succeeding(this.#keys);
  }

  /** Whether a checkpoint of the log before may stand for the one that this log's first entry cites. */
  #isCited({ seq, id, event }: Leaf, { origin, size, root }: Checkpoint): boolean {
    const cited = event.metadata?.signed as { size?: unknown; root?: unknown } | null | undefined;
    const stored = `${size} ${toHex(root)}`;
    const expected = `${cited?.size} ${cited?.root}`;
    if (stored === expected) return true;
    if (typeof cited?.size === "number" && size < cited.size) {
      this.#uncited ??= `${origin} is shown as of ${size} entries, and its successor cites it as of ${cited.size}`;
      return true;
    }
    const detail = `the checkpoint of ${origin} is not the one that its successor cites`;
    this.#findings.find({ seq, id, kind: KIND, field: "event/metadata/signed", stored, expected, detail });
    return false;
  }

  /** The checkpoint of another log of the same key. */
  #checkpointOf(log: string, note: string): Checkpoint | undefined {
    const text = this.#head?.key?.verifierKey;
    if (text === undefined) return undefined;
    try {
      return openCheckpoint(note, verifierKey(log, parseVerifierKey(text).publicKey), log);
    } catch (error) {
      const detail = `the checkpoint of ${log}, the log before, is not signed by the same key: ${(error as Error).message}`;
      this.#findings.find({ kind: "checkpoint", detail });
      return undefined;
    }
  }

  #read({ leaf: text, leafHash: stated }: { leaf: string; leafHash: string }): Leaf | undefined {
    let leaf: Leaf | undefined;
    try {
      leaf = readLeaf(text);
    } catch (error) {
      this.#findings.find({ kind: KIND, detail: (error as Error).message });
      return undefined;
    }
    if (leaf === undefined) {
      this.#findings.obstruct("newer", "an entry of the server's own is of a version whose meaning is not known here");
      return undefined;
    }
    const hash = toHex(leafHash(text));
    if (hash === stated) return leaf;
    this.#findings.find({ seq: leaf.seq, id: leaf.id, kind: KIND, ...alteration(hash, stated) });
    return undefined;
  }
}

function historyLog(name: string, checkpoint: Checkpoint | undefined): HistoryLog {
  return { name, checkpoint, next: 0, prev: NO_PREVIOUS, lastSeq: -1, gapless: true, succeeds: false };
}

function isSuccession({ seq, service, event }: Leaf): boolean {
  return seq === 0 && service.id === SYSTEM_SERVICE && event.action === SUCCEEDED;
}

/** What a publisher's error names, as a finding does. */
export function factsOf({ field, stored, expected }: PublisherError) {
  return {
    ...(field !== undefined && { field }),
    ...(stored !== undefined && { stored }),
    ...(expected !== undefined && { expected }),
  };
}
