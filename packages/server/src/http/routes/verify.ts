/**
 * POST /v1/admin/verify-chain: whether the log is what was recorded.
 */
import type { FastifyInstance } from "fastify";
import { verifyLog } from "../../log/verify-log.ts";
import type { VerifyReport } from "../../log/verify-report.ts";
import { VerifyWorkers } from "../../log/verify-workers.ts";
import { verifySchema } from "../schemas.ts";
import type { Services } from "../server.ts";

const config = { scope: "verify" } as const;
// A batch that is not in PostgreSQL's cache comes from disk.
const BATCH_TIMEOUT_MS = 25_000;
// Threads that have run for a while are several times as fast as new ones; idle ones only take memory.
const THREADS_IDLE_MS = 60_000;

export function verifyRoutes(app: FastifyInstance, { database }: Services): void {
  // One at a time: each takes what it can get of this machine's processors, and those who write need the rest.
  let previous: Promise<unknown> = Promise.resolve();
  let workers: VerifyWorkers | undefined;
  let idle: NodeJS.Timeout | undefined;
  const closeWorkers = async () => {
    clearTimeout(idle);
    const closing = workers?.close();
    workers = undefined;
    await closing;
  };
  app.addHook("onClose", closeWorkers);

  app.post(
    "/v1/admin/verify-chain",
    { schema: verifySchema, config },
    async (request, reply): Promise<VerifyReport> => {
      const { log } = request.access;
      const { service_id: serviceId } = request.query as { service_id?: string };
      const abandoned = new AbortController();
      const { signal } = abandoned;
      reply.raw.once("close", () => abandoned.abort());
      const verification = previous.then(() => {
        signal.throwIfAborted();
        clearTimeout(idle);
        const { url, begin } = database.readAccess(log.tenantId, BATCH_TIMEOUT_MS);
        workers ??= new VerifyWorkers(url);
        const snapshot = <T>(work: Parameters<typeof database.read<T>>[1]) =>
          database.read(log.tenantId, work, BATCH_TIMEOUT_MS);
        return verifyLog(snapshot, log, { serviceId, signal, threads: { workers, begin } });
      });
      previous = verification
        .catch(() => {})
        .finally(() => {
          clearTimeout(idle);
          idle = setTimeout(closeWorkers, THREADS_IDLE_MS).unref();
        });
      return verification;
    },
  );
}
