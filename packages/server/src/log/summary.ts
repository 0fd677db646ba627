import { toHex } from "@tallystick/core/hex";
import type { Entry } from "./reader.ts";

/** An entry as lists and exports show it (docs/spec, section 5). */
export function entrySummary({ id, seq, recordedAt, leafHash, opened }: Entry) {
  return { id, seq, recorded_at: recordedAt, leaf_hash: toHex(leafHash), service: opened.service, event: opened.event };
}
