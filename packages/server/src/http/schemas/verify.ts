/**
 * Schemas of the routes that verify.
 */
import { hex, listOf, logParameter, problem, problems, strict, tenantParameter, text, time, uuid } from "./shared.ts";

const report = {
  type: "object",
  required: ["ok", "tenant", "log", "size", "root", "checked", "problems"],
  properties: {
    ok: { type: "boolean" },
    tenant: { type: "string", description: "The tenant's slug" },
    log: { type: "string" },
    size: { type: "integer" },
    root: hex,
    checked: { type: "integer", description: "Entries that were read" },
    erased: { type: "integer", description: "Commitments whose opening has been erased" },
    signatures: {
      type: "object",
      description: "Publishers' signatures that verify, and those that cannot be verified any more, being erased",
      properties: { valid: { type: "integer" }, erased: { type: "integer" } },
    },
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
} as const;

const nullableTime = { type: ["string", "null"], format: "date-time" } as const;
const verificationFields = {
  id: uuid,
  status: {
    type: "string",
    enum: ["queued", "running", "done", "failed", "lost"],
    description: "lost: its server stopped or died before it was done",
  },
  log: { type: "string" },
  service_id: { type: ["string", "null"] },
  progress: {
    type: "object",
    required: ["checked", "size"],
    properties: {
      checked: { type: "integer", description: "Positions gone through" },
      size: { type: ["integer", "null"], description: "Of the log; null until it has been read" },
    },
  },
  created_at: time,
  started_at: nullableTime,
  finished_at: nullableTime,
  ok: { type: ["boolean", "null"], description: "Whether nothing is wrong; null until it is done" },
} as const;
const verification = {
  type: "object",
  required: Object.keys(verificationFields),
  properties: {
    ...verificationFields,
    report,
    problem: { ...problem, required: ["type", "title", "status", "detail"] },
  },
} as const;

export const verifySchema = {
  operationId: "verifyChain",
  summary: "Verify the log, or one service's chain in it",
  description:
    "Answers when it is done, and gives up when the client goes away. With `Prefer: wait=<seconds>` (0 to 600; `respond-async` is 0) it goes on as a job, and what is not done in time is answered 202 with its Location.",
  tags: ["verification"],
  querystring: { ...strict, properties: { ...tenantParameter, ...logParameter, service_id: text } },
  headers: { type: "object", properties: { prefer: { type: "string", description: "RFC 7240: wait, respond-async" } } },
  response: { 200: report, 202: verification, ...problems(400, 401, 403, 404, 429, 503) },
};

export const getVerificationSchema = {
  operationId: "getVerification",
  summary: "One verification that runs as a job, or has",
  tags: ["verification"],
  params: { ...strict, required: ["id"], properties: { id: uuid } },
  querystring: { ...strict, properties: tenantParameter },
  response: { 200: verification, ...problems(400, 401, 403, 404, 503) },
};

export const listVerificationsSchema = {
  operationId: "listVerifications",
  summary: "The tenant's newest 100 verifications, without their reports",
  tags: ["verification"],
  querystring: { ...strict, properties: tenantParameter },
  response: { 200: listOf(verification), ...problems(401, 403, 503) },
};
