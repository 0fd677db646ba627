/**
 * The proof that something is in a log, as one text that can be checked offline (C2SP tlog-proof, version 1).
 */
import { fromBase64, toBase64 } from "./base64.ts";
import { NoteError, parseNote } from "./note.ts";
import { HASH_BYTES } from "./tree.ts";

const FIRST_LINE = "c2sp.org/tlog-proof@v1";

/** Hashes in the longest inclusion proof, that of a tree of 2^63 leaves. */
const MAX_HASHES = 63;

export class TlogProofError extends Error {
  override readonly name = "TlogProofError";
  readonly code: "version" | "extra" | "index" | "hash" | "checkpoint";

  constructor(code: TlogProofError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export interface TlogProof {
  /** 0-based position of the leaf. */
  readonly index: number;
  /** 32-byte hashes, from the leaf's sibling up (RFC 6962 section 2.1.1). */
  readonly proof: readonly Uint8Array[];
  /** The signed note, verbatim. */
  readonly checkpoint: string;
  /** What the application adds; nobody vouches for it. At least one byte. */
  readonly extra?: Uint8Array;
}

/**
 * The text of a proof. The checkpoint is taken as a valid note. Throws {@link TlogProofError}: `index` unless it is an
 * integer from 0 to 2^53 - 1, `hash` unless there are at most 63 hashes of 32 bytes, `extra` for one without a byte.
 */
export function formatTlogProof({ index, proof, checkpoint, extra }: TlogProof): string {
  if (!Number.isSafeInteger(index) || index < 0) throw new TlogProofError("index", `${index} is no position in a log`);
  requireHashes(proof);
  if (extra?.length === 0) throw new TlogProofError("extra", "extra data has at least one byte, or is left out");
  const lines = [
    FIRST_LINE,
    ...(extra === undefined ? [] : [`extra ${toBase64(extra)}`]),
    `index ${index}`,
    ...proof.map(toBase64),
  ];
  return `${lines.join("\n")}\n\n${checkpoint}`;
}

/**
 * Takes a proof apart, in its one spelling; nothing of it is to be believed yet. Throws {@link TlogProofError}: `version`
 * for another first line; `extra` when what follows is not base64 of at least one byte; `index` unless the next line is
 * an index up to 2^53 - 1 without leading zeros; `hash` for what is not base64 of 32 bytes, or more than 63 hashes;
 * `checkpoint` when the empty line is missing, or what follows it is no signed note.
 */
export function parseTlogProof(text: string): TlogProof {
  const end = text.indexOf("\n\n");
  const lines = text.slice(0, end < 0 ? text.length : end).split("\n");
  if (lines.shift() !== FIRST_LINE) {
    throw new TlogProofError("version", `a proof begins with the line ${FIRST_LINE}`);
  }
  const extra = lines[0]?.startsWith("extra") ? parseExtra(lines.shift()!) : undefined;
  const index = parseIndex(lines.shift());
  if (end < 0) throw new TlogProofError("checkpoint", "no empty line between the proof and its checkpoint");
  const proof = lines.map((line) => decode("hash", line));
  requireHashes(proof);
  const checkpoint = text.slice(end + 2);
  try {
    parseNote(checkpoint);
  } catch (cause) {
    if (!(cause instanceof NoteError)) throw cause;
    throw new TlogProofError("checkpoint", `what follows the proof is no signed note: ${cause.message}`, { cause });
  }
  return { index, proof, checkpoint, ...(extra !== undefined && { extra }) };
}

function parseExtra(line: string): Uint8Array {
  const [, encoded] = /^extra ([A-Za-z0-9+/=]+)$/.exec(line) ?? [];
  if (encoded === undefined) throw new TlogProofError("extra", "the extra line is not `extra <base64>`");
  return decode("extra", encoded);
}

function parseIndex(line: string | undefined): number {
  const [, decimal] = /^index (0|[1-9][0-9]*)$/.exec(line ?? "") ?? [];
  if (decimal === undefined) throw new TlogProofError("index", "there is no line `index <decimal number>`");
  const index = Number(decimal);
  if (!Number.isSafeInteger(index)) throw new TlogProofError("index", `index ${decimal} is beyond 2^53 - 1`);
  return index;
}

function decode(code: "extra" | "hash", encoded: string): Uint8Array {
  try {
    return fromBase64(encoded);
  } catch (cause) {
    const what = code === "hash" ? "a hash" : "the extra data";
    throw new TlogProofError(code, `${what} is not base64 (RFC 4648 section 4, padded)`, { cause });
  }
}

function requireHashes(proof: readonly Uint8Array[]): void {
  if (proof.length > MAX_HASHES) throw new TlogProofError("hash", `a proof has at most ${MAX_HASHES} hashes`);
  const bad = proof.find((hash) => hash.length !== HASH_BYTES);
  if (bad !== undefined) throw new TlogProofError("hash", `a hash has ${HASH_BYTES} bytes, got ${bad.length}`);
}
