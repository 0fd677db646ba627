import { inject } from "vitest";
// Brings the declaration of what global-setup provides.
import type {} from "./global-setup.ts";

/** The superuser's URL of the PostgreSQL that the test run started: its database `tallystick`, which no test changes. */
export function adminUrl(): string {
  return inject("adminUrl");
}
