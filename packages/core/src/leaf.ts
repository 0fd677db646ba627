/**
 * The leaf: the canonical bytes of an entry, the only bytes that are hashed (docs/spec, section 3).
 */
import { canonicalize } from "./canonical.ts";
import type { Event } from "./event.ts";

/** The `prev` of a service's first entry. */
export const NO_PREVIOUS = "0".repeat(64);

/** Greatest size of a leaf, in bytes of UTF-8. */
export const MAX_LEAF_BYTES = 65_535;

/** What surrounds an event in its leaf. */
export interface LeafFrame {
  /** The log's name, `<origin>/<slug>`. */
  readonly log: string;
  /** 0-based position in the log. */
  readonly seq: number;
  /** UUIDv7, lower case. */
  readonly id: string;
  /** RFC 3339, UTC, exactly six digits of fraction. */
  readonly recordedAt: string;
  readonly serviceId: string;
  /** 0-based position in the service's chain. */
  readonly serviceSeq: number;
  /** Hex leaf hash of the service's previous entry, or {@link NO_PREVIOUS}. */
  readonly prev: string;
}

/** A leaf as read back. `event` may hold commitments and masks where a client's event has values. */
export interface Leaf {
  readonly v: number;
  readonly log: string;
  readonly seq: number;
  readonly id: string;
  readonly recorded_at: string;
  readonly service: { readonly id: string; readonly seq: number; readonly prev: string };
  readonly event: Event;
  /** A `Publisher` (publisher.ts) or its commitment; only where the event was signed. */
  readonly publisher?: unknown;
}

/**
 * The leaf's text, in RFC 8785 form, from an event and a publisher that are in that form already: the server makes them
 * canonical before it takes the log's lock, and only what the lock decides is put around them here.
 */
export function leafText(frame: LeafFrame, eventJson: string, publisherJson?: string): string {
  const publisher = publisherJson === undefined ? "" : `"publisher":${publisherJson},`;
  // Members in JCS order. Ids, hashes and times are ASCII without anything to escape.
  return (
    `{"event":${eventJson},"id":"${frame.id}","log":${JSON.stringify(frame.log)},${publisher}` +
    `"recorded_at":"${frame.recordedAt}","seq":${frame.seq},"service":{"id":${JSON.stringify(frame.serviceId)},` +
    `"prev":"${frame.prev}","seq":${frame.serviceSeq}},"v":1}`
  );
}

/** Thrown when bytes that stand where a leaf should be are not a leaf. */
export class LeafError extends Error {
  readonly code: "not_json" | "not_canonical" | "wrong_shape";
  constructor(code: LeafError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "LeafError";
    this.code = code;
  }
}

/**
 * Reads a leaf back, checking its shape for `v` 1. With `canonical` also that the text is the JCS form of what it says, which
 * costs as much again; a verifier that has checked the hash against a tree need not ask for it.
 *
 * @throws {LeafError} `not_json`, `wrong_shape`, or `not_canonical`.
 */
export function parseLeaf(text: string, options: { canonical?: boolean } = {}): Leaf {
  let leaf: Leaf;
  try {
    leaf = JSON.parse(text);
  } catch (cause) {
    throw new LeafError("not_json", "the leaf is not JSON", { cause });
  }
  const service = leaf?.service;
  if (
    typeof leaf?.v !== "number" ||
    typeof leaf.log !== "string" ||
    typeof leaf.id !== "string" ||
    typeof leaf.recorded_at !== "string" ||
    !Number.isSafeInteger(leaf.seq) ||
    typeof leaf.event !== "object" ||
    leaf.event === null ||
    typeof service?.id !== "string" ||
    typeof service.prev !== "string" ||
    !Number.isSafeInteger(service.seq)
  ) {
    throw new LeafError("wrong_shape", "the leaf lacks a member that every leaf has");
  }
  if (options.canonical && canonicalize(JSON.parse(text)) !== text) {
    throw new LeafError("not_canonical", "the leaf is not in RFC 8785 form");
  }
  return leaf;
}
