/**
 * Schemas of the API keys' routes.
 */
import { listOf, nullableTime, problems, scopes, strict, tenantParameter, time, uuid } from "./shared.ts";

const apiKeyFields = {
  id: uuid,
  name: { type: "string" },
  prefix: { type: "string", description: "How the key begins: enough to recognise it" },
  service_id: { type: ["string", "null"] },
  scopes,
  created_at: time,
  expires_at: nullableTime,
  revoked_at: nullableTime,
  last_used_at: { ...nullableTime, description: "To about a minute" },
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
