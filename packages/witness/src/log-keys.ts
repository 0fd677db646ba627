/**
 * The logs that a witness knows: verifier keys, each of whose names is a log's origin.
 */

import type { NoteError, VerifierKey } from "@tallystick/core/note";
import { formatVerifierKey, parseVerifierKey } from "@tallystick/core/verifier-key";
import { WitnessError } from "./witness-error.ts";

/** By origin; a log has several keys while one is being replaced. */
export type LogKeys = ReadonlyMap<string, readonly VerifierKey[]>;

/**
 * Logs out of verifier keys as texts.
 * @throws {WitnessError} `logs`: one is no verifier key of a log, or there is none.
 */
export function parseLogKeys(texts: readonly string[]): LogKeys {
  const logs = new Map<string, VerifierKey[]>();
  const seen = new Set<string>();
  for (const text of texts) {
    const key = parse(text);
    if (seen.has(formatVerifierKey(key))) continue;
    seen.add(formatVerifierKey(key));
    logs.set(key.name, [...(logs.get(key.name) ?? []), key]);
  }
  if (logs.size === 0) {
    throw new WitnessError("logs", "no log to witness: name one by --log, or several in a file by --logs");
  }
  return logs;
}

/** The lines of a file of verifier keys, one a line; blank lines and those that begin with # are left out. */
export function logKeyLines(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}

function parse(text: string): VerifierKey {
  try {
    return parseVerifierKey(text);
  } catch (cause) {
    const what = `${JSON.stringify(text)} is no log's verifier key (${(cause as NoteError).message})`;
    throw new WitnessError("logs", `${what}: copy it from the log, <origin>+<8 hex digits>+<base64>`, { cause });
  }
}
