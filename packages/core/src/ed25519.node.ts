import { createPrivateKey, createPublicKey, type KeyObject, sign, verify as verifySignature } from "node:crypto";
import { Ed25519Error, type Ed25519Signer, requirePublicKey, requireSeed, requireSignature } from "./ed25519.rules.ts";

// RFC 8410: the DER of a raw key is a constant prefix and the 32 bytes.
const spkiPrefix = Buffer.from("302a300506032b6570032100", "hex");
const pkcs8Prefix = Buffer.from("302e020100300506032b657004220420", "hex");

// Importing a public key costs 27 us beside a verification's 100 us. Bounded, because keys come from callers.
const maxKeptKeys = 256;
const publicKeys = new Map<string, KeyObject>();

function importPublicKey(raw: Uint8Array): KeyObject {
  const id = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString("latin1");
  let key = publicKeys.get(id);
  if (key === undefined) {
    requirePublicKey(raw);
    key = createPublicKey({ key: Buffer.concat([spkiPrefix, raw]), format: "der", type: "spki" });
    if (publicKeys.size >= maxKeptKeys) publicKeys.clear();
    publicKeys.set(id, key);
  }
  return key;
}

/**
 * Prepares a private key, given as its 32-byte seed (RFC 8032 section 5.1.5).
 * Throws {@link Ed25519Error} `bad_key` on any other length.
 */
export function signer(seed: Uint8Array): Ed25519Signer {
  requireSeed(seed);
  const key = createPrivateKey({ key: Buffer.concat([pkcs8Prefix, seed]), format: "der", type: "pkcs8" });
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  return {
    publicKey: new Uint8Array(spki.subarray(spkiPrefix.length)),
    sign: (message) => new Uint8Array(sign(null, message, key)),
  };
}

/**
 * Returns `message` when `signature` (64 bytes) over it was made by the holder of `publicKey` (32 bytes), without
 * cofactor (RFC 8032 section 5.1.7, last sentence). Throws {@link Ed25519Error}: `bad_key` for a wrong
 * length or a key of small order, `bad_signature` for a wrong length, when it does not verify, or when the key is no
 * point of the curve.
 */
export function verify(message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): Uint8Array {
  const key = importPublicKey(publicKey);
  requireSignature(signature);
  if (!verifySignature(null, message, key, signature)) {
    throw new Ed25519Error("bad_signature", "the Ed25519 signature does not verify");
  }
  return message;
}
