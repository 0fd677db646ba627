/**
 * All that can be done for an event before its log is locked: commitments, canonical form, columns, idempotency.
 */
import { randomFillSync } from "node:crypto";
import { canonicalize } from "@tallystick/core/canonical";
import { commitEvent, type Opening, SALT_BYTES } from "@tallystick/core/commitment";
import type { Event } from "@tallystick/core/event";
import { leafText, MAX_LEAF_BYTES, NO_PREVIOUS } from "@tallystick/core/leaf";
import { type Columns, deriveColumns, uuidOf } from "./columns.ts";
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
  readonly idempotency?: Idempotency;
}

/** Under which key an event is recorded at most once; both are the first 16 bytes of a SHA-256, as a UUID. */
export interface Idempotency {
  readonly key: string;
  readonly requestHash: string;
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

/** Bytes that a name adds to the quotes around it. */
function quotedBytes(name: string): number {
  return Buffer.byteLength(JSON.stringify(name)) - 2;
}

/**
 * Prepares an event for {@link import("./sequencer.ts").Sequencer.append}.
 *
 * @param serviceId the service whose chain it joins: the event's own `service_id`, else the credential's, else `default`.
 * @param key an idempotency key, from the body or the header.
 * @throws {LeafTooLargeError} when its leaf could be larger than 65,535 bytes at any position of the log.
 */
export function prepareEvent(log: TenantLog, event: Event, serviceId: string, key: string | undefined): PreparedEvent {
  const committed = commitEvent(event, salt);
  const json = canonicalize(committed.event as never);
  const leafBytes = FRAME_BYTES + quotedBytes(log.name) + quotedBytes(serviceId) + Buffer.byteLength(json);
  if (leafBytes > MAX_LEAF_BYTES) throw new LeafTooLargeError(leafBytes);
  return {
    json,
    serviceId,
    columns: deriveColumns(log.logId, committed.event, serviceId),
    openings: committed.openings,
    leafBytes,
    ...(key !== undefined && {
      idempotency: {
        key: uuidOf(canonicalize([log.tenantId, serviceId, key])),
        // Of the event as sent: commitments are salted and would differ each time.
        requestHash: uuidOf(committed.openings.length === 0 ? json : canonicalize(event as never)),
      },
    }),
  };
}
