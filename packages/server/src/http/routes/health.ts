/**
 * Health: whether the process lives, and whether it can do its work, with a reason for each part.
 */
import type { FastifyInstance } from "fastify";
import type { Services } from "../server.ts";

/** One thing the server depends on, or promises. */
export interface Check {
  readonly status: "ok" | "failed" | "warning";
  readonly detail?: string;
}

/** `ok` is false when a check has failed; a warning names a promise that is not met, and is no reason to stop traffic. */
export interface Readiness {
  readonly ok: boolean;
  readonly checks: Readonly<Record<string, Check>>;
}

const answer = { type: "object", additionalProperties: true, properties: { status: { type: "string" } } } as const;

export function healthRoutes(app: FastifyInstance, { readiness }: Services): void {
  app.get(
    "/health/live",
    { schema: { tags: ["health"], summary: "The process lives", response: { 200: answer } } },
    async () => ({ status: "ok" }),
  );

  for (const path of ["/health", "/health/ready"]) {
    app.get(
      path,
      {
        schema: {
          tags: ["health"],

          summary: "It can do its work",
          response: { 200: answer, 503: answer },
        },
      },
      async (_request, reply) => {
        const { ok, checks } = await readiness();
        return reply.code(ok ? 200 : 503).send({ status: ok ? "ok" : "failed", checks });
      },
    );
  }
}
