import { signer as ed25519Signer } from "#ed25519";
import { sha256 } from "#sha256";
import { fromBase64, toBase64 } from "./base64.ts";
import { hexId, NoteError, type NoteSigner, requireName, type VerifierKey } from "./note.ts";

const ed25519Type = 0x01;
const utf8 = new TextEncoder();

/**
 * The verifier key of an Ed25519 key: key id = SHA-256(name || 0x0A || 0x01 || public key)[:4] (C2SP signed-note).
 * Throws {@link NoteError}: `bad_name` for an empty name, or one with white space, `+` or control characters; `bad_key`
 * unless the key has 32 bytes.
 */
export function verifierKey(name: string, publicKey: Uint8Array): VerifierKey {
  requireName(name);
  if (publicKey.length !== 32) throw new NoteError("bad_key", `an Ed25519 key has 32 bytes, got ${publicKey.length}`);
  const prefix = utf8.encode(`${name}\n`);
  const input = new Uint8Array([...prefix, ed25519Type, ...publicKey]);
  const keyId = new DataView(sha256(input).buffer).getUint32(0);
  return { name, keyId, publicKey: new Uint8Array(publicKey) };
}

/** The text form of a verifier key: `<name>+<key id, 8 hex digits>+<base64 of 0x01 || public key>`. */
export function formatVerifierKey({ name, keyId, publicKey }: VerifierKey): string {
  return `${name}+${hexId(keyId)}+${toBase64(new Uint8Array([ed25519Type, ...publicKey]))}`;
}

/**
 * Reads what {@link formatVerifierKey} writes. Throws {@link NoteError} `bad_key` on any other spelling, another
 * signature type than 0x01, or a key id that is not that of name and key; `bad_name` as {@link verifierKey}.
 */
export function parseVerifierKey(text: string): VerifierKey {
  const [, name, id, encoded] = /^([^+]*)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text) ?? [];
  if (name === undefined || id === undefined || encoded === undefined) {
    throw new NoteError("bad_key", "a verifier key is <name>+<8 hex digits>+<base64>");
  }
  let typed: Uint8Array;
  try {
    typed = fromBase64(encoded);
  } catch (cause) {
    throw new NoteError("bad_key", "the key is not base64 (RFC 4648 section 4, padded)", { cause });
  }
  if (typed[0] !== ed25519Type) throw new NoteError("bad_key", `signature type ${typed[0]} is not supported, only 1`);
  const key = verifierKey(name, typed.subarray(1));
  if (hexId(key.keyId) !== id) throw new NoteError("bad_key", `key id ${id} is not that of this name and key`);
  return key;
}

/** Prepares an Ed25519 private key, given as its 32-byte seed, to sign as `name`. Throws as {@link verifierKey}. */
export function noteSigner(name: string, seed: Uint8Array): NoteSigner {
  requireName(name);
  if (seed.length !== 32) throw new NoteError("bad_key", `an Ed25519 seed has 32 bytes, got ${seed.length}`);
  const signer = ed25519Signer(seed);
  return { key: verifierKey(name, signer.publicKey), sign: (text) => signer.sign(utf8.encode(text)) };
}
