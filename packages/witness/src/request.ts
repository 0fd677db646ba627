/**
 * The body of add-checkpoint (C2SP tlog-witness): the size the log believes was cosigned last, the proof that its
 * checkpoint extends that tree, and the checkpoint.
 */
import { fromBase64 } from "@tallystick/core/base64";
import { type Note, parseNote } from "@tallystick/core/note";

/** What C2SP allows; a tree of 2^63 leaves needs no more. */
const MAX_PROOF_LINES = 63;

export interface AddCheckpoint {
  readonly oldSize: number;
  /** 32-byte hashes, RFC 6962 section 2.1.2. */
  readonly proof: readonly Uint8Array[];
  /** The checkpoint's signed note, verbatim. */
  readonly checkpoint: string;
  /** The same taken apart; not yet to be believed. */
  readonly note: Note;
}

/** Why a request is not one, in words for its sender. */
export class RequestError extends Error {
  override readonly name = "RequestError";
}

/** Takes a body apart. Throws {@link RequestError} for any other spelling than C2SP's. */
export function parseAddCheckpoint(body: Uint8Array): AddCheckpoint {
  const text = asText(body);
  const end = text.indexOf("\n\n");
  if (end < 0) throw new RequestError("there is no empty line before the checkpoint");
  const [first, ...lines] = text.slice(0, end).split("\n");
  const [, decimal] = /^old (0|[1-9][0-9]*)$/.exec(first!) ?? [];
  if (decimal === undefined) throw new RequestError("the first line is not `old <size>`");
  const oldSize = Number(decimal);
  if (!Number.isSafeInteger(oldSize)) throw new RequestError("the old size is beyond 2^53 - 1");
  if (lines.length > MAX_PROOF_LINES) throw new RequestError(`a proof has at most ${MAX_PROOF_LINES} lines`);
  const checkpoint = text.slice(end + 2);
  return { oldSize, proof: lines.map(parseHash), checkpoint, note: parseCheckpointNote(checkpoint) };
}

function asText(body: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch (cause) {
    throw new RequestError("the body is not UTF-8", { cause });
  }
}

function parseHash(line: string): Uint8Array {
  try {
    const hash = fromBase64(line);
    if (hash.length === 32) return hash;
  } catch (cause) {
    throw new RequestError("a line of the proof is not base64 (RFC 4648 section 4, padded)", { cause });
  }
  throw new RequestError("a line of the proof has not 32 bytes");
}

function parseCheckpointNote(checkpoint: string): Note {
  try {
    return parseNote(checkpoint);
  } catch (cause) {
    throw new RequestError(`the checkpoint is no signed note: ${(cause as Error).message}`, { cause });
  }
}
