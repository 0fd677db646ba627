import { verify as verifyEd25519 } from "#ed25519";
import { fromBase64, toBase64 } from "./base64.ts";
import { Ed25519Error } from "./ed25519.rules.ts";

/** Limits of {@link parseNote}, those of Go's `sumdb/note`; C2SP asks for 16 signatures or more. */
export const MAX_NOTE_BYTES = 1_000_000;
export const MAX_NOTE_SIGNATURES = 100;

export type NoteErrorCode =
  | "malformed"
  | "too_large"
  | "bad_text"
  | "bad_name"
  | "bad_key"
  | "ambiguous_key"
  | "no_known_signature"
  | "bad_time"
  | "bad_signature";

export class NoteError extends Error {
  override readonly name = "NoteError";
  readonly code: NoteErrorCode;

  constructor(code: NoteErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A signature line. Name and id together say which key, and by that which algorithm, made it. */
export interface NoteSignature {
  readonly name: string;
  /** Unsigned, 32 bits. */
  readonly keyId: number;
  /** What follows the key id: 64 bytes for Ed25519, anything for a type we do not know. */
  readonly signature: Uint8Array;
}

export interface Note {
  /** Ends in a newline. Means nothing until a signature over it is verified. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

/** A public key that notes are checked with, a log's for instance: Ed25519, signature type 0x01. */
export interface VerifierKey {
  /** Tells it from a witness's key (`CosignerKey`), whose signatures say something else. */
  readonly signatureType: 0x01;
  readonly name: string;
  readonly keyId: number;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** A private key that signs notes. */
export interface NoteSigner {
  readonly key: VerifierKey;
  /** The 64-byte signature over a note's text. */
  sign(text: string): Uint8Array;
}

const utf8 = new TextEncoder();
// ignoreBOM keeps a leading U+FEFF: it is part of the signed text.
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * A note of `text` with a signature by each signer, in order. Throws {@link NoteError} `bad_text` unless the text ends in
 * a newline and has no other control characters below U+0020 and no lone surrogates.
 */
export function signNote(text: string, signers: readonly NoteSigner[]): string {
  requireText(text, "bad_text");
  return formatNote({ text, signatures: signers.map((by) => ({ ...by.key, signature: by.sign(text) })) });
}

/** The note as it travels; to add a signature, format the note with one more. The note is taken as valid. */
export function formatNote({ text, signatures }: Note): string {
  return `${text}\n${signatures.map(formatSignature).join("")}`;
}

/** The line of a signature, with its newline: what a witness answers. Lines from elsewhere are read as part of a note. */
export function formatSignature({ name, keyId, signature }: NoteSignature): string {
  const bytes = new Uint8Array(4 + signature.length);
  new DataView(bytes.buffer).setUint32(0, keyId);
  bytes.set(signature, 4);
  return `— ${name} ${toBase64(bytes)}\n`;
}

/**
 * Takes a note apart without checking a signature: its text is not to be believed yet. Throws {@link NoteError}:
 * `too_large` beyond {@link MAX_NOTE_BYTES} or {@link MAX_NOTE_SIGNATURES}; `malformed` when it is not valid UTF-8, has
 * control characters, lacks the blank line or any signature line, or has a line there that is not
 * `— <name> <base64 of key id and at least one byte>`.
 */
export function parseNote(note: string | Uint8Array): Note {
  const size = typeof note === "string" ? utf8.encode(note).length : note.length;
  if (size > MAX_NOTE_BYTES) throw new NoteError("too_large", `a note has at most ${MAX_NOTE_BYTES} bytes`);
  const whole = typeof note === "string" ? note : decodeUtf8(note);
  requireText(whole, "malformed");
  // The text may hold blank lines of its own: the last one separates.
  const split = whole.lastIndexOf("\n\n");
  if (split < 0) throw new NoteError("malformed", "no blank line between text and signatures");
  const lines = whole.slice(split + 2, -1).split("\n");
  if (lines.length > MAX_NOTE_SIGNATURES) {
    throw new NoteError("too_large", `a note has at most ${MAX_NOTE_SIGNATURES} signatures`);
  }
  return { text: whole.slice(0, split + 1), signatures: lines.map(parseSignature) };
}

/**
 * Parses a note and checks every signature on it by a key in `keys`; what other keys signed is left out, checked by
 * nobody. Returns the text and the signatures that verified, at least one. Throws {@link NoteError}: as
 * {@link parseNote}; `bad_signature` when one by a known key does not verify, whatever the others do;
 * `no_known_signature` when no known key signed; `ambiguous_key` when two of `keys` have one name and id; `bad_key` for a
 * key of another signature type than 0x01.
 */
export function openNote(note: string | Uint8Array, keys: readonly VerifierKey[]): Note {
  const byName = byIdentity(keys, 0x01);
  const { text, signatures } = parseNote(note);
  const message = utf8.encode(text);
  const verified = signatures.filter((signature) => {
    const key = byName.get(identity(signature));
    if (key === undefined) return false;
    verifySignature(message, signature, key);
    return true;
  });
  if (verified.length === 0) throw new NoteError("no_known_signature", "the note has no signature by a known key");
  return { text, signatures: verified };
}

/**
 * Keys by {@link identity}. Throws {@link NoteError}: `ambiguous_key` when two have one name and id, `bad_key` for one of
 * another signature type: types keep them apart, unless the caller is JavaScript.
 */
export function byIdentity<K extends { signatureType: number; name: string; keyId: number }>(
  keys: readonly K[],
  signatureType: K["signatureType"],
): Map<string, K> {
  const byName = new Map(keys.map((key) => [identity(key), key]));
  if (byName.size < keys.length) throw new NoteError("ambiguous_key", "two keys have the same name and id");
  const other = keys.find((key) => key.signatureType !== signatureType);
  if (other !== undefined) {
    throw new NoteError("bad_key", `${identity(other)} is of type ${other.signatureType}, not ${signatureType}`);
  }
  return byName;
}

function verifySignature(message: Uint8Array, { signature }: NoteSignature, key: VerifierKey): void {
  try {
    verifyEd25519(message, signature, key.publicKey);
  } catch (cause) {
    if (!(cause instanceof Ed25519Error)) throw cause;
    throw new NoteError("bad_signature", `the signature by ${identity(key)} is wrong`, { cause });
  }
}

function parseSignature(line: string): NoteSignature {
  const [, name, encoded] = /^— ([^ ]+) ([A-Za-z0-9+/=]+)$/.exec(line) ?? [];
  if (name === undefined || encoded === undefined || !isName(name)) {
    throw new NoteError("malformed", "a signature line is not an em dash, a key name and base64");
  }
  const bytes = decodeSignature(encoded);
  if (bytes.length < 5) throw new NoteError("malformed", "a signature has a key id of 4 bytes and at least one more");
  return { name, keyId: new DataView(bytes.buffer).getUint32(0), signature: bytes.subarray(4) };
}

function decodeSignature(text: string): Uint8Array {
  try {
    return fromBase64(text);
  } catch (cause) {
    throw new NoteError("malformed", "a signature is not base64 (RFC 4648 section 4, padded)", { cause });
  }
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return strictUtf8.decode(bytes);
  } catch (cause) {
    throw new NoteError("malformed", "the note is not UTF-8", { cause });
  }
}

function requireText(text: string, code: NoteErrorCode): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what a note must not have
  if (/[\0-\x09\x0b-\x1f]/.test(text)) throw new NoteError(code, "a note has no control characters but newlines");
  if (!text.isWellFormed()) throw new NoteError(code, "a note has no lone surrogates");
  if (!text.endsWith("\n")) throw new NoteError(code, "a note ends in a newline");
}

function isName(name: string): boolean {
  return name.isWellFormed() && /^[^\p{White_Space}+\p{Cc}]+$/u.test(name);
}

/** Throws {@link NoteError} `bad_name` unless a signature line can carry the name. */
export function requireName(name: string): void {
  if (!isName(name)) throw new NoteError("bad_name", "a key name is not empty and has no white space, +, or controls");
}

/** Which key made a signature: its name and id, as a verifier key begins. */
export function identity({ name, keyId }: { name: string; keyId: number }): string {
  return `${name}+${hexId(keyId)}`;
}

/** A key id as verifier keys write it: 8 lower-case hex digits. */
export function hexId(keyId: number): string {
  return keyId.toString(16).padStart(8, "0");
}
