/**
 * Requests that a limit has refused, as the operator sees them: counted by limit, and told to the server's log, once a minute for each tenant.
 */
import type { FastifyBaseLogger, FastifyRequest } from "fastify";
import { addressOf } from "../access/source.ts";
import { RateLimitError } from "../limits/rate-limits.ts";
import type { Metrics } from "../metrics.ts";
import type { Problem } from "./problem.ts";

const MINUTE_MS = 60_000;
/** Tenants and credentials that were told of; the oldest makes room. */
const MAX_TOLD = 10_000;

export interface LimitedOptions {
  readonly metrics: Pick<Metrics, "limited">;
  readonly logger: Pick<FastifyBaseLogger, "warn">;
  /** Monotonic, in ms. */
  readonly now?: () => number;
}

export class Limited {
  readonly #metrics: LimitedOptions["metrics"];
  readonly #logger: LimitedOptions["logger"];
  readonly #now: () => number;
  /** When each was last told of. */
  readonly #told = new Map<string, number>();

  constructor({ metrics, logger, now = () => performance.now() }: LimitedOptions) {
    this.#metrics = metrics;
    this.#logger = logger;
    this.#now = now;
  }

  /** Looks whether it was a limit that refused the request. */
  note(request: FastifyRequest, { cause, reason }: Problem): void {
    if (cause instanceof RateLimitError) this.#rateLimited(cause);
    else if (reason === "refused_too_often") this.#guessing(request);
  }

  #rateLimited({ limit: { name, bucket, holder } }: RateLimitError): void {
    this.#metrics.limited(name);
    const { credential, tenant } = holder;
    const { kind, id } = credential;
    const perMinute = bucket.limit;
    const facts = {
      limit: name,
      per_minute: perMinute,
      credential: { kind, id },
      ...(tenant && { tenant: tenant.slug }),
    };
    if (name === "revocations") {
      this.#tell(
        `revocations ${kind} ${id}`,
        facts,
        `requests that list and revoke credentials are answered 429 to a credential: ${perMinute} a minute are the limit of each`,
      );
      return;
    }
    if (tenant === undefined) {
      this.#tell(
        `${kind} ${id}`,
        facts,
        `requests of a credential that acts across tenants are answered 429: ${perMinute} a minute are its limit. To raise it set RATE_LIMIT_CREDENTIAL_REQUESTS, or RATE_LIMIT_REQUESTS where that is not set`,
      );
      return;
    }
    const [whose, option] =
      name === "tenant"
        ? [`tenant ${tenant.slug}`, "--requests"]
        : [`a credential of tenant ${tenant.slug}`, "--credential-requests"];
    this.#tell(
      `${name} ${tenant.tenantId}`,
      facts,
      `requests of ${whose} are answered 429: ${perMinute} a minute, events counted, are its limit. To raise it: tallystick tenants limit ${tenant.slug} ${option} ${perMinute * 2}`,
    );
  }

  /** One line for all addresses: there may be as many as a stranger likes. */
  #guessing({ ip }: FastifyRequest): void {
    this.#metrics.limited("refused_credentials");
    this.#tell(
      "refused_credentials",
      { limit: "refused_credentials", ip },
      `credentials that are not known are answered 429 to ${addressOf(ip) ?? "a client"}, and perhaps others: REFUSED_CREDENTIALS_LIMIT and more of it a minute were not good. Which and whence: tallystick.access.denied in the log of _operator; see docs/runbook.md`,
    );
  }

  #tell(key: string, facts: Readonly<Record<string, unknown>>, message: string): void {
    const now = this.#now();
    const last = this.#told.get(key);
    if (last !== undefined && now - last < MINUTE_MS) return;
    this.#told.delete(key);
    if (this.#told.size >= MAX_TOLD) this.#told.delete(this.#told.keys().next().value!);
    this.#told.set(key, now);
    this.#logger.warn(facts, message);
  }
}
