/**
 * POST /v1/admin/verify-chain: whether the log is what was recorded.
 */
import type { FastifyInstance } from "fastify";
import { verifyLog } from "../../log/verify-log.ts";
import type { VerifyReport } from "../../log/verify-report.ts";
import { VerifyWorkers } from "../../log/verify-workers.ts";
import { Problem } from "../problem.ts";
import { verifySchema } from "../schemas/verify.ts";
import type { Services } from "../server.ts";
import { Turns } from "../turns.ts";

const config = { scope: "verify" } as const;
// A batch that is not in PostgreSQL's cache comes from disk.
const BATCH_TIMEOUT_MS = 12_000;
// Threads that have run for a while are several times as fast as new ones; idle ones only take memory.
const THREADS_IDLE_MS = 60_000;

export function verifyRoutes(app: FastifyInstance, { database }: Services): void {
  // One at a time: each takes what it can get of this machine's processors, and those who write need the rest.
  const turns = new Turns();
  let threads: { readonly url: string; readonly workers: VerifyWorkers } | undefined;
  let idle: NodeJS.Timeout | undefined;
  const closeThreads = async () => {
    clearTimeout(idle);
    const closing = threads?.workers.close();
    threads = undefined;
    await closing;
  };
  app.addHook("onClose", closeThreads);

  app.post(
    "/v1/admin/verify-chain",
    { schema: verifySchema, config },
    async (request, reply): Promise<VerifyReport> => {
      const { log } = request.access;
      const { service_id: serviceId } = request.query as { service_id?: string };
      const abandoned = new AbortController();
      const { signal } = abandoned;
      reply.raw.once("close", () => abandoned.abort());
      const report = await turns.take(async () => {
        signal.throwIfAborted();
        clearTimeout(idle);
        const { url, begin } = database.readAccess(log.tenantId, BATCH_TIMEOUT_MS);
        if (threads?.url !== url) await closeThreads(); // PostgreSQL came back on another port
        threads ??= { url, workers: new VerifyWorkers(url) };
        const snapshot = <T>(work: Parameters<typeof database.read<T>>[1]) =>
          database.read(log.tenantId, work, BATCH_TIMEOUT_MS);
        try {
          return await verifyLog(snapshot, log, { serviceId, signal, threads: { workers: threads.workers, begin } });
        } finally {
          idle = setTimeout(closeThreads, THREADS_IDLE_MS).unref();
        }
      });
      if (serviceId !== undefined && report.ok && report.checked === 0) {
        // A typo must not read as a clean bill.
        throw new Problem(404, "not-found", `The log has no entry of a service "${serviceId}".`, {
          errors: [{ path: "service_id", message: "names no service of this log" }],
        });
      }
      return report;
    },
  );
}
