/**
 * Evidence: entries of a log in one file, with everything that is needed to check them without a server (docs/evidence.md).
 *
 * Lines of JSON, so that a file of any size is written and checked in memory that does not grow with it. A header, the
 * publisher keys' history, the entries, and a manifest, without which the file is seen to be broken.
 */
import { sha256Stream } from "#sha256-stream";
import { fromBase64, toBase64 } from "./base64.ts";
import { canonicalize } from "./canonical.ts";
import { commitmentsIn, type Opening } from "./commitment.ts";
import { isDeeperThan } from "./depth.ts";
import type { Parameters } from "./filter-parameters.ts";
import { toHex } from "./hex.ts";
import { type JsonObject, type JsonValue, MAX_DEPTH } from "./json.ts";
import type { RangeProof } from "./range-proof.ts";

export const EVIDENCE_FORMAT = "tallystick-evidence/v1";
export const EVIDENCE_MEDIA_TYPE = "application/vnd.tallystick.evidence+ndjson";
export const EVIDENCE_EXTENSION = ".evidence.ndjson";

/** Of the salts that stand behind commitments (docs/spec, section 3). */
const MIN_SALT_BYTES = 16;

/** Which entries the file has, as positions of the log. */
export type EvidenceSelection =
  /** All of [from, to): the range proof shows that none is missing. `asked`: the parameters it was asked for by. */
  | {
      readonly kind: "range";
      readonly from: number;
      readonly to: number;
      readonly asked: Parameters;
    }
  /** Those of [from, to) that the filter lets through; nothing shows that none is missing. */
  | {
      readonly kind: "filter";
      readonly from: number;
      readonly to: number;
      readonly filter: Parameters;
    };

export interface EvidenceHeader {
  readonly kind: "header";
  /** The log's name, `<origin>/<slug>`. */
  readonly log: string;
  /** The log's key, as the file says; whoever wants to rely on it has it from elsewhere. */
  readonly verifierKey: string;
  /** Keys of the witnesses that are known to the server, as the file says. */
  readonly witnessKeys: readonly string[];
  /** The signed note, cosignatures included, that all proofs lead to. */
  readonly checkpoint: string;
  readonly selection: EvidenceSelection;
  /** With a selection by range. */
  readonly rangeProof?: RangeProof;
  /** RFC 3339 UTC. The server's word. */
  readonly createdAt: string;
  /** The program that wrote the file. */
  readonly generator: string;
}

/** A line that carries a leaf. */
interface LeafLine {
  /** The leaf's text, byte for byte. */
  readonly leaf: string;
  /** 64 hex digits; beside the leaf so that, of a whole range, the one entry that was changed can be named. */
  readonly leafHash: string;
}

/**
 * The log before: whose keys' history goes on in this one. The leaf is the first entry of the log that the lines so far lead to,
 * the file's own at first; it names the log before.
 */
export interface EvidencePredecessor extends LeafLine {
  readonly kind: "predecessor";
  readonly proof: readonly Uint8Array[];
  /** A signed checkpoint of the log before, which proofs of its entries lead to. */
  readonly checkpoint: string;
}

/**
 * An entry of the service `tallystick`, wherever it stands in its log: all of them, from the first of its chain on, those that tell of
 * publishers' keys among them. Oldest log first.
 */
export interface EvidenceKeyChange extends LeafLine {
  readonly kind: "key_history";
  readonly proof: readonly Uint8Array[];
}

export interface EvidenceEntry extends LeafLine {
  readonly kind: "entry";
  /** By pointer; of erased values there is none. */
  readonly openings: readonly Opening[];
  /** Inclusion proof; only with a selection by filter. */
  readonly proof?: readonly Uint8Array[];
}

/** What the file holds. */
export interface EvidenceCounts {
  readonly entries: number;
  readonly openings: number;
  /** Commitments without an opening. */
  readonly erased: number;
  /** Entries that their publisher signed. */
  readonly signed: number;
}

export interface EvidenceManifest extends EvidenceCounts {
  readonly kind: "manifest";
  /** Hex SHA-256 of all bytes of the file before this line. */
  readonly sha256: string;
}

export type EvidenceLine = EvidenceHeader | EvidencePredecessor | EvidenceKeyChange | EvidenceEntry | EvidenceManifest;

/** Why a line is none of this format. */
export class EvidenceError extends Error {
  override readonly name = "EvidenceError";
  /** `newer`: a format, a kind of line or a member that this version does not know; else `malformed`. */
  readonly code: "malformed" | "newer";

  constructor(code: EvidenceError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * A line's text, with its newline: the RFC 8785 form with each `<` written as `\u003c`, so that the same bytes can stand
 * in a script element of an HTML page.
 */
function lineOf(value: JsonObject): string {
  return `${spell(value)}\n`;
}

function spell(value: JsonValue): string {
  return canonicalize(value).replaceAll("<", "\\u003c");
}

/** Writes the lines of a file, in order: header, logs before, key history, entries, manifest. */
export class EvidenceWriter {
  readonly #utf8 = new TextEncoder();
  readonly #hash = sha256Stream();
  readonly #counts = { entries: 0, openings: 0, erased: 0, signed: 0 };

  header(header: Omit<EvidenceHeader, "kind">): string {
    const { log, verifierKey, witnessKeys, checkpoint, selection, rangeProof, createdAt, generator } = header;
    return this.#hashed({
      kind: "header",
      format: EVIDENCE_FORMAT,
      log,
      verifier_key: verifierKey,
      witness_keys: [...witnessKeys],
      checkpoint,
      selection: selection as JsonObject,
      ...(rangeProof !== undefined && {
        range_proof: { left: rangeProof.left.map(toBase64), right: rangeProof.right.map(toBase64) },
      }),
      created_at: createdAt,
      generator,
    });
  }

  /** The log before the one that the lines so far lead to: that one's first entry, and a checkpoint of the log before. */
  predecessor(leaf: string, hash: Uint8Array, proof: readonly Uint8Array[], checkpoint: string): string {
    const proved = { leaf, leaf_hash: toHex(hash), proof: proof.map(toBase64) };
    return this.#hashed({ kind: "predecessor", ...proved, checkpoint });
  }

  /** An entry of the server's own, with its leaf's hash. */
  keyChange(leaf: string, hash: Uint8Array, proof: readonly Uint8Array[]): string {
    return this.#hashed({ kind: "key_history", leaf, leaf_hash: toHex(hash), proof: proof.map(toBase64) });
  }

  /**
   * An entry, with its leaf's hash as it is stored; its openings in any order, its inclusion proof where the selection is by
   * filter. Whether they fit together whoever reads the file will see: a log that was tampered with makes a file that says so.
   */
  entry(leaf: string, hash: Uint8Array, openings: readonly Opening[], proof?: readonly Uint8Array[]): string {
    const { publisher, commitments } = contentsOf(leaf);
    this.#counts.entries += 1;
    this.#counts.openings += openings.length;
    for (const { pointer } of openings) commitments.delete(pointer);
    this.#counts.erased += commitments.size;
    if (publisher !== undefined) this.#counts.signed += 1;
    return this.#hashed({
      kind: "entry",
      leaf,
      leaf_hash: toHex(hash),
      openings: openings
        .map(({ pointer, salt, value }) => ({ pointer, salt: toBase64(salt), value }))
        .sort((a, b) => (a.pointer < b.pointer ? -1 : 1)),
      ...(proof !== undefined && { proof: proof.map(toBase64) }),
    });
  }

  /** The last line. */
  manifest(): string {
    return lineOf({ kind: "manifest", ...this.#counts, sha256: toHex(this.#hash.digest()) });
  }

  #hashed(value: JsonObject): string {
    const line = lineOf(value);
    this.#hash.update(this.#utf8.encode(line));
    return line;
  }
}

/** What is counted of a leaf; nothing of one that someone has made unreadable. */
function contentsOf(leaf: string): { publisher?: unknown; commitments: Map<string, string> } {
  try {
    const { publisher, event } = JSON.parse(leaf) as { publisher?: unknown; event: unknown };
    return { publisher, commitments: commitmentsIn({ publisher, event }) };
  } catch {
    return { commitments: new Map() };
  }
}

/**
 * Takes a line apart, its newline left off; nothing of it is to be believed yet. Only the one spelling that
 * {@link EvidenceWriter} uses is taken: no two programs read a line differently.
 *
 * @throws {EvidenceError}
 */
export function parseEvidenceLine(text: string): EvidenceLine {
  let value: JsonValue;
  try {
    value = JSON.parse(text);
    // Duplicate members, white space, other escapes and numbers: none survives the round trip.
    if (spell(value) !== text) throw new SyntaxError("not in the spelling of this format");
  } catch (cause) {
    throw new EvidenceError("malformed", `not a line of evidence (${(cause as Error).message})`, { cause });
  }
  const line = asObject(value, "a line");
  try {
    return readLine(line);
  } catch (cause) {
    if (cause instanceof EvidenceError) throw cause;
    throw new EvidenceError("malformed", (cause as Error).message, { cause });
  }
}

function readLine(line: JsonObject): EvidenceLine {
  switch (line.kind) {
    case "header":
      return readHeader(line);
    case "predecessor": {
      requireMembers(line, ["kind", "leaf", "leaf_hash", "proof", "checkpoint"]);
      const checkpoint = string(line.checkpoint, "checkpoint");
      return { kind: line.kind, ...readLeaf(line), proof: readHashes(line.proof, "proof"), checkpoint };
    }
    case "key_history": {
      requireMembers(line, ["kind", "leaf", "leaf_hash", "proof"]);
      return { kind: line.kind, ...readLeaf(line), proof: readHashes(line.proof, "proof") };
    }
    case "entry": {
      requireMembers(line, ["kind", "leaf", "leaf_hash", "openings", "proof"]);
      const openings = readOpenings(line.openings);
      const proof = line.proof === undefined ? {} : { proof: readHashes(line.proof, "proof") };
      return { kind: line.kind, ...readLeaf(line), openings, ...proof };
    }
    case "manifest": {
      requireMembers(line, ["kind", "entries", "openings", "erased", "signed", "sha256"]);
      return {
        kind: line.kind,
        entries: count(line.entries, "entries"),
        openings: count(line.openings, "openings"),
        erased: count(line.erased, "erased"),
        signed: count(line.signed, "signed"),
        sha256: hex(line.sha256, "sha256"),
      };
    }
    default:
      throw typeof line.kind === "string"
        ? new EvidenceError(
            "newer",
            `there is no kind of line ${JSON.stringify(line.kind.slice(0, 50))} in this version`,
          )
        : new EvidenceError("malformed", "a line says its kind");
  }
}

function readHeader(line: JsonObject): EvidenceHeader {
  if (line.format !== EVIDENCE_FORMAT) {
    throw new EvidenceError("newer", `the format is not ${EVIDENCE_FORMAT}`);
  }
  requireMembers(line, [
    ...["kind", "format", "log", "verifier_key", "witness_keys", "checkpoint"],
    ...["selection", "range_proof", "created_at", "generator"],
  ]);
  const proof = line.range_proof;
  return {
    kind: "header",
    log: string(line.log, "log"),
    verifierKey: string(line.verifier_key, "verifier_key"),
    witnessKeys: list(line.witness_keys, "witness_keys").map((key) => string(key, "a witness's key")),
    checkpoint: string(line.checkpoint, "checkpoint"),
    selection: readSelection(line.selection),
    ...(proof !== undefined && { rangeProof: readRangeProof(proof) }),
    createdAt: string(line.created_at, "created_at"),
    generator: string(line.generator, "generator"),
  };
}

function readSelection(value: JsonValue | undefined): EvidenceSelection {
  const selection = asObject(value, "selection");
  const [from, to] = [count(selection.from, "from"), count(selection.to, "to")];
  if (selection.kind === "range") {
    requireMembers(selection, ["kind", "from", "to", "asked"]);
    return { kind: "range", from, to, asked: parameters(selection.asked, "asked") };
  }
  if (selection.kind === "filter") {
    requireMembers(selection, ["kind", "from", "to", "filter"]);
    return { kind: "filter", from, to, filter: parameters(selection.filter, "filter") };
  }
  throw new EvidenceError("newer", "the selection is neither a range nor a filter");
}

function readRangeProof(value: JsonValue): RangeProof {
  const proof = asObject(value, "range_proof");
  requireMembers(proof, ["left", "right"]);
  return { left: readHashes(proof.left, "left"), right: readHashes(proof.right, "right") };
}

function readLeaf({ leaf, leaf_hash }: JsonObject): LeafLine {
  return { leaf: string(leaf, "leaf"), leafHash: hex(leaf_hash, "leaf_hash") };
}

function readOpenings(value: JsonValue | undefined): Opening[] {
  let last = "";
  return list(value, "openings").map((item) => {
    const opening = asObject(item, "an opening");
    requireMembers(opening, ["pointer", "salt", "value"]);
    const pointer = string(opening.pointer, "pointer");
    if (pointer <= last) throw new SyntaxError("openings are sorted by pointer, each pointer once");
    last = pointer;
    const salt = fromBase64(string(opening.salt, "salt"));
    if (salt.length < MIN_SALT_BYTES) throw new SyntaxError(`a salt has ${MIN_SALT_BYTES} bytes or more`);
    const text = string(opening.value, "value");
    const opened = JSON.parse(text) as JsonValue;
    if (isDeeperThan(MAX_DEPTH, opened)) throw new SyntaxError("an opened value is deeper than any event");
    if (canonicalize(opened) !== text) throw new SyntaxError("an opened value is not in RFC 8785 form");
    return { pointer, salt, value: text };
  });
}

function readHashes(value: JsonValue | undefined, name: string): Uint8Array[] {
  return list(value, name).map((hash) => fromBase64(string(hash, `a hash of ${name}`)));
}

function requireMembers(object: JsonObject, names: readonly string[]): void {
  const unknown = Object.keys(object).find((key) => !names.includes(key));
  if (unknown === undefined) return;
  throw new EvidenceError("newer", `this version does not know the member ${JSON.stringify(unknown.slice(0, 50))}`);
}

function asObject(value: JsonValue | undefined, name: string): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new SyntaxError(`${name} is not an object`);
}

function list(value: JsonValue | undefined, name: string): JsonValue[] {
  if (Array.isArray(value)) return value;
  throw new SyntaxError(`${name} is not an array`);
}

function string(value: JsonValue | undefined, name: string): string {
  if (typeof value === "string") return value;
  throw new SyntaxError(`${name} is not a string`);
}

function hex(value: JsonValue | undefined, name: string): string {
  if (typeof value === "string" && /^[0-9a-f]{64}$/.test(value)) return value;
  throw new SyntaxError(`${name} is not 64 lower-case hex digits`);
}

function count(value: JsonValue | undefined, name: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw new SyntaxError(`${name} is not a whole number from 0`);
}

/** Parameters: a text each, or a list of texts. */
function parameters(value: JsonValue | undefined, name: string): Parameters {
  return Object.fromEntries(
    Object.entries(asObject(value, name)).map(([key, given]) => [
      key,
      Array.isArray(given) ? given.map((text) => string(text, key)) : string(given, key),
    ]),
  );
}
