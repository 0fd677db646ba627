import { describe, expect, test } from "vitest";
import { toBase64 } from "../src/base64.ts";
import { canonicalize } from "../src/canonical.ts";
import { commitEvent, commitmentOf, openLeaf } from "../src/commitment.ts";
import { signer } from "../src/ed25519.node.ts";
import { type Event, EventError } from "../src/event.ts";
import { type JsonObject, type JsonValue, parseJson } from "../src/json.ts";
import { type Leaf, leafText, parseLeaf } from "../src/leaf.ts";
import { formatPublicKeyPem } from "../src/public-key.ts";
import { PUBLISHER_POINTER, type Publisher, publisherOf, verifyPublisher } from "../src/publisher.ts";
import { PublisherError } from "../src/publisher-error.ts";
import { KEY_ACTIONS, type PublisherKeyHistory, publisherKeysOf } from "../src/publisher-keys.ts";
import { parseSubmission } from "../src/signed-event.ts";
import { readVectors } from "./vectors.ts";

const vectors = readVectors<{
  public_key_pem: string;
  accept: { name: string; input: JsonObject; event: Event; publisher: Publisher }[];
  reject: { name: string; input: JsonObject; paths: string[] }[];
}>("publisher/events.json");

/** A leaf around an event, at the time that its position says. */
function leafOf(
  event: JsonValue,
  options: { seq?: number; service?: string; publisher?: JsonValue; log?: string } = {},
) {
  const { seq = 10, service = "orders", publisher, log = "test.example/t" } = options;
  const frame = {
    log,
    seq,
    id: "00000000-0000-7000-8000-000000000000",
    recordedAt: timeAt(seq),
    serviceId: service,
    serviceSeq: 0,
    prev: "0".repeat(64),
  };
  const text = leafText(frame, canonicalize(event), publisher === undefined ? undefined : canonicalize(publisher));
  return parseLeaf(text, { canonical: true });
}

const timeAt = (seq: number) => `2026-01-01T00:00:${String(seq).padStart(2, "0")}.000000Z`;
const keyFacts = {
  service_id: "orders",
  key_id: "orders:v1",
  algorithm: "ed25519",
  public_key_pem: vectors.public_key_pem,
};
const change = (action: string, seq: number, metadata: JsonObject) =>
  leafOf({ action, actor: { id: "operator" }, metadata }, { seq, service: "tallystick" });
const registered = (seq: number, more: JsonObject = {}) =>
  change(KEY_ACTIONS.registered, seq, { ...keyFacts, valid_from: timeAt(seq), ...more });
const history = publisherKeysOf([registered(0)]);

const codeOf = (work: () => unknown) => {
  try {
    return work();
  } catch (error) {
    if (error instanceof PublisherError) return error.code;
    throw error;
  }
};

describe("parseSubmission()", () => {
  test.each(vectors.accept)("takes, and verifyPublisher() accepts: $name", ({ input, event, publisher }) => {
    const submission = parseSubmission(parseJson(JSON.stringify(input)));
    expect(submission.event).toEqual(event);
    const made = publisherOf(submission.signed!, "ed25519", submission.event);
    expect(canonicalize(made as JsonValue)).toBe(canonicalize(publisher as JsonValue));
    expect(JSON.stringify(made)).toBe(canonicalize(made as JsonValue)); // already in the order of RFC 8785
    expect(verifyPublisher(leafOf(event as JsonValue, { publisher: made as JsonValue }), history)).toBe("valid");
  });

  test.each(vectors.reject)("refuses: $name", ({ input, paths }) => {
    let refusal: unknown;
    try {
      parseSubmission(parseJson(JSON.stringify(input)));
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toBeInstanceOf(EventError);
    expect((refusal as EventError).errors.map(({ path }) => path)).toEqual(expect.arrayContaining(paths));
  });

  test("leaves plain events to parseEvent()", () => {
    const plain = { action: "a.b", actor: { id: "u" } };
    expect(parseSubmission(plain)).toEqual({ event: plain });
    expect(() => parseSubmission({ ...plain, publicKeyId: "x" })).toThrow(/did you mean public_key_id/);
    expect(() => parseSubmission([])).toThrow(EventError);
  });
});

describe("verifyPublisher()", () => {
  const [flat] = vectors.accept;
  const text = vectors.accept.find(({ publisher }) => publisher.unsigned !== undefined)!;
  const leaf = (event: unknown, publisher: unknown, options: { seq?: number; service?: string } = {}) =>
    leafOf(event as JsonValue, { publisher: publisher as JsonValue, ...options });

  test("says that an entry is unsigned, or its signature erased", () => {
    expect(verifyPublisher(leafOf(flat!.event as JsonValue), history)).toBe("unsigned");
    const { event, openings } = commitEvent(text.event, () => new Uint8Array(16).fill(7));
    const opening = {
      pointer: PUBLISHER_POINTER,
      salt: new Uint8Array(16).fill(8),
      value: canonicalize(text.publisher as JsonValue),
    };
    const committed = () => leaf(event, { $committed: commitmentOf(opening) });
    expect(verifyPublisher(committed(), history)).toBe("erased");
    const partly = committed();
    expect(openLeaf(partly, [opening])).toEqual([]);
    expect(verifyPublisher(partly, history)).toBe("erased");
    const impersonal = leaf(flat!.event, { $committed: commitmentOf(opening) });
    expect(codeOf(() => verifyPublisher(impersonal, history))).toBe("bad_publisher");
    const opened = committed();
    expect(openLeaf(opened, [...openings, opening])).toEqual([]);
    expect(verifyPublisher(opened, history)).toBe("valid");
  });

  const changedEvent = { ...text.event, reason: "another" };
  test.each<[string, Leaf, string]>([
    ["another event beside the signed text", leaf(changedEvent, text.publisher), "other_event"],
    ["another event alone", leaf({ ...flat!.event, reason: "x" }, flat!.publisher), "bad_signature"],
    ["another text", leaf(text.event, { ...text.publisher, payload: `${text.publisher.payload} ` }), "bad_signature"],
    ["a text that is no event", leaf(text.event, { ...text.publisher, payload: "{}" }), "bad_payload"],
    ["a text that is no JSON", leaf(text.event, { ...text.publisher, payload: "{" }), "bad_payload"],
    [
      "a signed member that is called unsigned",
      leaf(
        { ...flat!.event, service_id: "other" },
        {
          ...flat!.publisher,
          payload: canonicalize({ ...flat!.event, service_id: "orders" } as JsonValue),
          unsigned: ["service_id"],
        },
      ),
      "bad_payload",
    ],
    ["fewer unsigned members", leaf(text.event, { ...text.publisher, unsigned: ["service_id"] }), "other_event"],
    [
      "unsigned members out of order",
      leaf(text.event, { ...text.publisher, unsigned: ["service_id", "event_type"] }),
      "bad_publisher",
    ],
    [
      "an unsigned member of another name",
      leaf(text.event, { ...text.publisher, unsigned: ["action"] }),
      "bad_publisher",
    ],
    ["an empty list of unsigned members", leaf(text.event, { ...text.publisher, unsigned: [] }), "bad_publisher"],
    [
      "unsigned members without a text",
      leaf(flat!.event, { ...flat!.publisher, unsigned: ["service_id"] }),
      "bad_publisher",
    ],
    [
      "a text that repeats the event",
      leaf(flat!.event, { ...flat!.publisher, payload: canonicalize(flat!.event as JsonValue) }),
      "bad_publisher",
    ],
    ["a member that is not known", leaf(flat!.event, { ...flat!.publisher, note: 1 }), "bad_publisher"],
    ["no object", leaf(flat!.event, "signed"), "bad_publisher"],
    ["null", leaf(flat!.event, null), "bad_publisher"],
    ["no key id", leaf(flat!.event, { algorithm: "ed25519", signature: "" }), "bad_publisher"],
    ["a signature that is not base64", leaf(flat!.event, { ...flat!.publisher, signature: "!" }), "bad_publisher"],
    ["a signature that is too short", leaf(flat!.event, { ...flat!.publisher, signature: "AAAA" }), "bad_signature"],
    ["another algorithm", leaf(flat!.event, { ...flat!.publisher, algorithm: "rsa-pss" }), "other_algorithm"],
    ["no known algorithm", leaf(flat!.event, { ...flat!.publisher, algorithm: "none" }), "bad_publisher"],
    ["a key that was never registered", leaf(flat!.event, { ...flat!.publisher, key_id: "orders:v2" }), "unknown_key"],
    ["a key of another service", leaf(flat!.event, flat!.publisher, { service: "billing" }), "other_service"],
    ["a key that was registered behind it", leaf(flat!.event, flat!.publisher, { seq: 0 }), "unknown_key"],
  ])("refuses %s", (_, signed, code) => {
    expect(codeOf(() => verifyPublisher(signed, history))).toBe(code);
  });

  const at = (seq: number, keys: PublisherKeyHistory) =>
    codeOf(() => verifyPublisher(leaf(flat!.event, flat!.publisher, { seq }), keys));

  test("judges a key by what it was at the entry's position and time", () => {
    const rotated = (seq: number, end: number, metadata: JsonObject = {}) =>
      change(KEY_ACTIONS.rotated, seq, {
        ...keyFacts,
        key_id: "orders:v2",
        public_key_pem: formatPublicKeyPem({ algorithm: "ed25519", point: signer(new Uint8Array(32)).publicKey }),
        valid_from: timeAt(seq),
        previous_key_id: "orders:v1",
        previous_valid_to: timeAt(end),
        ...metadata,
      });
    const revoked = (seq: number, revokedAt = seq) =>
      change(KEY_ACTIONS.revoked, seq, { key_id: "orders:v1", revoked_at: timeAt(revokedAt), reason: "lost" });

    const windowed = publisherKeysOf([registered(1, { valid_from: timeAt(5), valid_to: timeAt(20) })]);
    expect([1, 4, 5, 19, 20].map((seq) => at(seq, windowed))).toEqual([
      "unknown_key",
      "not_yet_valid",
      "valid",
      "valid",
      "expired",
    ]);
    const overlapping = publisherKeysOf([registered(1), rotated(10, 15)]);
    expect([9, 14, 15].map((seq) => at(seq, overlapping))).toEqual(["valid", "valid", "expired"]);
    // What was recorded before the rotation stays valid, whatever end it gave the key.
    expect(at(9, publisherKeysOf([registered(1), rotated(10, 5)]))).toBe("valid");
    const ended = publisherKeysOf([registered(1), rotated(10, 15), revoked(12)]);
    expect([11, 13, 20].map((seq) => at(seq, ended))).toEqual(["valid", "revoked", "revoked"]);
    expect(ended.get("orders:v1")).toMatchObject({ validTo: timeAt(15), revokedAt: timeAt(12), serviceId: "orders" });

    const successor = publisherKeysOf([], overlapping);
    expect([1, 14, 15].map((seq) => at(seq, successor))).toEqual(["valid", "valid", "expired"]);
    const later = publisherKeysOf([revoked(3)], publisherKeysOf([registered(50)]));
    expect(at(2, publisherKeysOf([revoked(3)], history))).toBe("valid");
    expect(at(4, later)).toBe("revoked");
    expect(structuredClone(ended)).toEqual(ended); // goes to other threads
  });

  test("publisherKeysOf() refuses changes that do not say what they must", () => {
    const bad = (...leaves: Leaf[]) => codeOf(() => publisherKeysOf(leaves));
    const rotation = { ...keyFacts, key_id: "orders:v2", valid_from: timeAt(2), previous_valid_to: timeAt(3) };
    for (const leaves of [
      [registered(0), registered(1)],
      [registered(0, { key_id: "billing:v1" })],
      [registered(0, { public_key_pem: "x" })],
      [registered(0, { algorithm: "rsa-pss" })],
      [registered(0, { valid_from: "2026-01-01" })],
      [registered(0, { valid_to: 7 })],
      [change(KEY_ACTIONS.revoked, 0, { key_id: "orders:v1", revoked_at: timeAt(0) })],
      [registered(0), change(KEY_ACTIONS.revoked, 1, { key_id: "orders:v1" })],
      [change(KEY_ACTIONS.rotated, 1, { ...rotation, previous_key_id: "orders:v1" })],
      [
        registered(0, { valid_to: timeAt(2) }),
        change(KEY_ACTIONS.rotated, 1, { ...rotation, previous_key_id: "orders:v1" }),
      ],
      [
        registered(0, { service_id: "billing", key_id: "billing:v1" }),
        change(KEY_ACTIONS.rotated, 1, { ...rotation, previous_key_id: "billing:v1" }),
      ],
    ]) {
      expect(bad(...leaves)).toBe("bad_history");
    }
    // A client's entry of such an action is none of the server's.
    const forged = leafOf({ action: KEY_ACTIONS.registered, actor: { id: "x" }, metadata: keyFacts }, { seq: 0 });
    expect(publisherKeysOf([forged]).size).toBe(0);
  });

  test("accepts what RFC 8785 form was signed by this program", () => {
    const key = signer(new Uint8Array(32).fill(3));
    const event = { action: "a.b", actor: { id: "u", name: "Zoë" } };
    const keys = publisherKeysOf([
      registered(0, { public_key_pem: formatPublicKeyPem({ algorithm: "ed25519", point: key.publicKey }) }),
    ]);
    const signature = toBase64(key.sign(new TextEncoder().encode(canonicalize(event))));
    const { signed } = parseSubmission({ ...event, signature, public_key_id: "orders:v1" });
    expect(verifyPublisher(leaf(event, publisherOf(signed!, "ed25519", event)), keys)).toBe("valid");
  });
});
