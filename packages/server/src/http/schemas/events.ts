/**
 * Schemas of the routes that record.
 */
import { ACTOR_TYPES, OPERATIONS, OUTCOMES, SEVERITIES } from "@tallystick/core/event";
import { hex, problem, problems, seq, strict, tenantParameter, time, uuid } from "./shared.ts";

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

const receipt = {
  receipt: { type: "string", enum: ["true", "false"], description: "Adds the receipt; so does Prefer: return=receipt" },
} as const;

const signature = {
  type: "string",
  description:
    "By the publisher's key, standard base64. Beside an event: over its RFC 8785 form as sent, without this and public_key_id",
} as const;
const publicKeyId = {
  type: "string",
  description: "The id that the key was registered under, <service_id>:v<n>",
  examples: ["orders:v1"],
} as const;

/** What a client sends: an event, signed or not, or the signed form. */
const submission = {
  anyOf: [
    { ...event, properties: { ...event.properties, signature, public_key_id: publicKeyId } },
    {
      ...strict,
      description: "The signed form: the exact text that was signed, and what is not in it",
      required: ["event", "signature", "public_key_id"],
      properties: {
        event: { type: "string", description: "The exact text that was signed: a JSON object, the event" },
        event_data: { type: "object", additionalProperties: true, description: "What it parses to; compared with it" },
        signature: { type: "string", description: "Over the UTF-8 bytes of event, standard base64" },
        public_key_id: publicKeyId,
        service_id: event.properties.service_id,
        event_type: event.properties.event_type,
        idempotency_key: event.properties.idempotency_key,
        tenant_id: { type: "string" },
        organization_id: { type: "string" },
      },
    },
  ],
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
    receipt: {
      type: ["string", "null"],
      description: "C2SP tlog-proof, where it was asked for; its extra has the leaf",
    },
    receipt_problem: { ...problem, description: "Why there is no receipt of an entry that is recorded nevertheless" },
  },
} as const;

export const recordSchema = {
  operationId: "record",
  summary: "Record an event",
  description: "201: the entry is durable, chained, and in the tree whose head was committed with it.",
  tags: ["events"],
  querystring: { ...strict, properties: { ...tenantParameter, ...receipt } },
  body: submission,
  response: { 201: entryHead, ...problems(400, 401, 403, 413, 415, 422, 503) },
};

export const bulkSchema = {
  operationId: "recordBulk",
  summary: "Record up to 5,000 events",
  description: "All or nothing; with `partial=true` 207 and a result for each event, in order: its head, or a problem.",
  tags: ["events"],
  querystring: {
    ...strict,
    properties: { ...tenantParameter, ...receipt, partial: { type: "string", enum: ["true", "false"] } },
  },
  body: {
    oneOf: [
      { type: "object", required: ["events"], properties: { events: { type: "array", items: submission } } },
      { type: "array", items: submission },
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
