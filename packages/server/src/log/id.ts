/**
 * Entry ids: UUIDv7 (RFC 9562, section 5.7) whose time part is the millisecond of the entry's recorded_at.
 */
import { randomFillSync } from "node:crypto";

const RANDOM_BYTES = 10;
const pool = Buffer.allocUnsafe(RANDOM_BYTES * 1024);
let at = pool.length;

/** A new id. Its 74 random bits come from a CSPRNG: they make the leaf hash impossible to guess from the event. */
export function entryId(recordedAtMs: number): string {
  if (at === pool.length) {
    randomFillSync(pool);
    at = 0;
  }
  const random = pool.subarray(at, at + RANDOM_BYTES);
  at += RANDOM_BYTES;
  random[0] = (random[0]! & 0x0f) | 0x70; // version 7
  random[2] = (random[2]! & 0x3f) | 0x80; // variant 10
  const time = recordedAtMs.toString(16).padStart(12, "0");
  const hex = random.toString("hex");
  return `${time.slice(0, 8)}-${time.slice(8)}-${hex.slice(0, 4)}-${hex.slice(4, 8)}-${hex.slice(8)}`;
}

/** The millisecond in an id's time part. */
export function entryIdTimeMs(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}
