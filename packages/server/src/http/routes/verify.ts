/**
 * POST /v1/admin/verify-chain: whether the log is what was recorded.
 */
import type { FastifyInstance } from "fastify";
import { verifyLog } from "../../log/verify-log.ts";
import type { VerifyReport } from "../../log/verify-report.ts";
import { verifySchema } from "../schemas.ts";
import type { Services } from "../server.ts";

const config = { scope: "verify" } as const;
// A batch that is not in PostgreSQL's cache comes from disk.
const BATCH_TIMEOUT_MS = 25_000;

export function verifyRoutes(app: FastifyInstance, { database }: Services): void {
  // One at a time: each takes what it can get of this server's processor, and those who write need the rest.
  let previous: Promise<unknown> = Promise.resolve();

  app.post(
    "/v1/admin/verify-chain",
    { schema: verifySchema, config },
    async (request, reply): Promise<VerifyReport> => {
      const { log } = request.access;
      const { service_id: serviceId } = request.query as { service_id?: string };
      const abandoned = new AbortController();
      reply.raw.once("close", () => abandoned.abort());
      const verification = previous.then(() => {
        abandoned.signal.throwIfAborted();
        return verifyLog((work) => database.read(log.tenantId, work, BATCH_TIMEOUT_MS), log, {
          access: database.readAccess(log.tenantId, BATCH_TIMEOUT_MS),
          serviceId,
          signal: abandoned.signal,
        });
      });
      previous = verification.catch(() => {});
      return verification;
    },
  );
}
