/**
 * The publisher's signature in a leaf (docs/spec, sections 3, 7 and 13): what stands there, and whether it holds.
 */
import { fromBase64 } from "./base64.ts";
import { canonicalize } from "./canonical.ts";
import { commitmentsIn, hasPersonalValue } from "./commitment.ts";
import { type Event, EventError } from "./event.ts";
import { JsonError, type JsonValue } from "./json.ts";
import type { Leaf } from "./leaf.ts";
import { isSignedBy, SIGNATURE_ALGORITHMS, type SignatureAlgorithm, signatureBytes } from "./public-key.ts";
import { PublisherError } from "./publisher-error.ts";
import { keyAt, type PublisherKey, type PublisherKeyHistory } from "./publisher-keys.ts";
import { eventOfText, type Signed, UNSIGNED_MEMBERS } from "./signed-event.ts";

/** The pointer of a leaf's `publisher`, as a whole the value of one commitment where the event holds a personal value. */
export const PUBLISHER_POINTER = "/publisher";

/** The member `publisher` of a leaf; its members in the order of RFC 8785. */
export type Publisher = {
  algorithm: SignatureAlgorithm;
  /** `<service_id>:v<n>`. */
  key_id: string;
  /** The signed text, where it is not the RFC 8785 form of `event`. */
  payload?: string;
  /** Standard base64. */
  signature: string;
  /** Members of `event` that the signature does not cover, sorted; absent where there are none. */
  unsigned?: string[];
};

const encoder = new TextEncoder();

/** The `publisher` of an entry. `event` is the event in canonical spelling, its values in the open. */
export function publisherOf(signed: Signed, algorithm: SignatureAlgorithm, event: Event): Publisher {
  return {
    algorithm,
    key_id: signed.keyId,
    ...(signed.text !== canonicalize(event as JsonValue) && { payload: signed.text }),
    signature: signed.signature,
    ...(signed.unsigned.length > 0 && { unsigned: [...signed.unsigned] }),
  };
}

/**
 * Whether a key may sign what is recorded at a time and position.
 * @throws {PublisherError} `other_service`, `unknown_key` (it was registered behind that position), `not_yet_valid`, `expired`, `revoked`.
 */
export function requireValidKey(key: PublisherKey, serviceId: string, recordedAt: string, seq: number): void {
  const { keyId, validFrom } = key;
  if (key.serviceId !== serviceId) {
    throw new PublisherError("other_service", `the key ${keyId} is not one of the service ${serviceId}`, {
      field: "service/id",
      stored: serviceId,
      expected: key.serviceId,
    });
  }
  const then = keyAt(key, seq);
  const field = "recorded_at";
  const stored = recordedAt;
  if (then === undefined) {
    throw new PublisherError("unknown_key", `the key ${keyId} was registered behind this entry`, { field, stored });
  }
  if (then.revokedAt !== undefined) {
    const message = `the key ${keyId} had been revoked at ${then.revokedAt}`;
    throw new PublisherError("revoked", message, { field, stored, expected: `before ${then.revokedAt}` });
  }
  if (recordedAt < validFrom) {
    const message = `the key ${keyId} was not valid before ${validFrom}`;
    throw new PublisherError("not_yet_valid", message, { field, stored, expected: `from ${validFrom} on` });
  }
  if (then.validTo !== undefined && recordedAt >= then.validTo) {
    const message = `the key ${keyId} was valid until ${then.validTo}`;
    throw new PublisherError("expired", message, { field, stored, expected: `before ${then.validTo}` });
  }
}

/**
 * Verifies the publisher's signature of an entry: by a key that was valid at its place, over its event or over a text that makes
 * its event.
 *
 * @param leaf with the values of its openings in it (`openLeaf`).
 * @param history the keys of the leaf's own log (`publisherKeysOf`).
 * @returns `unsigned` where no publisher signed it; `erased` where the signature, or a value that it covers, is a commitment
 *   without opening: it can no longer be verified, and that is no error.
 * @throws {PublisherError} saying what does not hold.
 */
export function verifyPublisher(leaf: Leaf, history: PublisherKeyHistory): "valid" | "erased" | "unsigned" {
  if (leaf.publisher === undefined) return "unsigned";
  const erased = commitmentsIn(leaf.event).size > 0;
  if (isCommitment(leaf.publisher)) {
    // Else anything could pass for a signature that was erased.
    if (!erased && !hasPersonalValue(leaf.event)) throw commitmentOfNothing();
    return "erased";
  }
  if (erased) return "erased";
  const publisher = readPublisher(leaf.publisher);
  const key = history.get(publisher.key_id);
  if (key === undefined) {
    const message = `the log does not tell of a publisher key ${publisher.key_id}`;
    throw new PublisherError("unknown_key", message, { field: "publisher/key_id", stored: publisher.key_id });
  }
  requireValidKey(key, leaf.service.id, leaf.recorded_at, leaf.seq);
  if (publisher.algorithm !== key.algorithm) {
    throw new PublisherError("other_algorithm", "the signature names another algorithm than its key has", {
      field: "publisher/algorithm",
      stored: publisher.algorithm,
      expected: key.algorithm,
    });
  }
  const event = canonicalize(leaf.event as JsonValue);
  const text = publisher.payload ?? event;
  if (publisher.payload !== undefined) requireSameEvent(publisher, leaf.event, event);
  const signature = signatureIn(publisher.signature);
  if (
    signature.length !== signatureBytes(key.publicKey) ||
    !isSignedBy(encoder.encode(text), signature, key.publicKey)
  ) {
    throw new PublisherError("bad_signature", `the signature is not one of ${key.keyId} over this event`, {
      field: "publisher/signature",
      stored: publisher.signature,
    });
  }
  return "valid";
}

function requireSameEvent({ payload, unsigned = [] }: Publisher, event: Event, stored: string): void {
  if (payload === stored) throw malformed("payload", "repeats the event, which is then left out");
  let made: string;
  try {
    made = canonicalize(eventOfText(payload!, unsigned, event) as JsonValue);
  } catch (cause) {
    if (!(cause instanceof EventError || cause instanceof JsonError)) throw cause;
    throw new PublisherError("bad_payload", `the signed text makes no event: ${cause.message}`, {
      field: "publisher/payload",
      stored: payload!,
      cause,
    });
  }
  if (made === stored) return;
  const message = "the event is not what the signed text makes";
  throw new PublisherError("other_event", message, { field: "event", stored, expected: made });
}

function readPublisher(value: unknown): Publisher {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new PublisherError("bad_publisher", "publisher is no object", { field: "publisher" });
  }
  const { algorithm, key_id, payload, signature, unsigned, ...others } = value as Record<string, unknown>;
  for (const name of Object.keys(others)) throw malformed(name, "is not known");
  if (!SIGNATURE_ALGORITHMS.includes(algorithm as SignatureAlgorithm)) throw malformed("algorithm", "is not known");
  if (typeof key_id !== "string") throw malformed("key_id", "is no string");
  if (typeof signature !== "string") throw malformed("signature", "is no string");
  if (payload !== undefined && typeof payload !== "string") throw malformed("payload", "is no string");
  if (unsigned !== undefined) {
    const known = UNSIGNED_MEMBERS.filter((name) => Array.isArray(unsigned) && unsigned.includes(name));
    if (known.length === 0 || JSON.stringify(known) !== JSON.stringify(unsigned)) {
      throw malformed("unsigned", `is no sorted list of ${UNSIGNED_MEMBERS.join(", ")}`);
    }
    if (payload === undefined) throw malformed("unsigned", "stands without the text that is signed");
  }
  return value as Publisher;
}

function signatureIn(base64: string): Uint8Array {
  try {
    return fromBase64(base64);
  } catch {
    throw malformed("signature", "is not standard base64");
  }
}

function commitmentOfNothing(): PublisherError {
  const message = "publisher is a commitment, and the event holds no personal value for which it could be one";
  return new PublisherError("bad_publisher", message, { field: "publisher" });
}

function malformed(name: string, message: string): PublisherError {
  return new PublisherError("bad_publisher", `publisher/${name} ${message}`, { field: `publisher/${name}` });
}

function isCommitment(value: unknown): boolean {
  const members = typeof value === "object" && value !== null ? Object.keys(value) : [];
  return members.length === 1 && members[0] === "$committed";
}
