/**
 * Schemas of the routes that read entries.
 */
import { ACTOR_TYPES, OPERATIONS, OUTCOMES, SEVERITIES } from "@tallystick/core/event";
import { event as sentEvent } from "./events.ts";
import { hex, logParameter, problems, seq, strict, tenantParameter, text, time, uuid } from "./shared.ts";

const maskableText = {
  oneOf: [
    sentEvent.properties.reason,
    {
      ...strict,
      description: "Masked: it held a secret, or a card number",
      required: ["$masked"],
      properties: { $masked: { type: "string", description: "The rule that it was masked by" } },
    },
  ],
} as const;

const event = {
  ...sentEvent,
  description:
    "The event in canonical spelling. What was masked stands as a lone $masked, what was erased as a lone $committed.",
  properties: { ...sentEvent.properties, reason: maskableText, description: maskableText },
} as const;

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

const cursor = { type: ["string", "null"] } as const;

/** A page of a list; Link has the same places. */
export const pageOfEntries = {
  type: "object",
  required: ["data", "next_cursor", "prev_cursor"],
  properties: {
    data: { type: "array", items: entry },
    next_cursor: { ...cursor, description: "Of the page behind this one; null on the last" },
    prev_cursor: { ...cursor, description: "Of the page before this one; null on the first" },
  },
} as const;

const timeParameter = { type: "string", description: "RFC 3339, or a date" } as const;

/** A parameter that may be given several times: any of the values is meant. */
function anyOf<Item extends object>(items: Item, description?: string) {
  return {
    type: "array",
    minItems: 1,
    maxItems: 100,
    items,
    ...(description !== undefined && { description }),
  } as const;
}

/** The filters of a list, an export, a stream. Those that are lists may be given several times: any of the values is meant. */
export const filterParameters = {
  q: {
    type: "string",
    description:
      'A query such as `actor:alice -action:hook.* created:2026-01-01..2026-01-31 "exact words"`: see docs/searching.md',
  },
  actor_id: anyOf(text),
  actor_type: anyOf({ type: "string", enum: [...ACTOR_TYPES] }),
  on_behalf_of_id: anyOf(text),
  action: anyOf(text, "With * for any text"),
  resource_type: anyOf(text, "Of the resource or a related one"),
  resource_id: anyOf(text, "Of the resource or a related one"),
  outcome: anyOf({ type: "string", enum: [...OUTCOMES] }),
  severity: anyOf({ type: "string", enum: [...SEVERITIES] }),
  operation: anyOf({ type: "string", enum: [...OPERATIONS] }),
  event_type: anyOf(text),
  service_id: anyOf(text),
  request_id: anyOf(text),
  session_id: anyOf(text),
  trace_id: anyOf(text),
  ip: anyOf(text, "An address, or a range such as 10.0.0.0/8. Found while the address has not been erased"),
  from: { ...timeParameter, description: "Recorded at or after; RFC 3339, or a date" },
  to: { ...timeParameter, description: "Recorded before; a date includes its day" },
  occurred_from: timeParameter,
  occurred_to: timeParameter,
} as const;

export const order = {
  type: "string",
  enum: ["asc", "desc", "rank"],
  description:
    "By position; desc unless given. rank, where q has words: the newest 1,000 that match by where they have them, actions and names before reasons and descriptions before the rest; one page",
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
      ...logParameter,
      ...filterParameters,
      order,
      limit: { type: "string", pattern: "^[0-9]+$", description: "1 to 1000; 50 unless given" },
      cursor: { type: "string", description: "next_cursor or prev_cursor of a page of the same list" },
    },
  },
  response: {
    200: pageOfEntries,
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
        publisher: {
          type: "object",
          description: "Who signed it, where it was signed; a lone $committed where the signature has been erased",
          properties: {
            key_id: { type: "string" },
            algorithm: { type: "string", enum: ["ed25519", "rsa-pss"] },
            signature: { type: "string" },
            payload: { type: "string", description: "The signed text, where it is not the RFC 8785 form of event" },
            unsigned: { type: "array", items: { type: "string" }, description: "Members that are not signed" },
          },
          additionalProperties: true,
        },
      },
    },
    ...problems(400, 401, 403, 404, 503),
  },
};
