/**
 * Rate limits as clients see them: RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers), 429 and Retry-After.
 */
import type { FastifyReply } from "fastify";
import { WINDOW_SECONDS } from "../limits/bucket.ts";
import { type Limit, RateLimitError, type RateLimits } from "../limits/rate-limits.ts";
import type { Access } from "./access.ts";
import { Problem } from "./problem.ts";

/**
 * Takes the cost of a request from the limits of whoever sends it, and says in the answer's headers what is left.
 * @throws {Problem} 429 where one is used up.
 */
export function chargeRequest(limits: RateLimits, access: Access, reply: FastifyReply, cost = 1): void {
  const { caller, log, operator } = access;
  if (caller === undefined) return; // a public route
  const applied = limits.limitsOf({ credential: caller.credential, tenant: operator ? undefined : log });
  if (applied.length === 0) return;
  try {
    limits.take(applied, cost);
  } catch (error) {
    if (!(error instanceof RateLimitError)) throw error;
    throw tooMany(error);
  } finally {
    reply.header("ratelimit-policy", applied.map(policyOf).join(", "));
    reply.header("ratelimit", applied.map(standingOf).join(", "));
  }
}

function policyOf({ name, bucket }: Limit): string {
  return `"${name}";q=${bucket.limit};w=${WINDOW_SECONDS}`;
}

function standingOf({ name, bucket }: Limit): string {
  const { level, limit } = bucket;
  const secondsUntilFull = Math.max(0, Math.ceil(((limit - level) * WINDOW_SECONDS) / limit));
  return `"${name}";r=${Math.max(0, Math.floor(level))};t=${secondsUntilFull}`;
}

function tooMany(error: RateLimitError): Problem {
  const { name, bucket } = error.limit;
  const whose = name === "tenant" ? "The tenant's credentials together" : "This credential";
  const setting = name === "tenant" ? "rate_limit_requests" : "credential_rate_limit_requests";
  return new Problem(
    429,
    "too-many-requests",
    `${whose} may send ${bucket.limit} requests a minute, each event of a bulk request counted: wait as Retry-After says, or ask the operator to raise "${setting}" of the tenant.`,
    { retryAfterSeconds: bucket.secondsUntilOpen, cause: error },
  );
}

/** The refusal of a credential without a look, because too many of this address were refused. */
export function tooManyRefused(retryAfterSeconds: number): Problem {
  return new Problem(
    429,
    "too-many-requests",
    "Too many credentials of this address were refused: wait as Retry-After says, and send one that is good.",
    { retryAfterSeconds, reason: "refused_too_often" },
  );
}
