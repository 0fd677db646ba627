/**
 * The yardstick of single writes: Fastify, which answers a POST that it has validated against a JSON schema, and does no work.
 */
import type { AddressInfo } from "node:net";
import Fastify from "fastify";

const text = (maxLength: number) => ({ type: "string", minLength: 1, maxLength });
const actor = {
  type: "object",
  required: ["id"],
  additionalProperties: false,
  properties: {
    id: text(256),
    type: { type: "string", enum: ["user", "service", "system", "api_key", "agent", "anonymous"] },
    name: text(1_024),
    email: text(1_024),
  },
};
const schema = {
  body: {
    type: "object",
    required: ["action", "actor"],
    additionalProperties: false,
    properties: {
      action: text(128),
      actor,
      resource: {
        type: "object",
        required: ["type"],
        additionalProperties: false,
        properties: { type: text(256), id: text(256), name: text(1_024) },
      },
      outcome: { type: "string", enum: ["success", "failure", "denied"] },
      occurred_at: { type: "string", format: "date-time" },
      context: {
        type: "object",
        additionalProperties: false,
        properties: { request_id: text(1_024), session_id: text(1_024), ip: text(64), user_agent: text(1_024) },
      },
      metadata: { type: "object", additionalProperties: true },
      idempotency_key: text(128),
    },
  },
  response: {
    201: {
      type: "object",
      properties: {
        id: { type: "string" },
        seq: { type: "integer" },
        recorded_at: { type: "string" },
        leaf_hash: { type: "string" },
        duplicate: { type: "boolean" },
      },
    },
  },
};

const app = Fastify();
const head = {
  id: "01981a2b-3c4d-7e5f-8a6b-7c8d9e0f1a2b",
  seq: 123_456,
  recorded_at: "2026-01-01T00:00:00.000000Z",
  leaf_hash: "0".repeat(64),
  duplicate: false,
};
app.post("/v1/logs", { schema }, async (_request, reply) =>
  reply.code(201).header("location", `/v1/logs/${head.id}`).send(head),
);
await app.listen({ host: "127.0.0.1", port: 0 });
process.once("SIGTERM", () => process.exit());
process.once("disconnect", () => process.exit());
process.send?.({ url: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}` });
