import { sha256 } from "#sha256";
import {
  bitsOf,
  RsaPssError,
  type RsaPublicKey,
  requireRsaKey,
  requireRsaSignature,
  toInteger,
} from "./rsa-pss.rules.ts";

// Verification only, and of public values only: nothing here has to take the same time for every input.

const HASH_BYTES = 32;

/**
 * Returns `message` when `signature` over it was made by RSASSA-PSS with SHA-256, MGF1 with SHA-256, and a salt of any length
 * (RFC 8017 sections 8.1.2 and 9.1.2). Throws {@link RsaPssError}: `bad_key` for a modulus of fewer than 2048 or more than
 * 8192 bits, an even one, or an exponent that is even, below 65537 or beyond 64 bits; `bad_signature` for a wrong
 * length, or when it does not verify.
 */
export function verify(message: Uint8Array, signature: Uint8Array, key: RsaPublicKey): Uint8Array {
  requireRsaKey(key);
  requireRsaSignature(signature, key);
  const [s, n] = [toInteger(signature), toInteger(key.modulus)];
  if (s >= n || !isEncodingOf(message, power(s, toInteger(key.exponent), n), bitsOf(key.modulus) - 1)) {
    throw new RsaPssError("bad_signature", "the RSA-PSS signature does not verify");
  }
  return message;
}

/** EMSA-PSS-VERIFY (RFC 8017 section 9.1.2), the salt's length as the encoding shows it. */
function isEncodingOf(message: Uint8Array, encoded: bigint, bits: number): boolean {
  const length = Math.ceil(bits / 8);
  if (encoded >> BigInt(8 * length) !== 0n) return false; // step 4's leading byte, where bits is a multiple of 8
  const em = fromInteger(encoded, length);
  const db = em.subarray(0, length - HASH_BYTES - 1);
  const h = em.subarray(db.length, length - 1);
  if (em[length - 1] !== 0xbc) return false; // step 4
  const unused = 0xff & (0xff00 >> (8 * length - bits));
  if ((db[0]! & unused) !== 0) return false; // step 6
  const mask = mgf1(h, db.length);
  for (let i = 0; i < db.length; i++) db[i]! ^= mask[i]!;
  db[0]! &= ~unused; // step 9
  const one = db.findIndex((byte) => byte !== 0); // step 10
  if (one === -1 || db[one] !== 1) return false;
  const salt = db.subarray(one + 1);
  const input = new Uint8Array(8 + HASH_BYTES + salt.length); // step 12
  input.set(sha256(message), 8);
  input.set(salt, 8 + HASH_BYTES);
  return sha256(input).every((byte, i) => byte === h[i]);
}

/** The mask generation function MGF1 with SHA-256 (RFC 8017 appendix B.2.1). */
function mgf1(seed: Uint8Array, length: number): Uint8Array {
  const mask = new Uint8Array(Math.ceil(length / HASH_BYTES) * HASH_BYTES);
  const input = new Uint8Array(seed.length + 4);
  input.set(seed);
  const counter = new DataView(input.buffer, seed.length);
  for (let i = 0; i * HASH_BYTES < length; i++) {
    counter.setUint32(0, i);
    mask.set(sha256(input), i * HASH_BYTES);
  }
  return mask.subarray(0, length);
}

/** base ^ exponent mod modulus, by squaring. */
function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n;
  for (const bit of exponent.toString(2)) {
    result = (result * result) % modulus;
    if (bit === "1") result = (result * base) % modulus;
  }
  return result;
}

/** The number in `length` big-endian bytes (I2OSP, RFC 8017 section 4.1). */
function fromInteger(value: bigint, length: number): Uint8Array {
  const hex = value.toString(16).padStart(2 * length, "0");
  return Uint8Array.from({ length }, (_, i) => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}
