/**
 * Schemas of the tenants' routes.
 */
import { listOf, problems, strict, tenantParameter, time, uuid } from "./shared.ts";

const tenant = {
  type: "object",
  required: ["id", "slug", "name", "status", "created_at"],
  properties: {
    id: uuid,
    slug: { type: "string" },
    name: { type: "string" },
    status: { type: "string", enum: ["active", "inactive", "suspended"] },
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
  summary: "Rename, suspend or reactivate a tenant",
  description: "A suspended or inactive tenant can be read and not written to.",
  tags: ["tenants"],
  params: tenantPath,
  querystring: { ...strict, properties: tenantParameter },
  body: {
    ...strict,
    minProperties: 1,
    properties: {
      name: { type: "string", minLength: 1, maxLength: 256 },
      status: { type: "string", enum: ["active", "inactive", "suspended"] },
    },
  },
  response: { 200: tenant, ...problems(400, 401, 403, 404, 415) },
};
