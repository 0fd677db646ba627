import { sha256 as nobleSha256 } from "@noble/hashes/sha2.js";
import { toHex } from "./hex.ts";

const utf8 = new TextEncoder();

/**
 * SHA-256 (FIPS 180-4) of bytes, or of a string's UTF-8 form (lone surrogates hash as U+FFFD).
 * Returns 32 fresh bytes. Never throws on well-typed input. Where `node:crypto` exists, `#sha256` resolves to
 * `sha256.node.ts` instead, which is five to seven times as fast.
 */
export function sha256(data: Uint8Array | string): Uint8Array {
  return nobleSha256(typeof data === "string" ? utf8.encode(data) : data);
}

/** As {@link sha256}, written as 64 lower-case hex digits. */
export function sha256Hex(data: Uint8Array | string): string {
  return toHex(sha256(data));
}
