/**
 * The server's own entries: what it did to a log or to what the log relies on. No client can write one.
 */
import type { Event } from "@tallystick/core/event";
import { type PreparedEvent, prepareEvent } from "./prepare.ts";
import type { TenantLog } from "./tenants.ts";

/** The service of entries that tell of changes. Evidence carries its whole chain, for the changes of keys among them. */
export const SYSTEM_SERVICE = "tallystick";
/**
 * The service of entries that tell of what was read, exported, verified and refused: there are many, and nothing is judged by them,
 * so they have a chain of their own.
 */
export const WATCH_SERVICE = "tallystick.watch";

export type SystemService = typeof SYSTEM_SERVICE | typeof WATCH_SERVICE;

/** An entry's own words for what the server did. */
export interface SystemEvent extends Event {
  readonly action: `tallystick.${string}`;
}

/**
 * Prepares an event of the server's own.
 * @throws {import("./prepare.ts").LeafTooLargeError}
 */
export function prepareSystemEvent(
  log: TenantLog,
  event: SystemEvent,
  serviceId: SystemService = SYSTEM_SERVICE,
): PreparedEvent {
  return prepareEvent(log, event, serviceId);
}
