/**
 * From what a client sent to an event that may wait for its place in a log: the checks that need the credential.
 */
import { type Event, parseEvent } from "@tallystick/core/event";
import type { JsonValue } from "@tallystick/core/json";
import type { FastifyRequest } from "fastify";
import { type PreparedEvent, prepareEvent } from "../log/prepare.ts";
import type { TenantLog } from "../log/tenants.ts";
import type { Access, Gate } from "./access.ts";
import { Problem } from "./problem.ts";

const MAX_KEY_BYTES = 128;
const DEFAULT_SERVICE = "default";

/** An event that is ready, and the log that it is for. */
export interface Intake {
  readonly log: TenantLog;
  readonly prepared: PreparedEvent;
}

/**
 * Checks one event and prepares it. Answers at once but for an operator's event that names its tenant.
 *
 * @param headerKey the request's Idempotency-Key.
 * @throws {import("@tallystick/core/event").EventError} @throws {import("../log/prepare.ts").LeafTooLargeError}
 * @throws {Problem} 400 for two different keys; 403 for another tenant, another service, a tenant that is not active.
 */
export function takeIn(
  gate: Gate,
  access: Access,
  input: JsonValue,
  headerKey: string | undefined,
): Intake | Promise<Intake> {
  const { event, tenant } = parseEvent(input);
  const ready = (log: TenantLog): Intake => ({ log, prepared: prepare(access, log, event, headerKey) });
  return tenant === undefined ? ready(access.log) : gate.logOf(access, tenant).then(ready);
}

function prepare(access: Access, log: TenantLog, event: Event, headerKey: string | undefined): PreparedEvent {
  if (log.status !== "active") {
    const detail = `The tenant "${log.slug}" is ${log.status}: it can be read and not written to, until the operator reactivates it.`;
    throw new Problem(403, "forbidden", detail);
  }
  const serviceId = access.serviceId ?? event.service_id ?? DEFAULT_SERVICE;
  if (event.service_id !== undefined && event.service_id !== serviceId) {
    throw new Problem(403, "forbidden", "The credential is bound to another service.", {
      errors: [{ path: "/service_id", message: `must be "${serviceId}", or be left out` }],
    });
  }
  const key = event.idempotency_key ?? headerKey;
  if (headerKey !== undefined && key !== headerKey) {
    const detail = "The header and the body name different idempotency keys: send one of them.";
    throw new Problem(400, "invalid-request", detail, {
      errors: [{ path: "/idempotency_key", message: "differs from the Idempotency-Key header" }],
    });
  }
  return prepareEvent(log, event, serviceId, key);
}

/**
 * The Idempotency-Key header.
 * @throws {Problem} 400 where it is empty or longer than a key may be.
 */
export function keyHeader(request: FastifyRequest): string | undefined {
  const key = request.headers["idempotency-key"];
  if (key === undefined) return undefined;
  if (typeof key === "string" && key.length > 0 && Buffer.byteLength(key) <= MAX_KEY_BYTES) return key;
  throw new Problem(400, "invalid-request", "The idempotency key is not usable.", {
    errors: [{ path: "Idempotency-Key", message: `must have 1 to ${MAX_KEY_BYTES} bytes` }],
  });
}
