/**
 * POST /v1/admin/verify-chain: whether the log is what was recorded; GET /v1/admin/verifications: those that run as jobs.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type Job, VerificationJobs } from "../../verify/jobs.ts";
import type { VerifyReport } from "../../verify/report.ts";
import { type Verification, Verifications } from "../../verify/verifications.ts";
import { Verifier } from "../../verify/verifier.ts";
import { logOf } from "../log-of.ts";
import { preferredWait, type Wait } from "../prefer.ts";
import { Problem, problemBody, problemOf } from "../problem.ts";
import { getVerificationSchema, listVerificationsSchema, verifySchema } from "../schemas/verify.ts";
import type { Services } from "../server.ts";
import { byOf } from "../watched.ts";

const config = { scope: "verify" } as const;

export function verifyRoutes(app: FastifyInstance, { database, tenants, watch }: Services): void {
  const verifier = new Verifier(database);
  const verifications = new Verifications(database);
  const jobs = new VerificationJobs({
    verifier,
    verifications,
    problemOf: (error) => {
      const problem = problemOf(error);
      if (problem.status >= 500) app.log.error({ err: problem.cause ?? problem }, "a verification failed");
      return problemBody(problem);
    },
    onError: (error) => app.log.warn({ err: error }, "the state of a verification could not be written"),
  });
  // Before requests under way are waited for: some of them wait for a verification.
  app.addHook("preClose", () => jobs.stop());
  app.addHook("onClose", () => verifier.close());

  app.post(
    "/v1/admin/verify-chain",
    { schema: verifySchema, config },
    async (request, reply): Promise<VerifyReport | Verification> => {
      const { service_id: serviceId, log: slug } = request.query as { service_id?: string; log?: string };
      const log = await logOf(tenants, request.access.log, slug);
      const by = byOf(request);
      const onReport = (report: VerifyReport) => watch.verified(log, by, report, serviceId);
      const wait = preferredWait(request);
      if (wait !== undefined) return answerWithin(wait, await jobs.start(log, serviceId, onReport), request, reply);
      const report = await verifier.verify(log, { serviceId, signal: whileAnyoneWaits(reply) });
      await onReport(report);
      return report;
    },
  );

  /** The report where it comes in time; else where to ask for it. */
  async function answerWithin(wait: Wait, job: Job, request: FastifyRequest, reply: FastifyReply) {
    const { id } = job.started;
    reply.header("preference-applied", wait.applied);
    const enough = new AbortController();
    reply.raw.once("close", () => enough.abort());
    const late = delay(wait.seconds * 1_000, undefined, { signal: enough.signal }).catch(() => undefined);
    const ended = wait.seconds === 0 ? undefined : await Promise.race([job.ended, late]);
    enough.abort();
    if (ended !== undefined && "report" in ended) return ended.report;
    if (ended !== undefined) throw ended.error;
    reply.code(202).header("location", `/v1/admin/verifications/${id}`);
    const { tenantId } = request.access.log;
    return shown((await verifications.get(tenantId, id)) ?? job.started);
  }

  app.get("/v1/admin/verifications", { schema: listVerificationsSchema, config }, async (request) => ({
    data: (await verifications.list(request.access.log.tenantId)).map(shown),
  }));

  app.get("/v1/admin/verifications/:id", { schema: getVerificationSchema, config }, async (request) => {
    const { id } = request.params as { id: string };
    const verification = await verifications.get(request.access.log.tenantId, id);
    if (verification === undefined) throw new Problem(404, "not-found", `There is no verification ${id}.`);
    return shown(verification);
  });
}

/** Aborted when the client goes away: nobody would read the report. */
function whileAnyoneWaits(reply: FastifyReply): AbortSignal {
  const abandoned = new AbortController();
  reply.raw.once("close", () => abandoned.abort());
  return abandoned.signal;
}

/** A server that died could not say so. */
function shown(verification: Verification): Verification {
  if (verification.status !== "lost" || verification.problem !== undefined) return verification;
  const detail = "The server that ran the verification has died or cannot reach the database: start it again.";
  return { ...verification, problem: problemBody(new Problem(503, "unavailable", detail)) };
}
