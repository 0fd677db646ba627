/**
 * One entry of an evidence file, for readers: what its leaf says, with the values of openings that fit.
 */
import { canonicalize } from "./canonical.ts";
import { commitmentOf, commitmentsIn, openLeaf } from "./commitment.ts";
import { isDeeperThan } from "./depth.ts";
import type { EvidenceEntry } from "./evidence.ts";
import { type JsonValue, MAX_DEPTH } from "./json.ts";
import { type Leaf, LeafError, MAX_LEAF_BYTES, parseLeaf } from "./leaf.ts";
import { fitsUtf8 } from "./utf8.ts";

/** The version of leaves whose meaning is known here. */
const KNOWN_VERSION = 1;
/** The event, and the leaf around it. */
const MAX_LEAF_DEPTH = MAX_DEPTH + 1;
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$/;

/** An opening that belongs to no commitment of the leaf, or not with its value. */
export interface Misfit {
  readonly pointer: string;
  /** The commitment that the opening makes, hex. */
  readonly made: string;
  /** The one that stands in the leaf; undefined where none does. */
  readonly committed: string | undefined;
}

export interface OpenedEntry {
  /** The leaf as it is. */
  readonly leaf: Leaf;
  /** The leaf with values in place of the commitments whose openings fit. */
  readonly opened: Leaf;
  /** Pointers of commitments without an opening. */
  readonly erased: readonly string[];
  readonly misfits: readonly Misfit[];
}

/**
 * Reads an entry. Whether its leaf is in any log is another matter.
 *
 * @returns undefined where the leaf is of a version whose meaning is not known here.
 * @throws {LeafError} where it is no leaf.
 */
export function openEntry({ leaf: text, openings }: EvidenceEntry): OpenedEntry | undefined {
  const leaf = readLeaf(text);
  if (leaf === undefined) return undefined;
  const commitments = commitmentsOf(leaf);
  const fitting = [];
  const misfits: Misfit[] = [];
  for (const opening of openings) {
    const { pointer } = opening;
    const made = commitmentOf(opening);
    const committed = commitments.get(pointer);
    if (made === committed) fitting.push(opening);
    else misfits.push({ pointer, made, committed });
  }
  const opened = fitting.length === 0 ? leaf : parseLeaf(text);
  openLeaf(opened, fitting);
  for (const { pointer } of openings) commitments.delete(pointer);
  return { leaf, opened, erased: [...commitments.keys()], misfits };
}

/**
 * A leaf of a known version, its shape and spelling checked: whoever holds the log's key may have put anything into the tree.
 *
 * @returns undefined for another version.
 * @throws {LeafError}
 */
export function readLeaf(text: string): Leaf | undefined {
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch (cause) {
    throw new LeafError("not_json", "the leaf is not JSON", { cause });
  }
  if (isDeeperThan(MAX_LEAF_DEPTH, value) || !fitsUtf8(text, MAX_LEAF_BYTES)) {
    throw new LeafError("wrong_shape", "the leaf is deeper or longer than any leaf");
  }
  if (canonicalOf(value) !== text) throw new LeafError("not_canonical", "the leaf is not in RFC 8785 form");
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    if (typeof value.v === "number" && value.v !== KNOWN_VERSION) return undefined;
  }
  const leaf = parseLeaf(text);
  const { event } = leaf as { event: { action?: unknown; actor?: unknown } };
  if (typeof event.action !== "string" || typeof event.actor !== "object" || event.actor === null) {
    throw new LeafError("wrong_shape", "the leaf's event has no action or no actor");
  }
  if (!TIME.test(leaf.recorded_at)) throw new LeafError("wrong_shape", "the leaf's recorded_at is no time");
  return leaf;
}

function canonicalOf(value: JsonValue): string | undefined {
  try {
    return canonicalize(value);
  } catch {
    return undefined; // a lone surrogate: there is no such form
  }
}

function commitmentsOf({ event, publisher }: Leaf): Map<string, string> {
  return commitmentsIn({ event, ...(publisher !== undefined && { publisher }) });
}

/** The position that a leaf of any version gives itself; undefined where it gives none. */
export function seqOf(text: string): number | undefined {
  try {
    const { seq } = JSON.parse(text) as { seq?: unknown };
    return typeof seq === "number" && Number.isSafeInteger(seq) && seq >= 0 ? seq : undefined;
  } catch {
    return undefined; // what is wrong with the leaf is told by whoever reads it
  }
}
