/**
 * Rate limits: a bucket for each tenant, and one for each credential where it may do less than its tenant.
 */
import { hash } from "node:crypto";
import type { Caller } from "../access/caller.ts";
import type { TenantSettings } from "../log/tenants.ts";
import { Bucket } from "./bucket.ts";

export type LimitName = "tenant" | "credential" | "revocations";

/** Buckets in memory: beyond these the oldest of a credential begins anew, and its tenant's bucket still counts. */
const MAX_BUCKETS = 100_000;

/** Credentials that one credential may list and end in a minute, where it is limited at all: as many as leak at once. */
const REVOCATIONS_PER_MINUTE = 300;

/** Whose request it is. */
export interface Holder {
  readonly credential: Caller["credential"];
  /** Its tenant, and what is set for that; undefined for whoever acts across tenants: only the credential is limited. */
  readonly tenant: { readonly tenantId: string; readonly slug: string; readonly settings: TenantSettings } | undefined;
}

/** A bucket that a request takes from. */
export interface Limit {
  readonly name: LimitName;
  readonly bucket: Bucket;
  readonly holder: Holder;
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

export interface RateLimitOptions {
  readonly perTenant: number;
  readonly perCredential?: number | undefined;
  readonly maxBuckets?: number;
}

export class RateLimits {
  readonly #perTenant: number;
  readonly #perCredential: number;
  readonly #maxBuckets: number;
  readonly #ofTenants = new Map<string, Bucket>();
  readonly #ofCredentials = new Map<string, Bucket>();

  /** @param options requests a minute, for tenants for which nothing else is set; 0 is no limit. */
  constructor({ perTenant, perCredential = perTenant, maxBuckets = MAX_BUCKETS }: RateLimitOptions) {
    this.#perTenant = perTenant;
    this.#perCredential = perCredential;
    this.#maxBuckets = maxBuckets;
  }

  /**
   * The limits of a request, the tenant's first; none where nothing is limited. A credential that may do as much as its tenant
   * has no bucket of its own: the tenant's is never fuller than that would be.
   */
  limitsOf(holder: Holder): readonly Limit[] {
    const { tenant } = holder;
    const { perTenant, perCredential } = this.#perMinute(holder);
    const limits: Limit[] = [];
    if (perTenant > 0) {
      const bucket = this.#bucket(this.#ofTenants, `tenant ${tenant!.tenantId}`, perTenant);
      limits.push({ name: "tenant", bucket, holder });
    }
    if (perCredential > 0 && !(perTenant > 0 && perCredential >= perTenant)) {
      const bucket = this.#bucket(this.#ofCredentials, keyOf(holder), perCredential);
      limits.push({ name: "credential", bucket, holder });
    }
    return limits;
  }

  /**
   * The limit of requests that end credentials: one apart, of the credential alone, so that nobody who uses up what the tenant may
   * do holds up that their credential is revoked. None where nothing else of this holder is limited.
   */
  revocationLimitsOf(holder: Holder): readonly Limit[] {
    const { perTenant, perCredential } = this.#perMinute(holder);
    if (perTenant === 0 && perCredential === 0) return [];
    const bucket = this.#bucket(this.#ofCredentials, `revocations ${keyOf(holder)}`, REVOCATIONS_PER_MINUTE);
    return [{ name: "revocations", bucket, holder }];
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
    for (const buckets of [this.#ofTenants, this.#ofCredentials]) {
      for (const [key, bucket] of buckets) {
        if (bucket.used === 0 && bucket.full) buckets.delete(key);
        else yield [hash("sha256", key, "hex").slice(0, 32), bucket];
      }
    }
  }

  /** Requests a minute; 0 is no limit. */
  #perMinute({ tenant }: Holder): { perTenant: number; perCredential: number } {
    const { rate_limit_requests, credential_rate_limit_requests } = tenant?.settings ?? {};
    return {
      perTenant: tenant === undefined ? 0 : (rate_limit_requests ?? this.#perTenant),
      // A tenant that was given more is not held back by what is set for the credentials of others.
      perCredential: credential_rate_limit_requests ?? rate_limit_requests ?? this.#perCredential,
    };
  }

  #bucket(buckets: Map<string, Bucket>, key: string, limit: number): Bucket {
    let bucket = buckets.get(key);
    if (bucket === undefined) {
      if (this.#ofTenants.size + this.#ofCredentials.size >= this.#maxBuckets) this.#evict();
      bucket = new Bucket(limit);
      buckets.set(key, bucket);
    }
    bucket.limit = limit;
    return bucket;
  }

  /** One makes room: of a credential while there are any, because whoever makes many of them still has the tenant's. */
  #evict(): void {
    const buckets = this.#ofCredentials.size > 0 ? this.#ofCredentials : this.#ofTenants;
    buckets.delete(buckets.keys().next().value!);
  }
}

function keyOf({ credential, tenant }: Holder): string {
  return `${credential.kind} ${tenant?.tenantId ?? ""} ${credential.id}`;
}
