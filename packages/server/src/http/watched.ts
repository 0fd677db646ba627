/**
 * What the watched watcher is told of requests.
 */
import type { FastifyRequest } from "fastify";
import type { By } from "../access/by.ts";
import type { Watch } from "../watch/watch.ts";
import type { Problem } from "./problem.ts";

/** By whom a request is, as entries tell of it. */
export function byOf(request: FastifyRequest): By {
  const { actor, caller } = request.access;
  return { actor, credential: caller?.credential, ip: request.ip, requestId: request.id };
}

/** Refusals that are told of beside those that are a 401. */
const DENIALS: ReadonlySet<string> = new Set([
  "refused_too_often",
  "scope_missing",
  "tenant_foreign",
  "signature_wrong",
]);

/** Counts a refusal where a credential, or a publisher's signature, was not good or not good enough. */
export function noteDenial(watch: Watch, request: FastifyRequest, problem: Problem): void {
  const { reason, status } = problem;
  if (reason === undefined || !(status === 401 || DENIALS.has(reason))) return;
  const { method, url } = request.routeOptions;
  watch.denied({
    reason,
    ip: request.ip,
    // Null until the gate has let the request in.
    credential: problem.credential ?? (request.access as typeof request.access | null)?.caller?.credential,
    http: url === undefined ? undefined : { method: String(method), route: url, status },
  });
}
