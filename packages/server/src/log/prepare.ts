/**
 * All that can be done for an event before its log is locked: commitments, canonical form, columns, idempotency.
 */
import { hash, randomFillSync } from "node:crypto";
import { canonicalize } from "@tallystick/core/canonical";
import { commitEvent, commitmentOf, type Opening, SALT_BYTES } from "@tallystick/core/commitment";
import type { Event } from "@tallystick/core/event";
import type { JsonValue } from "@tallystick/core/json";
import { leafText, MAX_LEAF_BYTES, NO_PREVIOUS } from "@tallystick/core/leaf";
import { PUBLISHER_POINTER, type Publisher } from "@tallystick/core/publisher";
import { type Columns, deriveColumns } from "./columns.ts";
import { type ReplaySecret, replayHash } from "./replay-hash.ts";
import type { TenantLog } from "./tenants.ts";

/** An event that waits for its place in a log. */
export interface PreparedEvent {
  /** JCS form of the event, commitments in place. */
  readonly json: string;
  readonly serviceId: string;
  readonly columns: Columns;
  readonly openings: readonly Opening[];
  /** Upper bound of its leaf's size in bytes. */
  readonly leafBytes: number;
  /** Under each of these it is recorded at most once: its idempotency key, and what its publisher signed. */
  readonly idempotency?: readonly Idempotency[];
  readonly publisher?: PreparedPublisher;
}

/** The publisher of a signed event, whose signature is good. */
export interface PreparedPublisher {
  /** JCS form of the leaf's `publisher`, or of its commitment. */
  readonly json: string;
  /** Id of the key's row: whether it may sign at the time of the entry is decided under the log's lock. */
  readonly key: string;
}

/** What a publisher has signed, and what the leaf says of it. */
export interface SignedBy {
  readonly publisher: Publisher;
  /** The signed text. */
  readonly text: string;
  /** Id of the key's row. */
  readonly key: string;
}

/** Under which key an event is recorded at most once; both as {@link replayHash} makes them. */
export interface Idempotency {
  readonly key: string;
  readonly requestHash: string;
}

/** What came with an event from outside. */
export interface Sent {
  readonly secret: ReplaySecret;
  /** An idempotency key, from the body or the header. */
  readonly key: string | undefined;
  /** By whom, where its publisher's signature was verified. */
  readonly signed?: SignedBy | undefined;
}

/** Thrown for an event whose leaf would be larger than a leaf may be. */
export class LeafTooLargeError extends Error {
  readonly leafBytes: number;
  constructor(leafBytes: number) {
    super(
      `the entry would be ${leafBytes} bytes, the limit is ${MAX_LEAF_BYTES}: keep large values elsewhere and record their SHA-256 in attachments`,
    );
    this.name = "LeafTooLargeError";
    this.leafBytes = leafBytes;
  }
}

// Salts are cut from a pool that is refilled, not reused: each value gets bytes of its own.
const SALT_POOL_BYTES = SALT_BYTES * 512;
let salts = Buffer.alloc(0);
let nextSalt = 0;
function salt(): Uint8Array {
  if (nextSalt === salts.length) {
    salts = randomFillSync(Buffer.allocUnsafeSlow(SALT_POOL_BYTES));
    nextSalt = 0;
  }
  nextSalt += SALT_BYTES;
  return salts.subarray(nextSalt - SALT_BYTES, nextSalt);
}

/** Size of what surrounds an event in its leaf, at most, without what the names of log and service add. */
const FRAME_BYTES = leafText(
  {
    log: "",
    seq: Number.MAX_SAFE_INTEGER,
    id: "00000000-0000-7000-8000-000000000000",
    recordedAt: "0001-01-01T00:00:00.000000Z",
    serviceId: "",
    serviceSeq: Number.MAX_SAFE_INTEGER,
    prev: NO_PREVIOUS,
  },
  "",
).length;

/** What a publisher's name and quotes add. */
const PUBLISHER_BYTES = '"publisher":,'.length;

/** Bytes that a name adds to the quotes around it. */
function quotedBytes(name: string): number {
  return Buffer.byteLength(JSON.stringify(name)) - 2;
}

/**
 * Prepares an event for {@link import("./sequencer.ts").Sequencer.append}.
 *
 * @param serviceId the service whose chain it joins: the event's own `service_id`, else the credential's, else `default`.
 * @param sent absent for the server's own events, which nobody sends twice.
 * @throws {LeafTooLargeError} when its leaf could be larger than 65,535 bytes at any position of the log.
 */
export function prepareEvent(log: TenantLog, event: Event, serviceId: string, sent?: Sent): PreparedEvent {
  const signed = sent?.signed;
  const committed = commitEvent(event, salt);
  const json = canonicalize(committed.event as never);
  const publisher = signed === undefined ? undefined : preparePublisher(signed, committed.openings);
  const leafBytes =
    FRAME_BYTES +
    quotedBytes(log.name) +
    quotedBytes(serviceId) +
    Buffer.byteLength(json) +
    (publisher === undefined ? 0 : PUBLISHER_BYTES + Buffer.byteLength(publisher.json));
  if (leafBytes > MAX_LEAF_BYTES) throw new LeafTooLargeError(leafBytes);
  // Of the event as sent: commitments are salted and would differ each time.
  const body = () => (committed.openings.length === 0 ? json : canonicalize(event as never));
  const idempotency = sent === undefined ? [] : idempotencyOf(log.tenantId, serviceId, sent, body);
  return {
    json,
    serviceId,
    columns: deriveColumns(log.logId, committed.event, serviceId),
    openings: publisher?.opening === undefined ? committed.openings : [...committed.openings, publisher.opening],
    leafBytes,
    ...(publisher !== undefined && { publisher: { json: publisher.json, key: signed!.key } }),
    ...(idempotency.length > 0 && { idempotency }),
  };
}

function idempotencyOf(tenantId: string, serviceId: string, { secret, key, signed }: Sent, body: () => string) {
  const idempotency: Idempotency[] = [];
  const payloadHash = signed === undefined ? undefined : hash("sha256", signed.text, "hex");
  if (key !== undefined) {
    idempotency.push({
      key: replayHash(secret, canonicalize([tenantId, serviceId, key])),
      requestHash: replayHash(secret, payloadHash === undefined ? body() : `${body()}\0${payloadHash}`),
    });
  }
  if (payloadHash !== undefined) {
    // Four strings, where a client's key has three: none of them is ever the other. Whoever sends the text again, with whatever
    // beside it, gets the first answer.
    const replay = replayHash(secret, canonicalize([tenantId, serviceId, "signed", payloadHash]));
    idempotency.push({ key: replay, requestHash: replay });
  }
  return idempotency;
}

/** Of an event that holds a personal value the signature, which is over it, is committed: it would help to guess an erased value. */
function preparePublisher({ publisher }: SignedBy, openings: readonly Opening[]): { json: string; opening?: Opening } {
  const json = canonicalize(publisher as JsonValue);
  if (openings.length === 0) return { json };
  const opening = { pointer: PUBLISHER_POINTER, salt: salt(), value: json };
  return { json: canonicalize({ $committed: commitmentOf(opening) }), opening };
}
