/**
 * When a credential that is being made is to expire.
 */
import { normalizeTimestamp } from "@tallystick/core/timestamp";
import { Problem } from "./problem.ts";

/**
 * The time that a body's `expires_at` says, not yet past; RFC 3339 UTC.
 * @throws {Problem} 400 that names the field.
 */
export function expiryOf(text: string): string {
  let time: string;
  try {
    time = normalizeTimestamp(text);
  } catch (cause) {
    throw new Problem(400, "invalid-request", "The expiry is no time.", {
      cause,
      errors: [{ path: "/expires_at", message: cause instanceof Error ? cause.message : "must be RFC 3339" }],
    });
  }
  if (Date.parse(time) <= Date.now()) {
    throw new Problem(400, "invalid-request", "It would have expired already.", {
      errors: [{ path: "/expires_at", message: "must be in the future" }],
    });
  }
  return time;
}
