import { ed25519 } from "@noble/curves/ed25519.js";
import { sha512 } from "@noble/hashes/sha2.js";
import { Ed25519Error, type Ed25519Signer, requirePublicKey, requireSeed, requireSignature } from "./ed25519.rules.ts";

const { Point } = ed25519;

/**
 * Prepares a private key, given as its 32-byte seed (RFC 8032 section 5.1.5).
 * Throws {@link Ed25519Error} `bad_key` on any other length.
 */
export function signer(seed: Uint8Array): Ed25519Signer {
  requireSeed(seed);
  const kept = new Uint8Array(seed);
  return { publicKey: ed25519.getPublicKey(kept), sign: (message) => ed25519.sign(message, kept) };
}

/**
 * Returns `message` when `signature` (64 bytes) over it was made by the holder of `publicKey` (32 bytes), without
 * cofactor (RFC 8032 section 5.1.7, last sentence). Throws {@link Ed25519Error}: `bad_key` for a wrong
 * length or a key of small order, `bad_signature` for a wrong length, when it does not verify, or when the key is no
 * point of the curve.
 */
export function verify(message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): Uint8Array {
  requirePublicKey(publicKey);
  requireSignature(signature);
  if (!verifies(message, signature, publicKey)) {
    throw new Ed25519Error("bad_signature", "the Ed25519 signature does not verify");
  }
  return message;
}

// noble's own verify multiplies by the cofactor, OpenSSL's (in Node) does not. With signatures made to exploit that,
// evidence would verify in one and fail in the other, so this follows OpenSSL: R' = sB - hA, compared as bytes.
function verifies(message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean {
  const r = signature.subarray(0, 32);
  const s = littleEndian(signature.subarray(32));
  if (s >= Point.Fn.ORDER) return false;
  const h = littleEndian(sha512(concat(r, publicKey, message))) % Point.Fn.ORDER;
  let a: InstanceType<typeof Point>;
  try {
    a = Point.fromBytes(publicKey, true);
  } catch {
    return false;
  }
  const found = Point.BASE.multiplyUnsafe(s).subtract(a.multiplyUnsafe(h)).toBytes();
  return found.every((byte, i) => byte === r[i]);
}

function concat(...parts: Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return value;
}
