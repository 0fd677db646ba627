import { signer as ed25519Signer } from "#ed25519";
import { sha256 } from "#sha256";
import { fromBase64, toBase64 } from "./base64.ts";
import type { Ed25519Signer } from "./ed25519.rules.ts";
import { hexId, NoteError, type NoteSigner, requireName, type VerifierKey } from "./note.ts";

const utf8 = new TextEncoder();
const ED25519 = 0x01;
const COSIGNATURE = 0x04;

/** What vouches for what by keys of a type, for messages. */
const HOLDERS = { [ED25519]: "a log's key", [COSIGNATURE]: "a witness's key" } as const;

type SignatureType = keyof typeof HOLDERS;

/** A public key that a witness's cosignatures are checked with (C2SP tlog-cosignature): Ed25519, signature type 0x04. */
export interface CosignerKey {
  readonly signatureType: typeof COSIGNATURE;
  readonly name: string;
  readonly keyId: number;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
}

/**
 * The verifier key of an Ed25519 key: key id = SHA-256(name || 0x0A || 0x01 || public key)[:4] (C2SP signed-note).
 * Throws {@link NoteError}: `bad_name` for an empty name, or one with white space, `+` or control characters; `bad_key`
 * unless the key has 32 bytes.
 */
export function verifierKey(name: string, publicKey: Uint8Array): VerifierKey {
  return { signatureType: ED25519, ...identify(ED25519, name, publicKey) };
}

/** As {@link verifierKey}, of a witness: the type in the key id is 0x04 (C2SP tlog-cosignature). */
export function cosignerKey(name: string, publicKey: Uint8Array): CosignerKey {
  return { signatureType: COSIGNATURE, ...identify(COSIGNATURE, name, publicKey) };
}

function identify(type: SignatureType, name: string, publicKey: Uint8Array) {
  requireName(name);
  if (publicKey.length !== 32) throw new NoteError("bad_key", `an Ed25519 key has 32 bytes, got ${publicKey.length}`);
  const prefix = utf8.encode(`${name}\n`);
  const input = new Uint8Array([...prefix, type, ...publicKey]);
  const keyId = new DataView(sha256(input).buffer).getUint32(0);
  return { name, keyId, publicKey: new Uint8Array(publicKey) };
}

/** The text form of a key: `<name>+<key id, 8 hex digits>+<base64 of signature type || public key>`. */
export function formatVerifierKey({ signatureType, name, keyId, publicKey }: VerifierKey | CosignerKey): string {
  return `${name}+${hexId(keyId)}+${toBase64(new Uint8Array([signatureType, ...publicKey]))}`;
}

/**
 * Reads what {@link formatVerifierKey} writes. Throws {@link NoteError} `bad_key` on any other spelling, another
 * signature type than 0x01, or a key id that is not that of name and key; `bad_name` as {@link verifierKey}.
 */
export function parseVerifierKey(text: string): VerifierKey {
  return { signatureType: ED25519, ...parseKey(ED25519, text) };
}

/** As {@link parseVerifierKey}, of a witness: the signature type is 0x04. */
export function parseCosignerKey(text: string): CosignerKey {
  return { signatureType: COSIGNATURE, ...parseKey(COSIGNATURE, text) };
}

function parseKey(type: SignatureType, text: string) {
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
  if (typed[0] !== type) {
    const found = HOLDERS[typed[0] as SignatureType] ?? "not supported";
    throw new NoteError("bad_key", `signature type ${typed[0]} is ${found}; ${HOLDERS[type]} has type ${type}`);
  }
  const key = identify(type, name, typed.subarray(1));
  if (hexId(key.keyId) !== id) throw new NoteError("bad_key", `key id ${id} is not that of this name and key`);
  return key;
}

/** Prepares an Ed25519 private key, given as its 32-byte seed, to sign as `name`. Throws as {@link verifierKey}. */
export function noteSigner(name: string, seed: Uint8Array): NoteSigner {
  const signer = seedSigner(name, seed);
  return { key: verifierKey(name, signer.publicKey), sign: (text) => signer.sign(utf8.encode(text)) };
}

/** An Ed25519 key that signs as `name`. Throws {@link NoteError}: `bad_name`, or `bad_key` unless the seed has 32 bytes. */
export function seedSigner(name: string, seed: Uint8Array): Ed25519Signer {
  requireName(name);
  if (seed.length !== 32) throw new NoteError("bad_key", `an Ed25519 seed has 32 bytes, got ${seed.length}`);
  return ed25519Signer(seed);
}
