/**
 * JSON schemas of the routes: what OpenAPI is made from, and how answers are written.
 */
import { ACTOR_TYPES, OPERATIONS, OUTCOMES, SEVERITIES } from "@tallystick/core/event";

const time = { type: "string", format: "date-time", description: "RFC 3339 UTC, microseconds" } as const;
const uuid = { type: "string", format: "uuid" } as const;
const hex = { type: "string", pattern: "^[0-9a-f]{64}$" } as const;
const seq = { type: "integer", minimum: 0, description: "0-based position in the log" } as const;

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

/** Documents the errors of a route. Errors are written without these schemas: they are never on a fast path. */
export function problems(...statuses: number[]) {
  return Object.fromEntries(
    statuses.map((status) => [
      status,
      { description: "Problem (RFC 9457)", content: { "application/problem+json": { schema: problem } } },
    ]),
  );
}

const actor = {
  type: "object",
  description: "Who. `on_behalf_of` is an actor, at most 4 deep; an `anonymous` actor has no id.",
  properties: {
    id: { type: "string", maxLength: 256 },
    type: { type: "string", enum: [...ACTOR_TYPES] },
    name: { type: "string", maxLength: 1024 },
    email: { type: "string", maxLength: 1024 },
    attributes: { type: "object", additionalProperties: true },
    on_behalf_of: { type: "object", additionalProperties: true },
  },
} as const;

const resource = {
  type: "object",
  required: ["type"],
  properties: {
    type: { type: "string", maxLength: 256 },
    id: { type: "string", maxLength: 256 },
    name: { type: "string", maxLength: 1024 },
    attributes: { type: "object", additionalProperties: true },
  },
} as const;

/** An event in canonical spelling. Further spellings are accepted: docs/spec, section 2. */
export const event = {
  type: "object",
  description:
    "An event. Unknown fields are refused by name. Besides these, the spellings of docs/spec section 2 are accepted.",
  additionalProperties: true,
  properties: {
    action: { type: "string", minLength: 1, maxLength: 128, examples: ["user.login"] },
    actor,
    resource,
    related: { type: "array", maxItems: 32, items: { type: "object", additionalProperties: true } },
    outcome: { type: "string", enum: [...OUTCOMES] },
    reason: { type: "string", maxLength: 8192 },
    description: { type: "string", maxLength: 8192 },
    severity: { type: "string", enum: [...SEVERITIES] },
    operation: { type: "string", enum: [...OPERATIONS] },
    event_type: { type: "string", minLength: 1, maxLength: 128 },
    version: { type: "integer" },
    service_id: { type: "string", minLength: 1, maxLength: 128 },
    occurred_at: time,
    changes: { type: "object", properties: { before: {}, after: {} } },
    metadata: { type: "object", additionalProperties: true },
    attachments: { type: "array", maxItems: 16, items: { type: "object", additionalProperties: true } },
    context: { type: "object", additionalProperties: true },
    sequence: { type: "object", additionalProperties: true },
    idempotency_key: { type: "string", minLength: 1, maxLength: 128 },
  },
} as const;

const entryHead = {
  type: "object",
  required: ["id", "seq", "recorded_at", "leaf_hash", "duplicate"],
  properties: {
    id: uuid,
    seq,
    recorded_at: time,
    leaf_hash: hex,
    duplicate: { type: "boolean", description: "It had been recorded before, under the same idempotency key" },
  },
} as const;

const strict = { type: "object", additionalProperties: false } as const;
/** The operator names a tenant by this parameter or by X-Tenant-Id. */
const tenantParameter = {
  tenant_id: { type: "string", description: "The operator's choice of tenant: id or slug" },
} as const;

export const recordSchema = {
  operationId: "record",
  summary: "Record an event",
  description: "201: the entry is durable, chained, and in the tree whose head was committed with it.",
  tags: ["events"],
  querystring: { ...strict, properties: tenantParameter },
  body: event,
  response: { 201: entryHead, ...problems(400, 401, 403, 413, 415, 422, 503) },
};

export const bulkSchema = {
  operationId: "recordBulk",
  summary: "Record up to 5,000 events",
  description: "All or nothing; with `partial=true` 207 and a result for each event, in order: its head, or a problem.",
  tags: ["events"],
  querystring: { ...strict, properties: { ...tenantParameter, partial: { type: "string", enum: ["true", "false"] } } },
  body: {
    oneOf: [
      { type: "object", required: ["events"], properties: { events: { type: "array", items: event } } },
      { type: "array", items: event },
    ],
  },
  response: {
    201: { type: "object", required: ["data"], properties: { data: { type: "array", items: entryHead } } },
    207: {
      type: "object",
      required: ["data"],
      properties: { data: { type: "array", items: { type: "object", additionalProperties: true } } },
    },
    ...problems(400, 401, 403, 413, 415, 422, 503),
  },
};

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
const listOf = (items: object) => ({
  type: "object",
  required: ["data"],
  properties: { data: { type: "array", items } },
});

export const listTenantsSchema = {
  operationId: "listTenants",
  summary: "List tenants",
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

const scopes = {
  type: "array",
  minItems: 1,
  uniqueItems: true,
  items: { type: "string", enum: ["write", "read", "stream", "export", "verify", "admin"] },
} as const;
const nullableTime = { type: ["string", "null"], format: "date-time" } as const;
const apiKeyFields = {
  id: uuid,
  name: { type: "string" },
  prefix: { type: "string", description: "How the key begins: enough to recognise it" },
  service_id: { type: ["string", "null"] },
  scopes,
  created_at: time,
  expires_at: nullableTime,
  revoked_at: nullableTime,
} as const;
const apiKey = { type: "object", required: Object.keys(apiKeyFields), properties: apiKeyFields } as const;

export const listApiKeysSchema = {
  operationId: "listApiKeys",
  summary: "List API keys",
  tags: ["api keys"],
  querystring: { ...strict, properties: tenantParameter },
  response: { 200: listOf(apiKey), ...problems(401, 403) },
};

export const createApiKeySchema = {
  operationId: "createApiKey",
  summary: "Make an API key",
  description: "The secret is in this answer and nowhere else.",
  tags: ["api keys"],
  querystring: { ...strict, properties: tenantParameter },
  body: {
    ...strict,
    required: ["name", "scopes"],
    properties: {
      name: { type: "string", minLength: 1, maxLength: 256 },
      scopes,
      service_id: { type: "string", minLength: 1, maxLength: 128, description: "The only service it may write for" },
      expires_at: { type: "string", description: "RFC 3339" },
    },
  },
  response: {
    201: {
      type: "object",
      required: [...Object.keys(apiKeyFields), "secret"],
      properties: { ...apiKeyFields, secret: { type: "string" } },
    },
    ...problems(400, 401, 403, 415),
  },
};

export const revokeApiKeySchema = {
  operationId: "revokeApiKey",
  summary: "Revoke an API key",
  description: "For good; seen by every server within a second.",
  tags: ["api keys"],
  params: { ...strict, required: ["id"], properties: { id: uuid } },
  querystring: { ...strict, properties: tenantParameter },
  response: { 200: apiKey, ...problems(400, 401, 403, 404) },
};

const entryFields = {
  id: uuid,
  seq,
  recorded_at: time,
  leaf_hash: hex,
  service: {
    type: "object",
    required: ["id", "seq", "prev"],
    properties: {
      id: { type: "string" },
      seq,
      prev: { ...hex, description: "Leaf hash of the service's entry before, or zeros" },
    },
  },
  event,
} as const;
const entry = { type: "object", required: Object.keys(entryFields), properties: entryFields } as const;

const text = { type: "string", minLength: 1, maxLength: 1024 } as const;
const timeParameter = { type: "string", description: "RFC 3339, or a date" } as const;

/** The filters of a list. */
export const filterParameters = {
  actor_id: text,
  actor_type: { type: "string", enum: [...ACTOR_TYPES] },
  on_behalf_of_id: text,
  action: { ...text, description: "With * at either end or both for any text" },
  resource_type: { ...text, description: "Of the resource or a related one" },
  resource_id: { ...text, description: "Of the resource or a related one" },
  outcome: { type: "string", enum: [...OUTCOMES] },
  severity: { type: "string", enum: [...SEVERITIES] },
  operation: { type: "string", enum: [...OPERATIONS] },
  event_type: text,
  service_id: text,
  request_id: text,
  session_id: text,
  trace_id: text,
  ip: { ...text, description: "Found while the address has not been erased" },
  from: { ...timeParameter, description: "Recorded at or after; RFC 3339, or a date" },
  to: { ...timeParameter, description: "Recorded before; a date includes its day" },
  occurred_from: timeParameter,
  occurred_to: timeParameter,
} as const;

export const listEntriesSchema = {
  operationId: "listEntries",
  summary: "List entries",
  description:
    "Defaults (actor type user, outcome success, severity INFO, occurred_at = recorded_at) apply when filtering.",
  tags: ["entries"],
  querystring: {
    ...strict,
    properties: {
      ...tenantParameter,
      ...filterParameters,
      order: { type: "string", enum: ["asc", "desc"], description: "By position; desc unless given" },
      limit: { type: "string", pattern: "^[0-9]+$", description: "1 to 1000; 50 unless given" },
      cursor: { type: "string", description: "next_cursor of the page before" },
    },
  },
  response: {
    200: {
      type: "object",
      required: ["data", "next_cursor"],
      properties: { data: { type: "array", items: entry }, next_cursor: { type: ["string", "null"] } },
    },
    ...problems(400, 401, 403, 404, 422, 503),
  },
};

export const getEntrySchema = {
  operationId: "getEntry",
  summary: "One entry",
  tags: ["entries"],
  params: { ...strict, required: ["id"], properties: { id: uuid } },
  querystring: { ...strict, properties: tenantParameter },
  response: {
    200: {
      type: "object",
      required: [...Object.keys(entryFields), "leaf"],
      properties: {
        ...entryFields,
        leaf: { type: "string", description: "The canonical bytes: leaf_hash = SHA-256(0x00 || leaf)" },
        publisher: { type: "object", additionalProperties: true },
      },
    },
    ...problems(400, 401, 403, 404, 503),
  },
};

export const verifySchema = {
  operationId: "verifyChain",
  summary: "Verify the log, or one service's chain in it",
  tags: ["verification"],
  querystring: { ...strict, properties: { ...tenantParameter, service_id: text } },
  response: {
    200: {
      type: "object",
      required: ["ok", "log", "size", "root", "checked", "problems"],
      properties: {
        ok: { type: "boolean" },
        log: { type: "string" },
        size: { type: "integer" },
        root: hex,
        checked: { type: "integer", description: "Entries that were read" },
        erased: { type: "integer", description: "Commitments whose opening has been erased" },
        problems: {
          type: "array",
          items: {
            type: "object",
            required: ["seq", "id", "kind", "detail"],
            properties: {
              seq: { type: ["integer", "null"] },
              id: { type: ["string", "null"] },
              kind: { type: "string" },
              field: { type: "string" },
              stored: { type: "string" },
              expected: { type: "string" },
              detail: { type: "string" },
            },
          },
        },
      },
    },
    ...problems(400, 401, 403, 404, 503),
  },
};
