/**
 * The place of each entry of an evidence file in the signed tree: by its own proof, or as the next one of a range.
 */
import type { Checkpoint } from "./checkpoint.ts";
import type { EvidenceEntry, EvidenceHeader, EvidenceSelection } from "./evidence.ts";
import type { EvidenceHead } from "./evidence-checkpoint.ts";
import type { EvidenceFindings } from "./evidence-findings.ts";
import { fromHex } from "./hex.ts";
import { verifyInclusion } from "./proof.ts";
import { RangeVerifier } from "./range-proof.ts";

/** What an entry says of itself; nothing of it is to be believed yet. */
interface Claim {
  readonly seq: number | undefined;
  readonly id: string | null;
  /** Whether its bytes make another hash than the one beside them. */
  readonly altered: boolean;
}

export class EvidencePlaces {
  readonly #selection: EvidenceSelection;
  readonly #head: EvidenceHead | undefined;
  readonly #findings: EvidenceFindings;
  /** Undefined once the positions in the file are not those of the range. */
  #range: RangeVerifier | undefined;
  /** The next position in order. */
  #next: number;
  #included = 0;
  #complete = false;

  constructor(header: EvidenceHeader, head: EvidenceHead | undefined, findings: EvidenceFindings) {
    const { selection, rangeProof } = header;
    this.#selection = selection;
    this.#head = head;
    this.#findings = findings;
    this.#next = selection.from;
    const size = head?.checkpoint.size;
    if (size === undefined) return;
    if (selection.to > size || selection.from >= selection.to) {
      const stored = `[${selection.from}, ${selection.to})`;
      findings.find({
        kind: "range",
        field: "selection",
        stored,
        detail: `that is no range of a log of ${size} entries`,
      });
    } else if (selection.kind === "range") {
      try {
        if (rangeProof === undefined) throw new SyntaxError("there is none");
        this.#range = new RangeVerifier({ from: selection.from, to: selection.to, treeSize: size, ...rangeProof });
      } catch (error) {
        findings.find({
          kind: "range",
          field: "range_proof",
          detail: `no proof of a range: ${(error as Error).message}`,
        });
      }
    }
  }

  /** Entries whose bytes are in the tree at their position. Of a range nothing is known before {@link finish}. */
  get included(): number {
    return this.#selection.kind === "range" && !this.#complete ? 0 : this.#included;
  }

  /** Whether the file has every position of the range, and the tree their hashes. */
  get complete(): boolean {
    return this.#complete;
  }

  /** Takes the next entry. Returns the position that it has, null where that cannot be told. */
  take(line: EvidenceEntry, claim: Claim): number | null {
    return this.#selection.kind === "range" ? this.#takeNext(line, claim) : this.#takeProved(line, claim);
  }

  /** To be called after the last entry. */
  finish(): void {
    if (this.#selection.kind !== "range" || this.#head === undefined) return;
    if (this.#next < this.#selection.to) {
      this.#missing(this.#next, this.#selection.to);
      this.#range = undefined;
    }
    if (this.#range === undefined) return;
    try {
      this.#range.finish(this.#head.checkpoint.root);
      this.#complete = true;
    } catch (error) {
      const detail = `the entries are not those that the log's key signed: ${(error as Error).message}`;
      this.#findings.find({ kind: "range", detail });
    }
  }

  #takeNext(line: EvidenceEntry, { seq: own, id, altered }: Claim): number {
    const expected = this.#next;
    // An altered entry may say anything of itself: it stands where it stands.
    const seq = altered || own === undefined ? expected : own;
    if (seq > expected) this.#missing(expected, seq);
    if (seq < expected || seq >= this.#selection.to) this.#misplaced(seq, id);
    if (seq !== this.#range?.next || seq >= this.#selection.to) this.#range = undefined;
    this.#range?.append(fromHex(line.leafHash));
    if (!altered) this.#included += 1;
    this.#next = Math.max(seq + 1, expected);
    return seq;
  }

  #takeProved(line: EvidenceEntry, { seq, id, altered }: Claim): number | null {
    if (seq === undefined) return null;
    if (seq < this.#next || seq >= this.#selection.to) this.#misplaced(seq, id);
    this.#next = Math.max(seq + 1, this.#next);
    const proved = provesPlace(this.#head?.checkpoint, line, { seq, id, kind: "inclusion" }, this.#findings);
    if (proved && !altered) this.#included += 1;
    return seq;
  }

  #missing(from: number, to: number): void {
    const what = to - from === 1 ? `position ${from} is` : `positions ${from} to ${to - 1} are`;
    this.#findings.find({ seq: from, kind: "missing", detail: `${what} missing` });
  }

  #misplaced(seq: number, id: string | null): void {
    const facts = { field: "seq", stored: `${seq}`, expected: `${this.#next}` };
    const detail = "the entry stands where it does not belong";
    this.#findings.find({ seq, id, kind: "order", ...(seq < this.#next ? facts : { field: "seq" }), detail });
  }
}

/** Whether a leaf hash is at a position of a checkpoint's tree, by a proof; what is not is a finding. */
export function provesPlace(
  checkpoint: Checkpoint | undefined,
  { leafHash, proof }: { readonly leafHash: string; readonly proof?: readonly Uint8Array[] },
  at: { readonly seq: number; readonly id: string | null; readonly kind: "inclusion" | "key_history" },
  findings: EvidenceFindings,
): boolean {
  if (checkpoint === undefined) return false;
  const { size, root } = checkpoint;
  try {
    if (proof === undefined) throw new SyntaxError("there is no proof");
    verifyInclusion({ leafIndex: at.seq, treeSize: size, leafHash: fromHex(leafHash), root, proof });
    return true;
  } catch (error) {
    const detail = `the entry is not at this position of the tree that the log's key signed: ${(error as Error).message}`;
    findings.find({ ...at, detail });
    return false;
  }
}

/** What is said of a leaf that makes another hash than the one beside it. */
export function alteration(stored: string, expected: string) {
  return { field: "leaf_hash", stored, expected, detail: "the entry's bytes are not those that were recorded" };
}
