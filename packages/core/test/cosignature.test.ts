import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatCheckpoint, openCheckpoint, signCheckpoint } from "../src/checkpoint.ts";
import { addSignature, cosigner, openCosignatures, verifyCosignature } from "../src/cosignature.ts";
import { fromHex } from "../src/hex.ts";
import { formatSignature, type NoteSignature, openNote, parseNote, signNote } from "../src/note.ts";
import { leafHash } from "../src/tree.ts";
import {
  type CosignerKey,
  cosignerKey,
  formatVerifierKey,
  noteSigner,
  parseCosignerKey,
  parseVerifierKey,
} from "../src/verifier-key.ts";
import { readVectors } from "./vectors.ts";

const refused = (code?: string) => expect.objectContaining({ name: "NoteError", ...(code && { code }) });
const log = noteSigner("log.example/orders", new Uint8Array(32).fill(1));
const witness = cosigner("witness.example", new Uint8Array(32).fill(2));
const head = { origin: "log.example/orders", size: 1, root: leafHash("a") };
const text = formatCheckpoint(head);
const note = signCheckpoint(head, [log]);

describe("vectors/cosignature/keys.json", () => {
  const { accept, reject } = readVectors<{
    accept: { name: string; seed: string; vkey: string }[];
    reject: { name: string; vkey: string; error: string }[];
  }>("cosignature/keys.json");
  test.each(accept)("accept: $vkey", ({ name, seed, vkey }) => {
    const { key } = cosigner(name, fromHex(seed));
    expect(formatVerifierKey(key)).toBe(vkey);
    expect(parseCosignerKey(vkey)).toEqual(key);
    expect(() => parseVerifierKey(vkey)).toThrow(refused("bad_key"));
  });
  test.each(reject)("reject: $name ($error)", ({ vkey, error }) => {
    expect(() => parseCosignerKey(vkey)).toThrow(refused(error));
  });
});

describe("vectors/cosignature/cosignatures.json", () => {
  const { accept, reject } = readVectors<{
    accept: { name: string; vkeys: string[]; note: string; verified: { name: string; time: number }[] }[];
    reject: { name: string; vkeys: string[]; note: string; error: string }[];
  }>("cosignature/cosignatures.json");
  test.each(accept)("accept: $name", ({ vkeys, note, verified }) => {
    const found = openCosignatures(note, vkeys.map(parseCosignerKey));
    expect(found.map(({ name, time }) => ({ name, time }))).toEqual(verified);
  });
  test.each(reject)("reject: $name ($error)", ({ vkeys, note, error }) => {
    expect(() => openCosignatures(note, vkeys.map(parseCosignerKey))).toThrow(refused(error));
  });
});

test("openCosignatures() finds what cosign() signed; the log's signature is not disturbed", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (time) => {
      const cosigned = addSignature(note, witness.cosign(text, time));
      expect(openCosignatures(cosigned, [witness.key])).toEqual([{ name: "witness.example", time, key: witness.key }]);
      expect(openCheckpoint(cosigned, log.key, head.origin).size).toBe(1);
    }),
  );
});

test("a witness's answer can be read as part of the note", () => {
  const line = formatSignature(witness.cosign(text, 1));
  expect(line).toMatch(/^— witness\.example \S+\n$/);
  expect(parseNote(note + line)).toEqual(parseNote(addSignature(note, witness.cosign(text, 1))));
});

test("any changed bit of time, signature or text is refused", () => {
  const by = witness.cosign(text, 1_700_000_000);
  for (let bit = 0; bit < 8 * by.signature.length; bit++) {
    const signature = new Uint8Array(by.signature);
    signature[bit >> 3]! ^= 1 << (bit & 7);
    expect(() => verifyCosignature(text, { ...by, signature }, witness.key)).toThrow(refused());
  }
  for (const other of [text.slice(0, -1), `${text}\n`, formatCheckpoint({ ...head, size: 2 })]) {
    expect(() => verifyCosignature(other, by, witness.key)).toThrow(refused("bad_signature"));
  }
});

test("a signature cut short or long is refused", () => {
  const by = witness.cosign(text, 1);
  for (const signature of [
    by.signature.subarray(8),
    by.signature.subarray(0, 71),
    new Uint8Array([...by.signature, 0]),
  ]) {
    expect(() => verifyCosignature(text, { ...by, signature }, witness.key)).toThrow(refused("bad_signature"));
  }
});

test("no key serves as log's and as witness's: the ids differ, and what one signed the other did not", () => {
  const seed = new Uint8Array(32).fill(3);
  const [asLog, asWitness] = [noteSigner("both.example", seed), cosigner("both.example", seed)];
  expect(asLog.key.keyId).not.toBe(asWitness.key.keyId);
  const signed = signNote(text, [asLog]);
  const cosigned = addSignature(signed, asWitness.cosign(text, 1));
  expect(openCosignatures(signed, [asWitness.key])).toEqual([]);
  expect(openNote(cosigned, [asLog.key]).signatures.length).toBe(1);
  // What types refuse, in JavaScript.
  const wrongWitness = asLog.key as unknown as CosignerKey;
  expect(() => openCosignatures(cosigned, [wrongWitness])).toThrow(refused("bad_key"));
  expect(() => verifyCosignature(text, asWitness.cosign(text, 1), wrongWitness)).toThrow(refused("bad_key"));
  expect(() => openNote(cosigned, [asWitness.key as never])).toThrow(refused("bad_key"));
});

test("another witness's cosignature is left out; a wrong one by a known witness spoils the rest", () => {
  const other = cosigner("other.example", new Uint8Array(32).fill(4));
  const both = addSignature(addSignature(note, other.cosign(text, 1)), witness.cosign(text, 2));
  expect(openCosignatures(both, [witness.key]).map(({ time }) => time)).toEqual([2]);
  const wrong: NoteSignature = { ...other.cosign(text, 1), signature: new Uint8Array(72) };
  const spoilt = addSignature(addSignature(note, wrong), witness.cosign(text, 2));
  expect(openCosignatures(spoilt, [witness.key]).length).toBe(1);
  expect(() => openCosignatures(spoilt, [witness.key, other.key])).toThrow(refused("bad_signature"));
});

test("the same name with another key, or another name with the same key, is another witness", () => {
  const by = witness.cosign(text, 1);
  const namesake = cosigner("witness.example", new Uint8Array(32).fill(5)).key;
  const renamed = cosignerKey("witness2.example", witness.key.publicKey);
  for (const key of [namesake, renamed]) {
    expect(() => verifyCosignature(text, by, key)).toThrow(refused("no_known_signature"));
  }
  const twins = [witness.key, { ...namesake, keyId: witness.key.keyId }];
  expect(() => openCosignatures(note, twins)).toThrow(refused("ambiguous_key"));
});

test.each([-1, 0.5, Number.NaN, 2 ** 53])("cosign() refuses the time %d", (time) => {
  expect(() => witness.cosign(text, time)).toThrow(refused("bad_time"));
});
