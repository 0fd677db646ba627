import { createHash } from "node:crypto";
import type { Sha256Stream } from "./sha256-stream.ts";

/** The hash of bytes that come piece by piece (FIPS 180-4). */
export function sha256Stream(): Sha256Stream {
  return createHash("sha256");
}
