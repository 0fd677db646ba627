import { sha256 } from "@noble/hashes/sha2.js";

/** A SHA-256 (FIPS 180-4) in the making. */
export interface Sha256Stream {
  update(data: Uint8Array): void;
  /** 32 fresh bytes; nothing can be added afterwards. */
  digest(): Uint8Array;
}

/** The hash of bytes that come piece by piece. Where `node:crypto` exists, `#sha256-stream` resolves to its hash instead. */
export function sha256Stream(): Sha256Stream {
  return sha256.create();
}
