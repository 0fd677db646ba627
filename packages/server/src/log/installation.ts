/**
 * The installation: the origin that begins the name of each log, the first tenant, and the operator's.
 */
import { randomBytes } from "node:crypto";
import type { Database } from "../db/database.ts";
import { StartError } from "../start-error.ts";
import { OPERATOR_TENANT, type Tenants } from "./tenants.ts";

/**
 * Makes the installation's row, its first tenant and the operator's where they are not there yet. Any number of servers may start at once.
 *
 * @param origin as set; without one a new installation gets a unique one.
 * @throws {StartError} `origin_differs` when the database was made under another origin: its logs would answer to two names.
 */
export async function openInstallation(
  database: Database,
  tenants: Tenants,
  options: { origin: string | undefined; defaultTenant: string },
): Promise<void> {
  await database.query("insert into tallystick.installation (origin) values ($1) on conflict do nothing", [
    options.origin ?? `tallystick-${randomBytes(8).toString("hex")}`,
  ]);
  const [row] = await database.query<{ origin: string }>("select origin from tallystick.installation");
  if (options.origin !== undefined && options.origin !== row!.origin) {
    throw new StartError(
      "origin_differs",
      `LOG_ORIGIN is "${options.origin}", and this database's logs are "${row!.origin}/...": an origin never changes. Unset LOG_ORIGIN, or use another database`,
    );
  }
  await tenants.ensure(options.defaultTenant, options.defaultTenant);
  await tenants.ensure(OPERATOR_TENANT, "Operator");
}
