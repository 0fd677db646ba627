/**
 * What the check of an evidence file says: facts for programs; `evidence-words.ts` puts them into words.
 */
import type { EvidenceSelection } from "./evidence.ts";

export type EvidenceFindingKind =
  /** The checkpoint is not signed by the log's key, or is another log's. */
  | "checkpoint"
  | "cosignature"
  /** The leaf's bytes are not those that were recorded, or say something that no leaf says. */
  | "leaf"
  /** The entry is not in the signed tree at its position. */
  | "inclusion"
  /** The entries together are not those of the signed tree. */
  | "range"
  /** Entries that should be there are not. */
  | "missing"
  /** Positions or times go backwards, or an entry stands where it does not belong. */
  | "order"
  /** The entry is not one that the file says it was asked for. */
  | "selection"
  | "chain"
  /** A value does not belong to its commitment. */
  | "opening"
  | "publisher"
  | "key_history"
  /** The file's own count, or its hash, does not fit the file. */
  | "manifest"
  /** How many findings there are beyond those that are listed. */
  | "more";

/** A sign of tampering, and where. Hashes are lower-case hex, times RFC 3339 UTC with six digits of fraction. */
export interface EvidenceFinding {
  /** Position of the entry; null where it is no entry's. */
  readonly seq: number | null;
  readonly id: string | null;
  readonly kind: EvidenceFindingKind;
  readonly field?: string;
  readonly stored?: string;
  readonly expected?: string;
  /** A sentence for people. */
  readonly detail: string;
}

/** Why something could not be checked, which is neither good nor bad. */
export interface EvidenceObstacle {
  readonly code: /** The bytes are not this format. */
    | "malformed"
    /** The file ends before its manifest: the export was cut off. */
    | "incomplete"
    /** Made by a version whose words this program does not know. */
    | "newer"
    /** The key that was given is another log's. */
    | "other_log"
    /** Too few of the witnesses that were given have cosigned. */
    | "quorum"
    /** A witness that was given names a time at which it cannot have seen what is here, or that has not come yet. */
    | "cosignature_time"
    /** A publisher's key is not in the file. */
    | "unknown_key"
    /** A log before, whose keys sign what is here, is not shown to be the one that its successor cites. */
    | "predecessor"
    /** Only the file says whose key it is checked by. Of `tallystick verify`: `good` by the file's own key is not enough for it. */
    | "whose_key";
  readonly detail: string;
}

/** A witness that saw the checkpoint. */
export interface EvidenceCosignature {
  readonly witness: string;
  /** When it says it did: RFC 3339 UTC. */
  readonly time: string;
  /** Whether the caller gave the witness's key, or only the file names it. */
  readonly key: "given" | "file";
}

export interface EvidenceReport {
  /** `tampered` where there is a finding; else `unchecked` where there is an obstacle; else `good`. */
  readonly verdict: "good" | "tampered" | "unchecked";
  readonly findings: readonly EvidenceFinding[];
  readonly obstacles: readonly EvidenceObstacle[];
  /** The log's name; empty where the file has no header. */
  readonly log: string;
  /** Of the checkpoint; undefined where it could not be read. Root in hex. */
  readonly checkpoint: { readonly size: number; readonly root: string; readonly signed: boolean } | undefined;
  /** The key that everything rests on, and who said that it is the log's. */
  readonly key: { readonly source: "given" | "file"; readonly verifierKey: string } | undefined;
  readonly cosignatures: readonly EvidenceCosignature[];
  /** Names on signature lines that no known key covers: checked by nobody. */
  readonly unknownSigners: readonly string[];
  readonly selection: EvidenceSelection | undefined;
  readonly createdAt: string;
  readonly generator: string;
  /** Entries that the file has, and those whose bytes are proved to be in the signed tree at their position. */
  readonly entries: number;
  readonly included: number;
  /** Whether nothing between the positions of the range is missing. */
  readonly complete: boolean;
  readonly first: { readonly seq: number; readonly recordedAt: string } | undefined;
  readonly last: { readonly seq: number; readonly recordedAt: string } | undefined;
  /** Services with entries, and entries of which the chain was followed from the one before. */
  readonly chains: { readonly services: number; readonly links: number };
  /** Where the entries are those of one service, by a filter: whether none between the first and the last is missing. */
  readonly serviceComplete: boolean;
  readonly openings: number;
  readonly erased: number;
  readonly signatures: {
    readonly valid: number;
    /** Signed entries whose signature was erased together with a personal value. */
    readonly erased: number;
    /** Signed by keys that the file does not have. */
    readonly unchecked: number;
    /** Which keys made the valid ones, and how many. */
    readonly keys: Readonly<Record<string, number>>;
  };
  /** Proved changes of publishers' keys. */
  readonly keyChanges: number;
  /** Whether no change of a key that came before an entry which it signed, such as its revocation, can have been left out. */
  readonly keysComplete: boolean;
}
