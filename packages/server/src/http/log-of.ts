/**
 * Which of a tenant's logs a request is about: its current one, or one that has been succeeded.
 */
import type { TenantLog, Tenants } from "../log/tenants.ts";
import { Problem } from "./problem.ts";

/**
 * The tenant's log of this slug; the current one where none is named.
 * @throws {Problem} 404 where the tenant has no such log.
 */
export async function logOf(tenants: Tenants, current: TenantLog, slug: string | undefined): Promise<TenantLog> {
  if (slug === undefined) return current;
  const found = (await tenants.logs(current.tenantId)).find((one) => one.slug === slug);
  if (found === undefined) {
    throw new Problem(404, "not-found", `The tenant has no log "${slug}": see GET /v1/tenants/${current.slug}/logs.`, {
      errors: [{ path: "log", message: "names no log of this tenant" }],
    });
  }
  return { ...current, logId: found.logId, name: found.name };
}
