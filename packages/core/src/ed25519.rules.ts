import { toHex } from "./hex.ts";

/** Shared by both implementations of `#ed25519`, so that a caller's `instanceof` holds in Node and in browsers. */
export class Ed25519Error extends Error {
  override readonly name = "Ed25519Error";
  readonly code: "bad_key" | "bad_signature";

  constructor(code: Ed25519Error["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A private key that is ready to sign. */
export interface Ed25519Signer {
  /** 32 bytes, RFC 8032 section 5.1.5. */
  readonly publicKey: Uint8Array;
  /** The 64-byte signature (RFC 8032 section 5.1.6) over `message`; the same message always gives the same bytes. */
  sign(message: Uint8Array): Uint8Array;
}

/** Throws {@link Ed25519Error} `bad_key` unless `seed` has 32 bytes. */
export function requireSeed(seed: Uint8Array): void {
  if (seed.length !== 32) throw new Ed25519Error("bad_key", `an Ed25519 seed has 32 bytes, got ${seed.length}`);
}

// The y coordinates, with their non-canonical spellings, of the eight points of small order; hex, sign bit cleared.
const smallOrder = new Set([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]);

/**
 * Throws {@link Ed25519Error} `bad_key` unless `publicKey` has 32 bytes and is not of small order. Anyone can sign by a
 * key of small order; OpenSSL 3.5 refuses it, 3.0 (Node 20) does not, and evidence must verify the same everywhere.
 */
export function requirePublicKey(publicKey: Uint8Array): void {
  if (publicKey.length !== 32) {
    throw new Ed25519Error("bad_key", `an Ed25519 key has 32 bytes, got ${publicKey.length}`);
  }
  const y = new Uint8Array(publicKey);
  y[31]! &= 0x7f;
  if (smallOrder.has(toHex(y))) throw new Ed25519Error("bad_key", "the key is of small order: anyone can sign by it");
}

/** Throws {@link Ed25519Error} `bad_signature` unless `signature` has 64 bytes. */
export function requireSignature(signature: Uint8Array): void {
  if (signature.length === 64) return;
  throw new Ed25519Error("bad_signature", `an Ed25519 signature has 64 bytes, got ${signature.length}`);
}
