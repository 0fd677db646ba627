/**
 * Which services' events were taken with a publisher's signature only, as a log's own entries tell: service `tallystick`, action
 * `tallystick.service.changed` (docs/spec, section 13).
 */
import type { Leaf } from "./leaf.ts";
import { PublisherError } from "./publisher-error.ts";
import { SYSTEM_SERVICE } from "./publisher-keys.ts";

export const SERVICE_CHANGED = "tallystick.service.changed";

/** A service's setting from an entry on. */
export interface SignedOnlyChange {
  /** Of the entry that tells of it; -1 for what was set in an earlier log of the tenant. */
  readonly seq: number;
  readonly signedOnly: boolean;
  /** RFC 3339 UTC. */
  readonly recordedAt: string;
}

/** By service, in the log's order. Plain data. */
export type SignedOnlyHistory = ReadonlyMap<string, readonly SignedOnlyChange[]>;

/** Whether an entry tells of a service's setting. Only the server writes entries of its service. */
export function isServiceChange({ service, event }: Leaf): boolean {
  return service.id === SYSTEM_SERVICE && event.action === SERVICE_CHANGED;
}

/**
 * Adds what an entry tells.
 * @throws {PublisherError} `bad_history`, with the entry's `seq`: it does not say what such an entry has to say. Nothing is changed.
 */
export function applyServiceChange(history: Map<string, readonly SignedOnlyChange[]>, leaf: Leaf): void {
  const { seq, recorded_at: recordedAt, event } = leaf;
  const { service_id: serviceId, signed_only: signedOnly } = event.metadata ?? {};
  if (typeof serviceId !== "string") throw bad(seq, "service_id");
  if (typeof signedOnly !== "boolean") throw bad(seq, "signed_only");
  history.set(serviceId, [...(history.get(serviceId) ?? []), { seq, signedOnly, recordedAt }]);
}

/** The settings that a successor log starts with: nothing of them has a position there. */
export function settingsSucceeding(earlier: SignedOnlyHistory): Map<string, readonly SignedOnlyChange[]> {
  return new Map([...earlier].map(([serviceId, changes]) => [serviceId, [{ ...changes.at(-1)!, seq: -1 }]]));
}

/** Whether the entry at a position had to be signed; a change counts from the entry behind it on. */
export function hadToBeSigned(history: SignedOnlyHistory, serviceId: string, seq: number): boolean {
  return history.get(serviceId)?.findLast((change) => change.seq < seq)?.signedOnly ?? false;
}

function bad(seq: number, field: string): PublisherError {
  return new PublisherError("bad_history", `the change of a service at position ${seq}: ${field} is missing`, {
    seq,
    field: `event/metadata/${field}`,
  });
}
