import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalize } from "../src/canonical.ts";
import { signCheckpoint } from "../src/checkpoint.ts";
import { commitEvent, type Opening } from "../src/commitment.ts";
import { addSignature, cosigner } from "../src/cosignature.ts";
import type { Event } from "../src/event.ts";
import { toHex } from "../src/hex.ts";
import { leafText, NO_PREVIOUS } from "../src/leaf.ts";
import { parseNote } from "../src/note.ts";
import { inclusionProof } from "../src/prover.ts";
import { formatReceipt, parseReceipt, ReceiptError, verifyReceipt } from "../src/receipt.ts";
import { tileReader } from "../src/tiles.ts";
import { leafHash, rootOf } from "../src/tree.ts";
import { noteSigner, parseCosignerKey, parseVerifierKey } from "../src/verifier-key.ts";
import { readVectors } from "./vectors.ts";

const refused = (code?: string) => expect.objectContaining({ name: "ReceiptError", ...(code && { code }) });
const log = noteSigner("log.example/orders", new Uint8Array(32).fill(1));
const witness = cosigner("witness.example", new Uint8Array(32).fill(2));

interface Case {
  name: string;
  vkey: string;
  witness_vkeys: string[];
  witness_quorum: number;
  receipt: string;
}
const trust = (c: Case) => ({
  logKey: parseVerifierKey(c.vkey),
  witnessKeys: c.witness_vkeys.map(parseCosignerKey),
  witnessQuorum: c.witness_quorum,
});

describe("vectors/receipt/receipts.json", () => {
  const { accept, reject } = readVectors<{
    accept: (Case & {
      index: number;
      leaf: string;
      leaf_hash: string;
      size: number;
      root: string;
      cosignatures: { name: string; time: number }[];
      opened?: string;
      version?: number;
    })[];
    reject: (Case & { error: string })[];
  }>("receipt/receipts.json");
  test.each(accept)("accept: $name", (c) => {
    const found = verifyReceipt(c.receipt, trust(c));
    expect(found).toMatchObject({ leafText: c.leaf, index: c.index, cosignatures: c.cosignatures });
    expect(toHex(found.leafHash)).toBe(c.leaf_hash);
    const { origin, size, root } = found.checkpoint;
    expect({ origin, size, root: toHex(root) }).toEqual({ origin: "log.example/orders", size: c.size, root: c.root });
    if (found.understood) {
      expect(canonicalize(found.leaf as never)).toBe(c.leaf);
      expect(canonicalize(found.opened as never)).toBe(c.opened);
    } else {
      expect(found.version).toBe(c.version);
    }
    const { leaf, openings, proof, checkpoint } = parseReceipt(c.receipt);
    expect(formatReceipt({ leaf, openings, proof, checkpoint })).toBe(c.receipt);
  });
  test.each(reject)("reject: $name ($error)", (c) => {
    expect(() => verifyReceipt(c.receipt, trust(c))).toThrow(refused(c.error));
  });
});

/** A log of `events`, with a receipt for each entry by its newest checkpoint. */
function receiptsOf(events: readonly Event[]): { leaf: string; openings: Opening[]; receipt: string }[] {
  let salts = 0;
  const entries = events.map((event, seq) => {
    const committed = commitEvent(event, () => new Uint8Array(16).fill(++salts));
    const id = "0197f0a0-0000-7000-8000-000000000000";
    const frame = { log: log.key.name, seq, id, recordedAt: "2026-01-02T03:04:05.123456Z" };
    const chain = { serviceId: "orders", serviceSeq: seq, prev: NO_PREVIOUS };
    return { leaf: leafText({ ...frame, ...chain }, canonicalize(committed.event)), openings: committed.openings };
  });
  const hashes = entries.map(({ leaf }) => leafHash(leaf));
  const head = { origin: log.key.name, size: hashes.length, root: rootOf(hashes) };
  const signed = signCheckpoint(head, [log]);
  const checkpoint = addSignature(signed, witness.cosign(parseNote(signed).text, 1_767_225_600));
  const read = tileReader(hashes.length, () => Buffer.concat(hashes));
  return entries.map((entry, seq) => {
    const proof = inclusionProof(seq, hashes.length, read);
    return { ...entry, receipt: formatReceipt({ ...entry, proof, checkpoint }) };
  });
}

const anyEvent: fc.Arbitrary<Event> = fc.record(
  {
    action: fc.constantFrom("user.login", "order.create"),
    actor: fc.record(
      { id: fc.string(), name: fc.string({ unit: "grapheme" }), email: fc.string() },
      { requiredKeys: ["id"] },
    ),
    context: fc.record({ ip: fc.ipV4() }, { requiredKeys: [] }),
  },
  { requiredKeys: ["action", "actor"] },
);

test("verifyReceipt() gives back the events that were committed, whichever openings are left", () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { minLength: 1, maxLength: 12 }), fc.nat(), (events, mask) => {
      receiptsOf(events).forEach(({ leaf, receipt }, seq) => {
        const found = verifyReceipt(receipt, { logKey: log.key, witnessKeys: [witness.key], witnessQuorum: 1 });
        expect(found).toMatchObject({ understood: true, leafText: leaf, index: seq });
        expect(found.understood && found.opened.event).toEqual(events[seq]);
        const parsed = parseReceipt(receipt);
        const openings = parsed.openings.filter((_, i) => (mask >> i) % 2 === 1);
        const less = verifyReceipt(formatReceipt({ ...parsed, openings: openings.toReversed() }), { logKey: log.key });
        expect(less.leafHash).toEqual(found.leafHash);
      });
    }),
    { numRuns: 50 },
  );
});

test("a receipt with any changed byte is refused, or proves the same", () => {
  const events: Event[] = ["a", "b", "c"].map((name) => ({ action: "a.b", actor: { id: name, name } }));
  const { receipt } = receiptsOf(events)[1]!;
  const keys = { logKey: log.key, witnessKeys: [witness.key], witnessQuorum: 1 };
  const proved = verifyReceipt(receipt, keys);
  let refusals = 0;
  for (let at = 0; at < receipt.length; at++) {
    for (const char of ["0", "A", "\n"]) {
      const changed = receipt.slice(0, at) + char + receipt.slice(at + 1);
      if (changed === receipt) continue;
      try {
        expect(verifyReceipt(changed, keys)).toEqual(proved);
      } catch (error) {
        if (!(error instanceof ReceiptError)) throw error;
        refusals++;
      }
    }
  }
  expect(refusals).toBeGreaterThan(receipt.length * 2);
});

test("the cause of a refusal is kept", () => {
  const { receipt } = receiptsOf([{ action: "a.b", actor: { id: "u1" } }])[0]!;
  const stranger = noteSigner(log.key.name, new Uint8Array(32).fill(9)).key;
  expect(() => verifyReceipt(receipt, { logKey: stranger })).toThrow(
    expect.objectContaining({ code: "checkpoint", cause: expect.objectContaining({ code: "no_known_signature" }) }),
  );
  expect(() => verifyReceipt("", { logKey: log.key })).toThrow(
    expect.objectContaining({ code: "malformed", cause: expect.objectContaining({ name: "TlogProofError" }) }),
  );
});

test.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])("a quorum of %d is refused, not met", (witnessQuorum) => {
  const { receipt } = receiptsOf([{ action: "a.b", actor: { id: "u1" } }])[0]!;
  expect(() => verifyReceipt(receipt, { logKey: log.key, witnessQuorum })).toThrow(RangeError);
});

test("formatReceipt() refuses what is no leaf", () => {
  expect(() => formatReceipt({ leaf: "{}", openings: [], proof: [], checkpoint: "" })).toThrow(
    expect.objectContaining({ name: "LeafError" }),
  );
});
