/**
 * What a new credential may be given, an API key or a certificate's mapping: never more than whoever gives it has themselves.
 */
import { isReserved } from "@tallystick/core/event";
import type { Scope } from "../access/scopes.ts";
import { OPERATOR_TENANT } from "../log/tenants.ts";
import type { Access } from "./access.ts";
import { requireUnsuspended } from "./intake.ts";
import { Problem } from "./problem.ts";

/** What both are given, as bodies say it. */
export interface Grant {
  readonly scopes: readonly Scope[];
  readonly service_id?: string | undefined;
}

/** @throws {Problem} 403 where the grant is not this caller's to give, or the tenant is suspended. */
export function requireGrantable(access: Access, { scopes, service_id: serviceId }: Grant): void {
  const { log, operator } = access;
  requireUnsuspended(log);
  if (serviceId !== undefined && isReserved(serviceId)) {
    const detail = 'Services that begin with "tallystick" are the server\'s own: choose another name.';
    throw new Problem(403, "reserved-name", detail, { errors: [{ path: "/service_id", message: "is reserved" }] });
  }
  if (access.serviceId !== undefined && serviceId !== access.serviceId) {
    const detail = `The credential is bound to the service "${access.serviceId}", and so must be whatever it makes: say so in service_id.`;
    const message = `must be ${JSON.stringify(access.serviceId)}`;
    throw new Problem(403, "forbidden", detail, { errors: [{ path: "/service_id", message }] });
  }
  if (!scopes.includes("operator")) return;
  if (log.slug !== OPERATOR_TENANT) {
    const detail = `Only a credential of the tenant "${OPERATOR_TENANT}" can act across tenants: name that one by X-Tenant-Id.`;
    const message = `can contain "operator" in the tenant "${OPERATOR_TENANT}" only`;
    throw new Problem(403, "forbidden", detail, { errors: [{ path: "/scopes", message }] });
  }
  // An administrator of the operator's tenant without it would make themselves operator.
  if (!operator) {
    const detail = 'The scope "operator" is given by who has it: ask the operator.';
    throw new Problem(403, "forbidden", detail, { errors: [{ path: "/scopes", message: "needs the operator" }] });
  }
}
