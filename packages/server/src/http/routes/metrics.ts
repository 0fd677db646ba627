/**
 * GET /metrics: for Prometheus.
 */
import type { FastifyInstance } from "fastify";
import type { Services } from "../server.ts";

const schema = {
  operationId: "metrics",
  summary: "Counters, in Prometheus' text format",
  tags: ["health"],
  response: { 200: { description: "OK", content: { "text/plain": { schema: { type: "string" } } } } },
} as const;

export function metricsRoutes(app: FastifyInstance, { metrics }: Services): void {
  app.get("/metrics", { schema }, async (_request, reply) => {
    return reply.type(metrics.contentType).send(await metrics.text());
  });
}
