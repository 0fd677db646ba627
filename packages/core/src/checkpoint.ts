import { fromBase64, toBase64 } from "./base64.ts";
import { type NoteSigner, openNote, signNote, type VerifierKey } from "./note.ts";
import { emptyRoot, HASH_BYTES, type TreeHead } from "./tree.ts";

export class CheckpointError extends Error {
  override readonly name = "CheckpointError";
  readonly code: "malformed" | "size" | "root" | "origin";

  constructor(code: CheckpointError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A log's head as it is signed (C2SP tlog-checkpoint). */
export interface Checkpoint extends TreeHead {
  /** Which log: its `<origin>/<slug>`. */
  readonly origin: string;
  /** Opaque lines after the root; none in ours, since no monitor can audit them. */
  readonly extensions: readonly string[];
}

/**
 * The text that is signed: origin, decimal size, base64 root and extension lines, each with its newline.
 * Throws {@link CheckpointError}: `malformed` for an origin or extension that is empty or holds a newline, `size` unless
 * the size is an integer from 0 to 2^53 - 1, `root` unless the root has 32 bytes and, at size 0, is the empty tree's.
 */
export function formatCheckpoint(checkpoint: Omit<Checkpoint, "extensions"> & Partial<Checkpoint>): string {
  const { origin, size, root, extensions = [] } = checkpoint;
  for (const line of [origin, ...extensions]) {
    if (line === "" || line.includes("\n"))
      throw new CheckpointError("malformed", "an origin or extension is one line");
  }
  requireHead(size, root);
  return `${[origin, size, toBase64(root), ...extensions].join("\n")}\n`;
}

/**
 * Reads what {@link formatCheckpoint} writes, from the text of a note. Throws {@link CheckpointError}: `malformed` with
 * fewer than three lines, an empty one, or no newline at the end; `size` when it is not decimal without leading zeros,
 * or above 2^53 - 1; `root` when it is not canonical base64 of 32 bytes, or is not the empty tree's at size 0.
 */
export function parseCheckpoint(text: string): Checkpoint {
  const lines = text.split("\n");
  const [origin, decimal, encoded, ...extensions] = lines.slice(0, -1);
  if (origin === undefined || decimal === undefined || encoded === undefined || lines.at(-1) !== "") {
    throw new CheckpointError("malformed", "a checkpoint has three lines or more, each with its newline");
  }
  if (origin === "" || extensions.includes(""))
    throw new CheckpointError("malformed", "a checkpoint has no empty line");
  if (!/^(0|[1-9][0-9]*)$/.test(decimal)) throw new CheckpointError("size", "the size is not a decimal number");
  const size = Number(decimal);
  let root: Uint8Array;
  try {
    root = fromBase64(encoded);
  } catch (cause) {
    throw new CheckpointError("root", "the root is not base64 (RFC 4648 section 4, padded)", { cause });
  }
  requireHead(size, root);
  return { origin, size, root, extensions };
}

/**
 * The checkpoint as a note signed by `signers`. Throws as {@link formatCheckpoint}, and NoteError `bad_text` when the
 * origin or an extension holds control characters or lone surrogates.
 */
export function signCheckpoint(
  checkpoint: Omit<Checkpoint, "extensions"> & Partial<Checkpoint>,
  signers: readonly NoteSigner[],
): string {
  return signNote(formatCheckpoint(checkpoint), signers);
}

/**
 * The checkpoint in a note that `key` signed for the log `origin`. The key alone does not name the log: one key may sign
 * for several. Throws NoteError as `openNote` does; then {@link CheckpointError} as {@link parseCheckpoint}, or `origin`
 * when it is another log's.
 */
export function openCheckpoint(note: string | Uint8Array, key: VerifierKey, origin: string): Checkpoint {
  const checkpoint = parseCheckpoint(openNote(note, [key]).text);
  if (checkpoint.origin !== origin) {
    throw new CheckpointError("origin", `the checkpoint is of log ${checkpoint.origin}, not ${origin}`);
  }
  return checkpoint;
}

function requireHead(size: number, root: Uint8Array): void {
  if (!Number.isSafeInteger(size) || size < 0) throw new CheckpointError("size", `${size} is no tree size`);
  if (root.length !== HASH_BYTES) throw new CheckpointError("root", `a root has 32 bytes, got ${root.length}`);
  if (size > 0) return;
  const empty = emptyRoot();
  if (!root.every((byte, i) => byte === empty[i])) {
    throw new CheckpointError("root", "the root of size 0 is not the empty tree's");
  }
}
