import { constants, createPublicKey, type KeyObject, verify as verifySignature } from "node:crypto";
import { RsaPssError, type RsaPublicKey, requireRsaKey, requireRsaSignature } from "./rsa-pss.rules.ts";

// Importing a public key costs as much as a verification. Bounded, because keys come from callers.
const maxKeptKeys = 256;
const publicKeys = new Map<string, KeyObject>();

const base64url = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url");

function importPublicKey(key: RsaPublicKey): KeyObject {
  const [n, e] = [base64url(key.modulus), base64url(key.exponent)];
  const id = `${n}.${e}`;
  let imported = publicKeys.get(id);
  if (imported === undefined) {
    requireRsaKey(key);
    imported = createPublicKey({ key: { kty: "RSA", n, e }, format: "jwk" });
    if (publicKeys.size >= maxKeptKeys) publicKeys.clear();
    publicKeys.set(id, imported);
  }
  return imported;
}

/**
 * Returns `message` when `signature` over it was made by RSASSA-PSS with SHA-256, MGF1 with SHA-256, and a salt of any length
 * (RFC 8017 sections 8.1.2 and 9.1.2). Throws {@link RsaPssError}: `bad_key` for a modulus of fewer than 2048 or more than
 * 8192 bits, an even one, or an exponent that is even, below 65537 or beyond 64 bits; `bad_signature` for a wrong
 * length, or when it does not verify.
 */
export function verify(message: Uint8Array, signature: Uint8Array, key: RsaPublicKey): Uint8Array {
  const imported = importPublicKey(key);
  requireRsaSignature(signature, key);
  const how = { key: imported, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_AUTO };
  if (!verifySignature("sha256", message, how, signature)) {
    throw new RsaPssError("bad_signature", "the RSA-PSS signature does not verify");
  }
  return message;
}
