import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromHex } from "../src/hex.ts";
import { formatNote, hexId, MAX_NOTE_BYTES, openNote, parseNote, signNote } from "../src/note.ts";
import { formatVerifierKey, noteSigner, parseVerifierKey, verifierKey } from "../src/verifier-key.ts";
import { readVectors } from "./vectors.ts";

const refused = (code?: string) => expect.objectContaining({ name: "NoteError", ...(code && { code }) });
const signer = noteSigner("log.example/orders", new Uint8Array(32).fill(1));
const witness = noteSigner("witness.example", new Uint8Array(32).fill(2));

describe("vectors/note/keys.json", () => {
  const { accept, reject } = readVectors<{
    accept: { name: string; seed: string; vkey: string }[];
    reject: { name: string; vkey: string; error: string }[];
  }>("note/keys.json");
  test.each(accept)("accept: $vkey", ({ name, seed, vkey }) => {
    const { key } = noteSigner(name, fromHex(seed));
    expect(formatVerifierKey(key)).toBe(vkey);
    expect(parseVerifierKey(vkey)).toEqual(key);
  });
  test.each(reject)("reject: $name ($error)", ({ vkey, error }) => {
    expect(() => parseVerifierKey(vkey)).toThrow(refused(error));
  });
});

describe("vectors/note/notes.json", () => {
  const { accept, reject } = readVectors<{
    accept: { name: string; vkeys: string[]; note: string; text: string; verified: string[] }[];
    reject: { name: string; vkeys: string[]; note: string; error: string }[];
  }>("note/notes.json");
  test.each(accept)("accept: $name", ({ vkeys, note, text, verified }) => {
    for (const form of [note, new TextEncoder().encode(note)]) {
      const opened = openNote(form, vkeys.map(parseVerifierKey));
      expect(opened.text).toBe(text);
      expect(opened.signatures.map(({ name, keyId }) => `${name}+${hexId(keyId)}`)).toEqual(verified);
    }
    expect(formatNote(parseNote(note))).toBe(note);
  });
  test.each(reject)("reject: $name ($error)", ({ vkeys, note, error }) => {
    for (const form of [note, new TextEncoder().encode(note)]) {
      expect(() => openNote(form, vkeys.map(parseVerifierKey))).toThrow(refused(error));
    }
  });
});

test("openNote() opens what signNote() signed; any changed byte is refused or leaves the text as signed", () => {
  const line = fc.string({ unit: fc.constantFrom("a", "—", " ", "ü", "🌒", "+", "="), maxLength: 12 });
  fc.assert(
    fc.property(fc.array(line, { minLength: 1, maxLength: 5 }), fc.nat(), fc.nat(255), (lines, at, value) => {
      const text = `${lines.join("\n")}\n`;
      const note = signNote(text, [signer]);
      expect(openNote(note, [signer.key]).text).toBe(text);
      const bytes = new TextEncoder().encode(note);
      const position = at % bytes.length;
      if (bytes[position] === value) return;
      bytes[position] = value;
      expect(() => openNote(bytes, [signer.key])).toThrow(refused());
    }),
    { numRuns: 300 },
  );
});

test("signatures by unknown keys are left out; one bad signature by a known key spoils the note", () => {
  const note = signNote("text\n", [witness, signer]);
  expect(openNote(note, [signer.key]).signatures.map(({ name }) => name)).toEqual([signer.key.name]);
  expect(openNote(note, [signer.key, witness.key]).signatures.length).toBe(2);
  const { text, signatures } = parseNote(note);
  const bad = signatures.map((by) => (by.name === witness.key.name ? { ...by, signature: new Uint8Array(64) } : by));
  const spoilt = formatNote({ text, signatures: bad });
  expect(openNote(spoilt, [signer.key]).text).toBe(text);
  expect(() => openNote(spoilt, [signer.key, witness.key])).toThrow(refused("bad_signature"));
});

test("the same name with another key, or the same id with another name, is an unknown key", () => {
  const note = signNote("text\n", [signer]);
  const namesake = verifierKey(signer.key.name, witness.key.publicKey);
  expect(() => openNote(note, [namesake])).toThrow(refused("no_known_signature"));
  expect(() => openNote(note, [{ ...signer.key, name: "other" }])).toThrow(refused("no_known_signature"));
});

test("openNote() refuses two keys with one name and id", () => {
  const note = signNote("text\n", [signer]);
  const twin = { ...witness.key, name: signer.key.name, keyId: signer.key.keyId };
  expect(() => openNote(note, [signer.key, twin])).toThrow(refused("ambiguous_key"));
});

test("parseNote() reads notes to 1,000,000 bytes, not characters", () => {
  const note = signNote("text\n", [signer]);
  const padding = MAX_NOTE_BYTES - new TextEncoder().encode(note).length;
  expect(parseNote("x".repeat(padding) + note).signatures.length).toBe(1);
  expect(() => parseNote(`${"x".repeat(padding + 1)}${note}`)).toThrow(refused("too_large"));
  expect(() => parseNote(`${"€".repeat(padding / 2)}${note}`)).toThrow(refused("too_large"));
});

test("parseNote() refuses bytes that are not UTF-8, and lone surrogates", () => {
  const bytes = new TextEncoder().encode(signNote("text\n", [signer]));
  for (const bad of [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80]]) {
    expect(() => parseNote(Uint8Array.from([...bad, ...bytes]))).toThrow(refused("malformed"));
  }
  expect(() => parseNote(`\ud800${signNote("text\n", [signer])}`)).toThrow(refused("malformed"));
});

test.each(["", "no newline", "a\r\n", "a\0\n", "a\tb\n", "\ud800\n"])("signNote(%j) throws bad_text", (text) => {
  expect(() => signNote(text, [signer])).toThrow(refused("bad_text"));
});

test.each(["", "a b", "a+b", "a\n", "a\u00a0", "a\u2028", "a\u3000", "a\0", "a\u007f", "a\u009b2J", "\ud800"])(
  "a key named %j is refused",
  (name) => {
    expect(() => verifierKey(name, new Uint8Array(32))).toThrow(refused("bad_name"));
    expect(() => noteSigner(name, new Uint8Array(32))).toThrow(refused("bad_name"));
  },
);

test("keys and seeds of other lengths are refused", () => {
  expect(() => verifierKey("a", new Uint8Array(31))).toThrow(refused("bad_key"));
  expect(() => noteSigner("a", new Uint8Array(64))).toThrow(refused("bad_key"));
});
