/**
 * The server's own entries: what it did to a log or to what the log relies on. No client can write one.
 */
import type { Event } from "@tallystick/core/event";
import { type PreparedEvent, prepareEvent } from "./prepare.ts";
import type { TenantLog } from "./tenants.ts";

/** The service of the server's own entries. */
export const SYSTEM_SERVICE = "tallystick";

/** An entry's own words for what the server did. */
export interface SystemEvent extends Event {
  readonly action: `tallystick.${string}`;
}

/**
 * Prepares an event of the server's own.
 * @throws {import("./prepare.ts").LeafTooLargeError}
 */
export function prepareSystemEvent(log: TenantLog, event: SystemEvent): PreparedEvent {
  return prepareEvent(log, event, SYSTEM_SERVICE);
}
