/**
 * Runs the vectors of notes, trees, cosignatures, publishers and receipts; bundled for the browser by browser.test.ts.
 */
import { verify as verifyEd25519 } from "#ed25519";
import { verify as verifyRsaPss } from "#rsa-pss";
import { canonicalize } from "../../src/canonical.ts";
import { openCheckpoint } from "../../src/checkpoint.ts";
import { openCosignatures } from "../../src/cosignature.ts";
import { fromHex, toHex } from "../../src/hex.ts";
import { openNote } from "../../src/note.ts";
import { verifyConsistency, verifyInclusion } from "../../src/proof.ts";
import { formatPublicKeyPem, type PublicKey, parsePublicKeyPem } from "../../src/public-key.ts";
import { ReceiptError, verifyReceipt } from "../../src/receipt.ts";
import { parseCosignerKey, parseVerifierKey } from "../../src/verifier-key.ts";

// biome-ignore lint/suspicious/noExplicitAny: each file has a shape of its own
type Case = any;
export type Vectors = Record<string, { accept: Case[]; reject: Case[] }>;

/** What a case gives, as text to compare with `expected`; throws where it is refused. */
const checks: Record<string, { found: (c: Case) => unknown; expected: (c: Case) => unknown }> = {
  "note/keys.json": {
    found: (c) => parseVerifierKey(c.vkey).name,
    expected: (c) => c.name,
  },
  "note/notes.json": {
    found: (c) => openNote(c.note, c.vkeys.map(parseVerifierKey)).text,
    expected: (c) => c.text,
  },
  "note/checkpoints.json": {
    found: (c) => toHex(openCheckpoint(c.note, parseVerifierKey(c.vkey), c.origin).root),
    expected: (c) => c.root,
  },
  "tree/inclusion.json": {
    found: (c) =>
      toHex(
        verifyInclusion({
          leafIndex: c.leaf_index,
          treeSize: c.tree_size,
          leafHash: fromHex(c.leaf_hash),
          root: fromHex(c.root),
          proof: c.proof.map(fromHex),
        }).leafHash,
      ),
    expected: (c) => c.leaf_hash,
  },
  "tree/consistency.json": {
    found: (c) =>
      toHex(
        verifyConsistency({
          oldSize: c.old_size,
          newSize: c.new_size,
          oldRoot: fromHex(c.old_root),
          newRoot: fromHex(c.new_root),
          proof: c.proof.map(fromHex),
        }).root,
      ),
    expected: (c) => c.new_root,
  },
  "cosignature/keys.json": {
    found: (c) => parseCosignerKey(c.vkey).name,
    expected: (c) => c.name,
  },
  "cosignature/cosignatures.json": {
    found: (c) => openCosignatures(c.note, c.vkeys.map(parseCosignerKey)).map(({ name, time }) => ({ name, time })),
    expected: (c) => c.verified,
  },
  "publisher/keys.json": {
    found: (c) => formatPublicKeyPem(parsePublicKeyPem(c.pem)),
    expected: (c) => c.canonical,
  },
  "publisher/signatures.json": {
    found: (c) => toHex(verifySignature(parsePublicKeyPem(c.public_key_pem), fromHex(c.message), fromHex(c.signature))),
    expected: (c) => c.message,
  },
  "receipt/receipts.json": {
    found: (c) => {
      const proved = verifyReceipt(c.receipt, trustOf(c));
      return [
        toHex(proved.leafHash),
        toHex(proved.checkpoint.root),
        proved.cosignatures,
        proved.understood ? canonicalize(proved.opened as never) : proved.version,
      ];
    },
    expected: (c) => [c.leaf_hash, c.root, c.cosignatures, c.opened ?? c.version],
  },
};

export const files = Object.keys(checks);

function verifySignature(key: PublicKey, message: Uint8Array, signature: Uint8Array): Uint8Array {
  return key.algorithm === "ed25519"
    ? verifyEd25519(message, signature, key.point)
    : verifyRsaPss(message, signature, key);
}

function trustOf(c: Case) {
  return {
    logKey: parseVerifierKey(c.vkey),
    witnessKeys: c.witness_vkeys.map(parseCosignerKey),
    witnessQuorum: c.witness_quorum,
  };
}

/** How many cases were run, and every one that was not accepted or refused as it should be. */
export function checkVectors(vectors: Vectors): { cases: number; failures: string[] } {
  const failures: string[] = [];
  let cases = 0;
  for (const file of files) {
    const { found, expected } = checks[file]!;
    for (const c of vectors[file]!.accept) {
      cases++;
      const result = outcome(() => JSON.stringify(found(c)));
      if (result !== JSON.stringify(expected(c))) failures.push(`${file} accept ${c.name}: ${result}`);
    }
    for (const c of vectors[file]!.reject) {
      cases++;
      const result = outcome(() => JSON.stringify(found(c)));
      if (result !== `refused: ${c.error}`) failures.push(`${file} reject ${c.name}: ${result}, not ${c.error}`);
    }
  }
  return { cases, failures };
}

/** Changes each character of a good receipt: how many changes were refused, and those that proved something else. */
export function checkMutations(c: Case): { refused: number; failures: string[] } {
  const failures: string[] = [];
  let refused = 0;
  const good = JSON.stringify(checks["receipt/receipts.json"]!.found(c));
  for (let at = 0; at < c.receipt.length; at++) {
    const char = c.receipt[at] === "A" ? "B" : "A";
    const receipt = c.receipt.slice(0, at) + char + c.receipt.slice(at + 1);
    try {
      const proved = JSON.stringify(checks["receipt/receipts.json"]!.found({ ...c, receipt }));
      if (proved !== good) failures.push(`character ${at}: ${proved}`);
    } catch (error) {
      if (error instanceof ReceiptError) refused++;
      else failures.push(`character ${at}: ${error}`);
    }
  }
  return { refused, failures };
}

function outcome(run: () => string): string {
  try {
    return run();
  } catch (error) {
    const { code } = error as { code?: string };
    return code === undefined ? String(error) : `refused: ${code}`;
  }
}
