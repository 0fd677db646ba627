/**
 * Rate limits as clients see them: RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers), 429 and Retry-After.
 */
import type { FastifyReply } from "fastify";
import { WINDOW_SECONDS } from "../limits/bucket.ts";
import { type Holder, type Limit, type LimitName, RateLimitError, type RateLimits } from "../limits/rate-limits.ts";
import { Problem } from "./problem.ts";

/**
 * Takes the cost of a request from the limits of whoever sends it, and says in the answer's headers what is left.
 * @param revokes it ends a credential, or finds it: it is charged to a limit apart.
 * @throws {Problem} 429 where one is used up.
 */
export function chargeRequest(
  limits: RateLimits,
  holder: Holder,
  reply: FastifyReply,
  { cost = 1, revokes = false }: { cost?: number; revokes?: boolean | undefined } = {},
): void {
  const applied = revokes ? limits.revocationLimitsOf(holder) : limits.limitsOf(holder);
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
  return new Problem(429, "too-many-requests", `${wordsFor(name, bucket.limit)}.`, {
    retryAfterSeconds: bucket.secondsUntilOpen,
    cause: error,
  });
}

function wordsFor(name: LimitName, perMinute: number): string {
  if (name === "revocations") {
    return `This credential may list and revoke credentials ${perMinute} times a minute: wait as Retry-After says`;
  }
  const [whose, setting] =
    name === "tenant"
      ? ["The tenant's credentials together", "rate_limit_requests"]
      : ["This credential", "credential_rate_limit_requests"];
  return `${whose} may send ${perMinute} requests a minute, each event of a bulk request counted: wait as Retry-After says, or ask the operator to raise "${setting}" of the tenant`;
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
