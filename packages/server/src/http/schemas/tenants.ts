/**
 * Schemas of the tenants' routes.
 */
import { listOf, problems, strict, tenantParameter, time, uuid } from "./shared.ts";

const settings = {
  ...strict,
  description:
    "In place of the installation's settings, where there is one. In a change, null is the installation's again.",
  properties: {
    rate_limit_requests: {
      type: ["integer", "null"],
      minimum: 0,
      maximum: 10_000_000,
      description:
        "Requests a minute of the tenant's credentials together, each event of a bulk request counted; 0 is no limit",
    },
    credential_rate_limit_requests: {
      type: ["integer", "null"],
      minimum: 0,
      maximum: 10_000_000,
      description: "The same of each credential",
    },
  },
} as const;
const tenant = {
  type: "object",
  required: ["id", "slug", "name", "status", "settings", "created_at"],
  properties: {
    id: uuid,
    slug: { type: "string" },
    name: { type: "string" },
    status: { type: "string", enum: ["active", "inactive", "suspended"] },
    settings,
    created_at: time,
  },
} as const;
const tenantPath = {
  ...strict,
  required: ["id"],
  properties: { id: { type: "string", description: "Id or slug" } },
} as const;

export const listTenantsSchema = {
  operationId: "listTenants",
  summary: "List tenants",
  description: "Those that the credential may administer: all for the operator, else its own.",
  tags: ["tenants"],
  querystring: { ...strict, properties: tenantParameter },
  response: { 200: listOf(tenant), ...problems(401, 403) },
};

export const createTenantSchema = {
  operationId: "createTenant",
  summary: "Make a tenant and its log",
  tags: ["tenants"],
  querystring: { ...strict, properties: tenantParameter },
  body: {
    ...strict,
    required: ["slug"],
    properties: {
      slug: { type: "string", pattern: "^[a-z0-9-]{1,63}$", description: "Never used again" },
      name: { type: "string", minLength: 1, maxLength: 256 },
    },
  },
  response: { 201: tenant, ...problems(400, 401, 403, 409, 415) },
};

export const getTenantSchema = {
  operationId: "getTenant",
  summary: "One tenant",
  tags: ["tenants"],
  params: tenantPath,
  querystring: { ...strict, properties: tenantParameter },
  response: { 200: tenant, ...problems(401, 403, 404) },
};

export const updateTenantSchema = {
  operationId: "updateTenant",
  summary: "Rename, suspend or reactivate a tenant, or set its limits",
  description:
    "A suspended or inactive tenant can be read and not written to. The operator's own tenant stays active (409).",
  tags: ["tenants"],
  params: tenantPath,
  querystring: { ...strict, properties: tenantParameter },
  body: {
    ...strict,
    minProperties: 1,
    properties: {
      name: { type: "string", minLength: 1, maxLength: 256 },
      status: { type: "string", enum: ["active", "inactive", "suspended"] },
      settings: { ...settings, minProperties: 1 },
    },
  },
  response: { 200: tenant, ...problems(400, 401, 403, 404, 409, 415) },
};
