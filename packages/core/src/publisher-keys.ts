/**
 * Publisher keys as a log's own entries tell of them: service `tallystick`, actions `tallystick.publisher_key.*`
 * (docs/spec, section 13).
 */
import type { JsonObject } from "./json.ts";
import type { Leaf } from "./leaf.ts";
import { type PublicKey, PublicKeyError, parsePublicKeyPem, type SignatureAlgorithm } from "./public-key.ts";
import { PublisherError } from "./publisher-error.ts";
import { serviceOfKeyId } from "./signed-event.ts";

/** The service of the server's own entries. */
export const SYSTEM_SERVICE = "tallystick";

export const KEY_ACTIONS = {
  registered: "tallystick.publisher_key.registered",
  rotated: "tallystick.publisher_key.rotated",
  revoked: "tallystick.publisher_key.revoked",
} as const;

/** What a change to a key says; each member replaces what was so before. */
interface KeyChange {
  /** Of the entry that tells of it; -1 for what happened in an earlier log of the tenant. */
  readonly seq: number;
  readonly validTo?: string | undefined;
  readonly revokedAt?: string | undefined;
}

/** A key as it is after all of its changes. Times are RFC 3339 UTC with six digits of fraction. Plain data. */
export interface PublisherKey {
  readonly keyId: string;
  readonly serviceId: string;
  readonly algorithm: SignatureAlgorithm;
  readonly publicKey: PublicKey;
  readonly publicKeyPem: string;
  /** Inclusive. */
  readonly validFrom: string;
  /** Exclusive; undefined: for good. */
  readonly validTo: string | undefined;
  readonly revokedAt: string | undefined;
  /** In the log's order, the registration first: what was so at any position. */
  readonly changes: readonly KeyChange[];
}

/** By key id. */
export type PublisherKeyHistory = ReadonlyMap<string, PublisherKey>;

/** Whether an entry tells of a change to a publisher key. Only the server writes entries of this service. */
export function isKeyChange({ service, event }: Leaf): boolean {
  const { action } = event;
  return (
    service.id === SYSTEM_SERVICE &&
    (action === KEY_ACTIONS.registered || action === KEY_ACTIONS.rotated || action === KEY_ACTIONS.revoked)
  );
}

/**
 * The keys of a log, from its entries; others than those that tell of keys are left out.
 *
 * @param leaves in the log's order.
 * @param earlier the history of the log that this one succeeds, whose keys go on being valid.
 * @throws {PublisherError} `bad_history`, with the entry's `seq`: it does not say what such an entry has to say.
 */
export function publisherKeysOf(leaves: Iterable<Leaf>, earlier?: PublisherKeyHistory): Map<string, PublisherKey> {
  const keys = succeeding(earlier);
  for (const leaf of leaves) if (isKeyChange(leaf)) applyKeyChange(keys, leaf);
  return keys;
}

/** The history that a successor log starts with: nothing of it has a position there. */
export function succeeding(earlier: PublisherKeyHistory | undefined): Map<string, PublisherKey> {
  const keys = new Map<string, PublisherKey>();
  for (const key of earlier?.values() ?? []) {
    keys.set(key.keyId, { ...key, changes: [{ seq: -1, validTo: key.validTo, revokedAt: key.revokedAt }] });
  }
  return keys;
}

/** Whether an earlier log told of the key. */
export function isInherited({ changes }: PublisherKey): boolean {
  return changes[0]!.seq < 0;
}

/** Adds one change; see {@link publisherKeysOf}. Nothing is changed where it throws. */
export function applyKeyChange(keys: Map<string, PublisherKey>, { seq, event }: Leaf): void {
  const facts = event.metadata ?? {};
  if (event.action === KEY_ACTIONS.revoked) {
    const key = existing(keys, facts, "key_id", seq);
    if (key.revokedAt !== undefined) throw bad(seq, "key_id", `${key.keyId} had been revoked before`);
    keys.set(key.keyId, changed(key, { seq, validTo: key.validTo, revokedAt: time(facts, "revoked_at", seq) }));
    return;
  }
  const key = registered(facts, seq);
  if (keys.has(key.keyId)) throw bad(seq, "key_id", `${key.keyId} had been registered before`);
  if (event.action === KEY_ACTIONS.rotated) {
    const previous = existing(keys, facts, "previous_key_id", seq);
    if (previous.serviceId !== key.serviceId) throw bad(seq, "previous_key_id", "is a key of another service");
    const validTo = time(facts, "previous_valid_to", seq);
    if (previous.validTo !== undefined && validTo > previous.validTo) {
      throw bad(seq, "previous_valid_to", "is later than the end that the key had: ends only come nearer");
    }
    keys.set(previous.keyId, changed(previous, { seq, validTo, revokedAt: previous.revokedAt }));
  }
  keys.set(key.keyId, key);
}

/** What a key was at a position of the log; undefined where it had not been registered. */
export function keyAt(key: PublisherKey, seq: number): Omit<KeyChange, "seq"> | undefined {
  // Entries of one position do not judge themselves: a change counts from the entry behind it on.
  return key.changes.findLast((change) => change.seq < seq);
}

function changed(key: PublisherKey, change: KeyChange): PublisherKey {
  const { validTo, revokedAt } = change;
  return { ...key, validTo, revokedAt, changes: [...key.changes, change] };
}

function registered(facts: JsonObject, seq: number): PublisherKey {
  const keyId = text(facts, "key_id", seq);
  const serviceId = text(facts, "service_id", seq);
  const algorithm = text(facts, "algorithm", seq);
  const publicKeyPem = text(facts, "public_key_pem", seq);
  const validFrom = time(facts, "valid_from", seq);
  const validTo = facts.valid_to === undefined ? undefined : time(facts, "valid_to", seq);
  if (serviceOfKeyId(keyId) !== serviceId) throw bad(seq, "key_id", "is not <service_id>:v<n>");
  const publicKey = keyOf(publicKeyPem, seq);
  if (algorithm !== publicKey.algorithm) throw bad(seq, "algorithm", `is not that of the key, ${publicKey.algorithm}`);
  return {
    keyId,
    serviceId,
    algorithm: publicKey.algorithm,
    publicKey,
    publicKeyPem,
    validFrom,
    validTo,
    revokedAt: undefined,
    changes: [{ seq, validTo }],
  };
}

function keyOf(pem: string, seq: number): PublicKey {
  try {
    return parsePublicKeyPem(pem);
  } catch (error) {
    if (!(error instanceof PublicKeyError)) throw error;
    throw bad(seq, "public_key_pem", error.message);
  }
}

function existing(keys: ReadonlyMap<string, PublisherKey>, facts: JsonObject, name: string, seq: number): PublisherKey {
  const keyId = text(facts, name, seq);
  const key = keys.get(keyId);
  if (key === undefined) throw bad(seq, name, `${keyId} was never registered`);
  return key;
}

function text(facts: JsonObject, name: string, seq: number): string {
  const value = facts[name];
  if (typeof value !== "string") throw bad(seq, name, "is missing");
  return value;
}

function time(facts: JsonObject, name: string, seq: number): string {
  const value = text(facts, name, seq);
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(value))
    throw bad(seq, name, "is no time in the form of the log");
  return value;
}

function bad(seq: number, field: string, message: string): PublisherError {
  return new PublisherError("bad_history", `the key change at position ${seq}: ${field} ${message}`, {
    seq,
    field: `event/metadata/${field}`,
  });
}
