/**
 * Receipts: the client's half of the stick. A tlog-proof whose extra data carries the leaf, and the openings that its
 * reader may see (docs/spec, sections 3 and 4).
 */
import { fromBase64, toBase64 } from "./base64.ts";
import { canonicalize } from "./canonical.ts";
import { type Checkpoint, openCheckpoint } from "./checkpoint.ts";
import { type Opening, openLeaf } from "./commitment.ts";
import { type Cosignature, openCosignatures } from "./cosignature.ts";
import { toHex } from "./hex.ts";
import { decodeUtf8, type JsonObject, type JsonValue, parseJson } from "./json.ts";
import { type Leaf, parseLeaf } from "./leaf.ts";
import type { VerifierKey } from "./note.ts";
import { verifyInclusion } from "./proof.ts";
import { formatTlogProof, parseTlogProof, type TlogProof } from "./tlog-proof.ts";
import { leafHash } from "./tree.ts";
import type { CosignerKey } from "./verifier-key.ts";

/** The version of leaves whose meaning is known here. */
const KNOWN_VERSION = 1;
const MIN_SALT_BYTES = 16;

/**
 * What is wrong with a receipt:
 * - `malformed`: it is no tlog-proof, or its extra data is not the leaf and its openings
 * - `checkpoint`: not signed by the log's key, no checkpoint, or another log's
 * - `inclusion`: the leaf is not in the tree of the checkpoint, at that index
 * - `leaf`: it is in the tree, and is no leaf
 * - `log`, `index`: the leaf says it belongs to another log, or to another position
 * - `opening`: one fits no commitment of the leaf
 * - `cosignature`: one by a known witness is wrong
 * - `quorum`: too few known witnesses have cosigned
 */
export type ReceiptErrorCode =
  | "malformed"
  | "checkpoint"
  | "inclusion"
  | "leaf"
  | "log"
  | "index"
  | "opening"
  | "cosignature"
  | "quorum";

export class ReceiptError extends Error {
  override readonly name = "ReceiptError";
  readonly code: ReceiptErrorCode;

  constructor(code: ReceiptErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A receipt taken apart; nothing of it is to be believed yet. */
export interface Receipt extends Omit<TlogProof, "extra"> {
  /** The leaf's text. */
  readonly leaf: string;
  /** By pointer. */
  readonly openings: readonly Opening[];
}

/** Whose word counts. */
export interface ReceiptTrust {
  /** Its name is the log's. */
  readonly logKey: VerifierKey;
  /** Witnesses whose cosignatures are looked at; none unless given. */
  readonly witnessKeys?: readonly CosignerKey[];
  /** How many of them must have cosigned; 0 unless given. */
  readonly witnessQuorum?: number;
}

interface Proved {
  /** The text that is in the log, byte for byte. */
  readonly leafText: string;
  /** 32 bytes. */
  readonly leafHash: Uint8Array;
  /** 0-based position in the log. */
  readonly index: number;
  readonly checkpoint: Pick<Checkpoint, "origin" | "size" | "root">;
  /** By known witnesses, in the checkpoint's order. */
  readonly cosignatures: readonly Cosignature[];
}

/**
 * What a receipt proves. Where `understood` is false, the leaf's version is not known here: its bytes are in the log at
 * that index, but what they mean, their openings included, was not looked at.
 */
export type VerifiedReceipt = Proved &
  (
    | {
        readonly understood: true;
        readonly leaf: Leaf;
        /** The leaf with the openings in place. */
        readonly opened: Leaf;
      }
    | { readonly understood: false; readonly version: JsonValue | undefined }
  );

/**
 * The text of a receipt. Leaf, proof and checkpoint are taken as they are; the index is the leaf's `seq`, and openings may
 * come in any order. Throws LeafError for what is no leaf, TlogProofError as `formatTlogProof`.
 */
export function formatReceipt(receipt: Omit<Receipt, "index">): string {
  const { leaf, openings, proof, checkpoint } = receipt;
  const sorted = openings
    .map(({ pointer, salt, value }) => ({ pointer, salt: toBase64(salt), value }))
    .sort((a, b) => (a.pointer < b.pointer ? -1 : 1));
  const extra = new TextEncoder().encode(canonicalize({ leaf, openings: sorted }));
  return formatTlogProof({ index: parseLeaf(leaf).seq, proof, checkpoint, extra });
}

/** Takes a receipt apart. Throws {@link ReceiptError} `malformed` for any other text than {@link formatReceipt} writes. */
export function parseReceipt(text: string): Receipt {
  return orThrow("malformed", "the receipt is malformed", () => {
    const { extra, ...proof } = parseTlogProof(text);
    if (extra === undefined) throw new SyntaxError("there is no extra data");
    return { ...proof, ...parseExtra(decodeUtf8(extra)) };
  });
}

/**
 * Checks a receipt, and returns what it proves: that the log's key signed a tree with this leaf at this index, and which
 * witnesses saw that tree. Throws {@link ReceiptError}, and `RangeError` for a quorum that is no whole number from 0.
 */
export function verifyReceipt(text: string, trust: ReceiptTrust): VerifiedReceipt {
  const { logKey, witnessKeys = [], witnessQuorum = 0 } = trust;
  // Any comparison with NaN is false: a quorum that was computed wrong would let everything through.
  if (!Number.isSafeInteger(witnessQuorum) || witnessQuorum < 0) throw new RangeError(`no quorum: ${witnessQuorum}`);
  const { leaf: leafText, openings, index, proof, checkpoint: note } = parseReceipt(text);
  const { origin, size, root } = orThrow("checkpoint", "the checkpoint is not the log's", () =>
    openCheckpoint(note, logKey, logKey.name),
  );
  const hash = leafHash(leafText);
  orThrow("inclusion", `the leaf is not at index ${index} of the signed tree`, () =>
    verifyInclusion({ leafIndex: index, treeSize: size, leafHash: hash, root, proof }),
  );
  const cosignatures = openWitnesses(note, witnessKeys, witnessQuorum);
  const proved = { leafText, leafHash: hash, index, checkpoint: { origin, size, root }, cosignatures };
  const version = versionOf(leafText);
  if (version !== KNOWN_VERSION) return { ...proved, understood: false, version };
  const leaf = orThrow("leaf", "the logged bytes are no leaf", () => parseLeaf(leafText, { canonical: true }));
  if (leaf.log !== origin) throw new ReceiptError("log", `the leaf is of log ${leaf.log}, in the tree of ${origin}`);
  if (leaf.seq !== index) throw new ReceiptError("index", `the leaf says seq ${leaf.seq}, and stands at ${index}`);
  const opened = parseLeaf(leafText);
  const [misfit] = openLeaf(opened, openings);
  if (misfit !== undefined) throw new ReceiptError("opening", `the opening of ${misfit} fits no commitment there`);
  return { ...proved, understood: true, leaf, opened };
}

function openWitnesses(note: string, keys: readonly CosignerKey[], quorum: number): Cosignature[] {
  const found = orThrow("cosignature", "a cosignature is wrong", () => openCosignatures(note, keys));
  // A cosignature does not commit to a name: one key under two names is one witness.
  const witnesses = new Set(found.map(({ key }) => toHex(key.publicKey))).size;
  if (witnesses < quorum) {
    throw new ReceiptError("quorum", `${witnesses} known witnesses have cosigned, ${quorum} are required`);
  }
  return found.map(({ name, time }) => ({ name, time }));
}

function versionOf(leafText: string): JsonValue | undefined {
  const leaf = orThrow("leaf", "the logged bytes are no leaf", () => JSON.parse(leafText) as JsonValue);
  if (!isObject(leaf)) throw new ReceiptError("leaf", "the logged bytes are no leaf: not a JSON object");
  return leaf.v;
}

function parseExtra(text: string): { leaf: string; openings: Opening[] } {
  const { leaf, openings } = record(parseJson(text), ["leaf", "openings"]);
  if (typeof leaf !== "string" || !Array.isArray(openings)) throw new SyntaxError("leaf or openings is missing");
  if (canonicalize({ leaf, openings }) !== text) throw new SyntaxError("the extra data is not in RFC 8785 form");
  let last = "";
  return {
    leaf,
    openings: openings.map((item) => {
      const { pointer, salt, value } = record(item, ["pointer", "salt", "value"]);
      if (typeof pointer !== "string" || typeof salt !== "string" || typeof value !== "string") {
        throw new SyntaxError("an opening has pointer, salt and value, all strings");
      }
      if (pointer <= last) throw new SyntaxError("openings are sorted by pointer, each pointer once");
      last = pointer;
      return { pointer, salt: parseSalt(salt), value: requireCanonical(value) };
    }),
  };
}

function parseSalt(encoded: string): Uint8Array {
  const salt = fromBase64(encoded);
  if (salt.length < MIN_SALT_BYTES) throw new SyntaxError(`a salt has ${MIN_SALT_BYTES} bytes or more`);
  return salt;
}

function requireCanonical(value: string): string {
  // Duplicate members do not survive the round trip.
  if (canonicalize(JSON.parse(value)) !== value) throw new SyntaxError("an opened value is not in RFC 8785 form");
  return value;
}

/** An object with these members and no others, of any type. */
function record<K extends string>(value: JsonValue | undefined, keys: readonly K[]): Record<K, JsonValue | undefined> {
  if (!isObject(value) || Object.keys(value).some((key) => !(keys as readonly string[]).includes(key))) {
    throw new SyntaxError(`not an object of ${keys.join(", ")}`);
  }
  return value as Record<K, JsonValue | undefined>;
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What `check` returns; what it throws becomes the cause of a {@link ReceiptError} with this code. */
function orThrow<T>(code: ReceiptErrorCode, what: string, check: () => T): T {
  try {
    return check();
  } catch (cause) {
    throw new ReceiptError(code, `${what}: ${(cause as Error).message}`, { cause });
  }
}
