/**
 * The history of publishers' keys in an evidence file: entries of the log, and of the logs before it, each with a proof of its own.
 */
import { type Checkpoint, openCheckpoint } from "./checkpoint.ts";
import type { EvidenceKeyChange, EvidencePredecessor } from "./evidence.ts";
import type { EvidenceHead } from "./evidence-checkpoint.ts";
import { readLeaf } from "./evidence-entry.ts";
import type { EvidenceFindings } from "./evidence-findings.ts";
import { alteration, provesPlace } from "./evidence-place.ts";
import { toHex } from "./hex.ts";
import type { Leaf } from "./leaf.ts";
import { PublisherError } from "./publisher-error.ts";
import { applyKeyChange, isKeyChange, type PublisherKey, SYSTEM_SERVICE, succeeding } from "./publisher-keys.ts";
import { leafHash } from "./tree.ts";
import { parseVerifierKey, verifierKey } from "./verifier-key.ts";

const SUCCEEDED = "tallystick.log.succeeded";
const KIND = "key_history";

export class EvidenceHistory {
  readonly #findings: EvidenceFindings;
  readonly #head: EvidenceHead | undefined;
  /** Oldest first; the file's own log is the last one. */
  readonly #logs: { readonly name: string; readonly checkpoint: Checkpoint | undefined }[];
  /** Which of them the history has come to; -1 before its first line. */
  #at = -1;
  #lastSeq = -1;
  #keys = new Map<string, PublisherKey>();
  #changes = 0;

  /** `log`: the file's own. */
  constructor(log: string, head: EvidenceHead | undefined, findings: EvidenceFindings) {
    this.#head = head;
    this.#findings = findings;
    this.#logs = [{ name: log, checkpoint: head?.checkpoint }];
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

  /** Takes a line that leads to the log before. */
  addPredecessor(line: EvidencePredecessor): void {
    const { name, checkpoint } = this.#logs[0]!;
    const leaf = this.#read(line);
    if (leaf === undefined) return;
    const { seq, id, service, event } = leaf;
    const before = event.metadata?.predecessor;
    if (
      leaf.log !== name ||
      seq !== 0 ||
      service.id !== SYSTEM_SERVICE ||
      event.action !== SUCCEEDED ||
      typeof before !== "string"
    ) {
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
    if (signed !== undefined) this.#logs.unshift({ name: before, checkpoint: signed });
  }

  /** Takes a change of a key: entries of one log in its order, oldest log first. */
  add(line: EvidenceKeyChange): void {
    const leaf = this.#read(line);
    if (leaf === undefined) return;
    const { seq, id } = leaf;
    const index = this.#logs.findIndex(({ name }) => name === leaf.log);
    if (index < 0 || !isKeyChange(leaf)) {
      this.#findings.find({ seq, id, kind: KIND, detail: "the entry is no change of a publisher's key by the server" });
      return;
    }
    if (index < this.#at || (index === this.#at && seq <= this.#lastSeq)) {
      this.#findings.find({ seq, id, kind: KIND, field: "seq", detail: "the history of keys is not in its order" });
      return;
    }
    if (!provesPlace(this.#logs[index]!.checkpoint, line, { seq, id, kind: KIND }, this.#findings)) return;
    this.#goTo(index);
    this.#lastSeq = seq;
    try {
      applyKeyChange(this.#keys, leaf);
      this.#changes += 1;
    } catch (error) {
      if (!(error instanceof PublisherError)) throw error;
      this.#findings.find({ seq, id, kind: KIND, ...factsOf(error), detail: error.message });
    }
  }

  #goTo(index: number): void {
    for (; this.#at < index; this.#at++) {
      this.#keys = succeeding(this.#keys);
      this.#lastSeq = -1;
    }
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
      this.#findings.obstruct("newer", "a change of a publisher's key is of a version whose meaning is not known here");
      return undefined;
    }
    const hash = toHex(leafHash(text));
    if (hash === stated) return leaf;
    this.#findings.find({ seq: leaf.seq, id: leaf.id, kind: KIND, ...alteration(hash, stated) });
    return undefined;
  }
}

/** What a publisher's error names, as a finding does. */
export function factsOf({ field, stored, expected }: PublisherError) {
  return {
    ...(field !== undefined && { field }),
    ...(stored !== undefined && { stored }),
    ...(expected !== undefined && { expected }),
  };
}
