/**
 * What the schemas of several routes share. OpenAPI is made from them.
 */

import { SCOPES } from "../../access/scopes.ts";

export const time = { type: "string", format: "date-time", description: "RFC 3339 UTC, microseconds" } as const;
export const nullableTime = { type: ["string", "null"], format: "date-time" } as const;
export const uuid = { type: "string", format: "uuid" } as const;
export const hex = { type: "string", pattern: "^[0-9a-f]{64}$" } as const;
export const seq = { type: "integer", minimum: 0, description: "0-based position in the log" } as const;
export const text = { type: "string", minLength: 1, maxLength: 1024 } as const;

/** Of a credential, made or shown. */
export const scopes = {
  type: "array",
  minItems: 1,
  maxItems: SCOPES.length,
  uniqueItems: true,
  items: { type: "string", enum: SCOPES },
} as const;

/** An RFC 9457 problem. */
export const problem = {
  type: "object",
  required: ["type", "title", "status", "detail", "request_id"],
  properties: {
    type: { type: "string", description: "Stable: urn:tallystick:problem:<name>" },
    title: { type: "string" },
    status: { type: "integer" },
    detail: { type: "string", description: "What is wrong, and what to do" },
    errors: {
      type: "array",
      items: {
        type: "object",
        required: ["path", "message"],
        properties: { path: { type: "string" }, message: { type: "string" } },
      },
    },
    request_id: { type: "string" },
  },
} as const;

/** {@link problem} by its id, under which it is added to the server. */
export const namedProblem = { $id: "Problem", ...problem } as const;
const problemRef = { $ref: "Problem#" } as const;

/** Documents the errors of a route. Errors are written without these schemas: they are never on a fast path. */
export function problems(...statuses: number[]) {
  return Object.fromEntries(
    statuses.map((status) => [
      status,
      { description: "Problem (RFC 9457)", content: { "application/problem+json": { schema: problemRef } } },
    ]),
  );
}

export const strict = { type: "object", additionalProperties: false } as const;
/** The operator names a tenant by this parameter or by X-Tenant-Id. */
export const tenantParameter = {
  tenant_id: { type: "string", description: "The operator's choice of tenant: id or slug" },
} as const;

export const listOf = (items: object) => ({
  type: "object",
  required: ["data"],
  properties: { data: { type: "array", items } },
});

/** Of a log that has been succeeded. */
export const logParameter = {
  log: { type: "string", description: "Slug of one of the tenant's logs; its current one unless given: see listLogs" },
} as const;
