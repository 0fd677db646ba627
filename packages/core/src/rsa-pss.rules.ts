/** Shared by both implementations of `#rsa-pss`, so that a caller's `instanceof` holds in Node and in browsers. */
export class RsaPssError extends Error {
  override readonly name = "RsaPssError";
  readonly code: "bad_key" | "bad_signature";

  constructor(code: RsaPssError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** An RSA public key (RFC 8017 section 3.1). */
export interface RsaPublicKey {
  /** Big-endian, without leading zero. */
  readonly modulus: Uint8Array;
  /** Big-endian, without leading zero. */
  readonly exponent: Uint8Array;
}

export const MIN_MODULUS_BITS = 2048;
/** A verification by a larger one takes longer than a request is worth. */
export const MAX_MODULUS_BITS = 8192;
/** 65537 (FIPS 186-5, appendix A.1.1): smaller ones have let forgeries through in implementations that check padding loosely. */
export const MIN_EXPONENT = 65_537n;
/** OpenSSL takes no larger one with a modulus of more than 3,072 bits. */
const MAX_EXPONENT_BYTES = 8;

/** Why a key is refused; {@link RsaPssError} `bad_key` has the message. */
export type RsaKeyFault = "rsa_too_small" | "rsa_too_large" | "rsa_bad_exponent" | "rsa_bad_modulus";

/** What is wrong with a key; undefined where it may be used. Whether the modulus has two prime factors nobody can tell. */
export function rsaKeyFault({ modulus, exponent }: RsaPublicKey): { code: RsaKeyFault; message: string } | undefined {
  const bits = bitsOf(modulus);
  if (bits < MIN_MODULUS_BITS) {
    return { code: "rsa_too_small", message: `the RSA key has ${bits} bits, at least ${MIN_MODULUS_BITS} are needed` };
  }
  if (bits > MAX_MODULUS_BITS) {
    return { code: "rsa_too_large", message: `the RSA key has ${bits} bits, at most ${MAX_MODULUS_BITS} are taken` };
  }
  if (modulus[0] === 0 || modulus[modulus.length - 1]! % 2 === 0) {
    return { code: "rsa_bad_modulus", message: "the RSA key's modulus is even, or has a leading zero" };
  }
  const odd = exponent.length > 0 && exponent[exponent.length - 1]! % 2 === 1;
  if (!odd || exponent[0] === 0 || exponent.length > MAX_EXPONENT_BYTES || toInteger(exponent) < MIN_EXPONENT) {
    const message = "the RSA key's public exponent must be odd, from 65537 on, and have at most 64 bits";
    return { code: "rsa_bad_exponent", message };
  }
  return undefined;
}

/** Throws {@link RsaPssError} `bad_key` for a key that {@link rsaKeyFault} finds fault with. */
export function requireRsaKey(key: RsaPublicKey): void {
  const fault = rsaKeyFault(key);
  if (fault !== undefined) throw new RsaPssError("bad_key", fault.message);
}

/** Throws {@link RsaPssError} `bad_signature` unless it is as long as the modulus (RFC 8017 section 8.1.2, step 1). */
export function requireRsaSignature(signature: Uint8Array, { modulus }: RsaPublicKey): void {
  if (signature.length === modulus.length) return;
  throw new RsaPssError(
    "bad_signature",
    `a signature by this RSA key has ${modulus.length} bytes, got ${signature.length}`,
  );
}

/** Bits of a big-endian number. */
export function bitsOf(bytes: Uint8Array): number {
  const first = bytes.findIndex((byte) => byte !== 0);
  return first === -1 ? 0 : (bytes.length - first) * 8 - (Math.clz32(bytes[first]!) - 24);
}

/** The number that big-endian bytes write (OS2IP, RFC 8017 section 4.2). */
export function toInteger(bytes: Uint8Array): bigint {
  let hex = "0x0";
  for (const byte of bytes) hex += byte.toString(16).padStart(2, "0");
  return BigInt(hex);
}
