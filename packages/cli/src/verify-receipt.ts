/** The check of a receipt, in the terms of all other checks. */
import { parseCheckpoint } from "@tallystick/core/checkpoint";
import type { Cosignature } from "@tallystick/core/cosignature";
import type { EvidenceTrust } from "@tallystick/core/evidence-checkpoint";
import { toHex } from "@tallystick/core/hex";
import { parseNote } from "@tallystick/core/note";
import { parseReceipt, ReceiptError, verifyReceipt } from "@tallystick/core/receipt";

/** What came of the check of a receipt. */
export interface ReceiptReport {
  readonly verdict: "good" | "tampered" | "unchecked";
  /** The log that the receipt says it is of; empty where it says nothing. */
  readonly log: string;
  readonly seq: number | null;
  /** Why it is not good; of a good one what it proves. */
  readonly detail: string;
  readonly checkpoint?: { readonly size: number; readonly root: string };
  readonly leaf?: string;
  readonly cosignatures: readonly Cosignature[];
}

/** Checks a receipt's text. A receipt has no key in it: without one nothing can be said. */
export function checkReceipt(text: string, { logKey, witnessKeys, witnessQuorum }: EvidenceTrust): ReceiptReport {
  const claim = claimOf(text);
  const unchecked = (detail: string): ReceiptReport => ({ verdict: "unchecked", ...claim, detail, cosignatures: [] });
  if (logKey === undefined) {
    return unchecked(
      'a receipt does not have the log\'s key in it: give it by --key ("tallystick log vkey" prints it)',
    );
  }
  if (claim.log !== "" && claim.log !== logKey.name) {
    return unchecked(`the receipt is of log ${claim.log}, and the key that was given is of ${logKey.name}`);
  }
  try {
    const trust = { logKey, witnessKeys: witnessKeys ?? [], witnessQuorum: witnessQuorum ?? 0 };
    const receipt = verifyReceipt(text, trust);
    const { index, checkpoint, leafText, cosignatures } = receipt;
    const facts = {
      log: checkpoint.origin,
      seq: index,
      checkpoint: { size: checkpoint.size, root: toHex(checkpoint.root) },
      leaf: leafText,
      cosignatures,
    };
    if (!receipt.understood) {
      return {
        verdict: "unchecked",
        ...facts,
        detail: "the entry is in the log, and of a version that is not known here",
      };
    }
    return { verdict: "good", ...facts, detail: "the entry is in the log at this position, byte for byte" };
  } catch (error) {
    if (!(error instanceof ReceiptError)) throw error;
    if (error.code === "malformed" || error.code === "quorum") return unchecked(error.message);
    return { verdict: "tampered", ...claim, detail: error.message, cosignatures: [] };
  }
}

/** What a receipt says of itself, before anything is checked. */
function claimOf(text: string): { log: string; seq: number | null } {
  try {
    const { checkpoint, index } = parseReceipt(text);
    return { log: parseCheckpoint(parseNote(checkpoint).text).origin, seq: index };
  } catch {
    return { log: "", seq: null }; // what is wrong with it the check says
  }
}
