/**
 * What is kept of an idempotency key, of the body that it came with, and of what a publisher signed: hashes that only a server of
 * this installation can make.
 *
 * They outlive an erasure by the idempotency window, and stand beside the entry. Without a secret in them, whoever has a copy of the
 * database could try names and addresses until the hash of the whole event fits.
 */
import { createHash, hash } from "node:crypto";

/** 64 characters, which stand before all that is hashed: the first block of SHA-256. */
export type ReplaySecret = string & { readonly [isReplaySecret]: true };
declare const isReplaySecret: unique symbol;

/** The same on every server that has the log key, which is in no database: a retry may come to any of them. */
export function replaySecret(logKeySeed: Uint8Array): ReplaySecret {
  return createHash("sha256").update("tallystick idempotency\0").update(logKeySeed).digest("hex") as ReplaySecret;
}

/**
 * First 16 bytes of SHA-256(secret || text), as a UUID's text.
 *
 * Not HMAC, which costs a second hash: SHA-256's weakness against it, that a hash can be continued without the secret, is none here.
 * It takes all 32 bytes of the hash, of which half are kept; and who continues it learns the hash of a longer text, nothing of
 * whether a guess at this one is right.
 */
export function replayHash(secret: ReplaySecret, text: string): string {
  const hex = hash("sha256", secret + text, "hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}
