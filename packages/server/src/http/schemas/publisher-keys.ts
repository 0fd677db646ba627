/**
 * Schemas of the routes of publisher keys.
 */
import { listOf, problems, seq, strict, tenantParameter, time, uuid } from "./shared.ts";

const nullableTime = { type: ["string", "null"], format: "date-time" } as const;
const serviceId = { type: "string", minLength: 1, maxLength: 128 } as const;
const algorithm = { type: "string", enum: ["ed25519", "rsa-pss"] } as const;
const pem = {
  type: "string",
  minLength: 1,
  maxLength: 8192,
  description: "PEM that begins with BEGIN PUBLIC KEY: Ed25519, or RSA of 2048 bits or more",
} as const;
const reason = { type: "string", minLength: 1, maxLength: 1024 } as const;
const givenTime = { type: "string", description: "RFC 3339" } as const;

const keyFields = {
  id: uuid,
  key_id: { type: "string", description: "<service_id>:v<version>: what public_key_id of a signed event names" },
  service_id: serviceId,
  version: { type: "integer", minimum: 1 },
  algorithm,
  public_key_pem: pem,
  valid_from: time,
  valid_to: { ...nullableTime, description: "Exclusive" },
  revoked_at: nullableTime,
  created_at: time,
} as const;
const key = { type: "object", required: Object.keys(keyFields), properties: keyFields } as const;
const entry = {
  type: ["object", "null"],
  description: "The entry that tells of it; null where nothing had to be changed",
  properties: { id: uuid, seq, recorded_at: time },
} as const;
const changedKey = {
  type: "object",
  required: [...Object.keys(keyFields), "entry"],
  properties: { ...keyFields, entry },
} as const;
const serviceFields = { service_id: serviceId, signed_only: { type: "boolean" }, changed_at: time } as const;

const tags = ["publisher keys"];
const querystring = { ...strict, properties: tenantParameter } as const;

export const listKeysSchema = {
  operationId: "listPublisherKeys",
  summary: "List publisher keys, ended and revoked ones too",
  tags,
  querystring,
  response: { 200: listOf(key), ...problems(401, 403) },
};

export const registerKeySchema = {
  operationId: "registerPublisherKey",
  summary: "Register a publisher's public key",
  description: "It becomes the service's next version, and is an entry of the log in the same transaction.",
  tags,
  querystring,
  body: {
    ...strict,
    required: ["service_id", "public_key_pem", "algorithm"],
    properties: { service_id: serviceId, public_key_pem: pem, algorithm, valid_from: givenTime, valid_to: givenTime },
  },
  response: { 201: changedKey, ...problems(400, 401, 403, 409, 415, 503) },
};

export const rotateKeySchema = {
  operationId: "rotatePublisherKey",
  summary: "Replace a service's newest key",
  description:
    "The old key signs for overlap_seconds more, and keeps verifying what it signed. Other keys of the service stay what they are.",
  tags,
  querystring,
  body: {
    ...strict,
    required: ["service_id", "algorithm"],
    properties: {
      service_id: serviceId,
      new_public_key_pem: pem,
      public_key_pem: { ...pem, description: "The same by another name: send one of them" },
      algorithm,
      valid_to: givenTime,
      overlap_seconds: {
        type: "integer",
        minimum: 0,
        maximum: 31_536_000,
        description: "How long the old key still signs; 3600 unless given, so that a rolling deployment loses nothing",
      },
    },
  },
  response: { 201: changedKey, ...problems(400, 401, 403, 409, 415, 503) },
};

export const revokeKeySchema = {
  operationId: "revokePublisherKey",
  summary: "Revoke a publisher key",
  description:
    "For good: nothing that it signed is recorded from now on. What was recorded before stays verified by it.",
  tags,
  params: {
    ...strict,
    required: ["id"],
    properties: { id: { type: "string", description: "The key's UUID, or its key id, percent-encoded" } },
  },
  querystring,
  body: { ...strict, properties: { reason } },
  response: { 200: changedKey, ...problems(400, 401, 403, 404, 503) },
};

export const listServicesSchema = {
  operationId: "listServices",
  summary: "List services that have a setting of their own",
  tags,
  querystring,
  response: {
    200: listOf({ type: "object", required: Object.keys(serviceFields), properties: serviceFields }),
    ...problems(401, 403),
  },
};

export const changeServiceSchema = {
  operationId: "changeService",
  summary: "Set whether a service's events are taken signed only",
  description: "Known to every server within a second; an entry of the log in the same transaction.",
  tags,
  params: { ...strict, required: ["service_id"], properties: { service_id: serviceId } },
  querystring,
  body: { ...strict, required: ["signed_only"], properties: { signed_only: { type: "boolean" } } },
  response: {
    200: {
      type: "object",
      required: [...Object.keys(serviceFields), "entry"],
      properties: { ...serviceFields, entry },
    },
    ...problems(400, 401, 403, 415, 503),
  },
};
