/**
 * Rate limits: a bucket for each tenant, and one for each credential where it may do less than its tenant.
 */
import { hash } from "node:crypto";
import type { Caller } from "../access/caller.ts";
import type { TenantSettings } from "../log/tenants.ts";
import { Bucket } from "./bucket.ts";

export type LimitName = "tenant" | "credential";

/** Buckets in memory: of a credential beyond these the oldest begins anew, and its tenant's bucket still counts. */
const MAX_BUCKETS = 100_000;

/** Whose request it is. */
export interface Holder {
  readonly credential: Caller["credential"];
  /** Its tenant, and what is set for that; undefined for whoever acts across tenants: only the credential is limited. */
  readonly tenant: { readonly tenantId: string; readonly settings: TenantSettings } | undefined;
}

/** A bucket that a request takes from. */
export interface Limit {
  readonly name: LimitName;
  readonly bucket: Bucket;
}

/** Thrown where a bucket is empty; nothing was taken. */
export class RateLimitError extends Error {
  override readonly name = "RateLimitError";
  readonly limit: Limit;
  /** Those of the same request, the empty one among them. */
  readonly limits: readonly Limit[];
  constructor(limit: Limit, limits: readonly Limit[]) {
    super(`the ${limit.name} may do ${limit.bucket.limit} a minute`);
    this.limit = limit;
    this.limits = limits;
  }
}

export class RateLimits {
  readonly #perTenant: number;
  readonly #perCredential: number;
  readonly #buckets = new Map<string, Bucket>();

  /** @param options requests a minute, for tenants for which nothing else is set; 0 is no limit. */
  constructor({ perTenant, perCredential = perTenant }: { perTenant: number; perCredential?: number | undefined }) {
    this.#perTenant = perTenant;
    this.#perCredential = perCredential;
  }

  /**
   * The limits of a request, the tenant's first; none where nothing is limited. A credential that may do as much as its tenant
   * has no bucket of its own: the tenant's is never fuller than that would be.
   */
  limitsOf({ tenant, credential }: Holder): readonly Limit[] {
    const { rate_limit_requests, credential_rate_limit_requests } = tenant?.settings ?? {};
    const perTenant = tenant === undefined ? 0 : (rate_limit_requests ?? this.#perTenant);
    // A tenant that was given more is not held back by what is set for the credentials of others.
    const perCredential = credential_rate_limit_requests ?? rate_limit_requests ?? this.#perCredential;
    const limits: Limit[] = [];
    if (perTenant > 0) limits.push({ name: "tenant", bucket: this.#bucket(`tenant ${tenant!.tenantId}`, perTenant) });
    if (perCredential > 0 && !(perTenant > 0 && perCredential >= perTenant)) {
      const key = `${credential.kind} ${tenant?.tenantId ?? ""} ${credential.id}`;
      limits.push({ name: "credential", bucket: this.#bucket(key, perCredential) });
    }
    return limits;
  }

  /**
   * Takes the cost of a request from all of its limits: 1, and for a bulk request one for each further event once it is read.
   * @throws {RateLimitError}
   */
  take(limits: readonly Limit[], cost: number): void {
    for (const limit of limits) if (!limit.bucket.open) throw new RateLimitError(limit, limits);
    for (const { bucket } of limits) bucket.take(cost);
  }

  /** All buckets that are not full, or were not a moment ago, by a key that tells nothing of whose they are; forgets the others. */
  *inUse(): Iterable<[key: string, bucket: Bucket]> {
    for (const [key, bucket] of this.#buckets) {
      if (bucket.used === 0 && bucket.full) this.#buckets.delete(key);
      else yield [hash("sha256", key, "hex").slice(0, 32), bucket];
    }
  }

  #bucket(key: string, limit: number): Bucket {
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      if (this.#buckets.size >= MAX_BUCKETS) this.#buckets.delete(this.#buckets.keys().next().value!);
      bucket = new Bucket(limit);
      this.#buckets.set(key, bucket);
    }
    bucket.limit = limit;
    return bucket;
  }
}
