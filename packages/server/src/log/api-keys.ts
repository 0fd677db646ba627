/**
 * API keys: shown once, kept as a hash.
 */
import { hash, randomBytes } from "node:crypto";
import type { Database } from "../db/database.ts";

/** One list everywhere; `operator` is not an API key's to have. */
export const SCOPES = ["write", "read", "stream", "export", "verify", "admin"] as const;
export type Scope = (typeof SCOPES)[number];

/** Begins every key, so that secret scanners can match it: `tally_` and 40 hex digits. */
export const SECRET_PREFIX = "tally_";

const SECRET_BYTES = 20;
// A revocation is seen by every server within this time.
const CACHE_MS = 1_000;
const CACHE_SIZE = 10_000;

/** What a valid key may do. */
export interface KeyAccess {
  readonly tenantId: string;
  readonly serviceId: string | undefined;
  readonly scopes: readonly Scope[];
}

/** An API key as it is listed: never with its secret. */
export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly prefix: string;
  readonly service_id: string | null;
  readonly scopes: Scope[];
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
}

export interface NewApiKey {
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly serviceId?: string | undefined;
  readonly expiresAt?: string | undefined;
}

const TIME = `'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'`;
const COLUMNS = `id, name, prefix, service_id, scopes, to_char(created_at at time zone 'UTC', ${TIME}) as created_at,
  to_char(expires_at at time zone 'UTC', ${TIME}) as expires_at, to_char(revoked_at at time zone 'UTC', ${TIME}) as revoked_at`;

export class ApiKeys {
  readonly #database: Database;
  readonly #now: () => number;
  readonly #cache = new Map<string, { access: KeyAccess & { expiresAtMs: number }; at: number }>();

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** What this secret may do; undefined where it is not known, expired, or revoked more than a second ago. */
  async find(secret: string): Promise<KeyAccess | undefined> {
    const secretHash = hash("sha256", secret, "hex"); // kept instead of the secret, in memory too
    const now = this.#now();
    const cached = this.#cache.get(secretHash);
    if (cached !== undefined && now - cached.at < CACHE_MS) {
      return cached.access.expiresAtMs > now ? cached.access : undefined;
    }
    const rows = await this.#database.query<{
      tenant_id: string;
      service_id: string | null;
      scopes: Scope[];
      expires_at: Date | null;
      revoked_at: Date | null;
    }>("select tenant_id, service_id, scopes, expires_at, revoked_at from tallystick.find_api_key($1)", [
      Buffer.from(secretHash, "hex"),
    ]);
    const row = rows[0];
    const expiresAtMs = row?.expires_at?.getTime() ?? Number.POSITIVE_INFINITY;
    if (row === undefined || row.revoked_at !== null || expiresAtMs <= now) {
      this.#cache.delete(secretHash);
      return undefined;
    }
    if (this.#cache.size >= CACHE_SIZE) this.#cache.clear();
    const access = { tenantId: row.tenant_id, serviceId: row.service_id ?? undefined, scopes: row.scopes, expiresAtMs };
    this.#cache.set(secretHash, { access, at: now });
    return access;
  }

  /** Makes a key. The secret is in this answer and nowhere else. `secret` is given only for a key that the operator chose. */
  async create(
    tenantId: string,
    key: NewApiKey,
    secret = SECRET_PREFIX + randomBytes(SECRET_BYTES).toString("hex"),
  ): Promise<ApiKey & { secret: string }> {
    const created = await this.#inTenant(
      tenantId,
      `insert into tallystick.api_keys (tenant_id, name, prefix, secret_hash, service_id, scopes, expires_at)
      values ($1, $2, $3, $4, $5, $6, $7) returning ${COLUMNS}`,
      [
        tenantId,
        key.name,
        secret.slice(0, SECRET_PREFIX.length + 6),
        hash("sha256", secret, "buffer"),
        key.serviceId ?? null,
        key.scopes,
        key.expiresAt ?? null,
      ],
    );
    return { ...created[0]!, secret };
  }

  /** The tenant's keys, oldest first, revoked ones too. */
  async list(tenantId: string): Promise<ApiKey[]> {
    return this.#inTenant(
      tenantId,
      `select ${COLUMNS} from tallystick.api_keys where tenant_id = $1 order by api_keys.created_at, id`,
      [tenantId],
    );
  }

  /** Revokes a key for good; undefined where the tenant has none of this id. A second time changes nothing. */
  async revoke(tenantId: string, id: string): Promise<ApiKey | undefined> {
    const rows = await this.#inTenant(
      tenantId,
      `update tallystick.api_keys set revoked_at = coalesce(revoked_at, clock_timestamp()) where tenant_id = $1 and id = $2 returning ${COLUMNS}`,
      [tenantId, id],
    );
    this.#cache.clear();
    return rows[0];
  }

  async #inTenant(tenantId: string, text: string, values: unknown[]): Promise<ApiKey[]> {
    return this.#database.write(async (transaction) => {
      const [, result] = await transaction.together([
        transaction.client.query("select set_config('tallystick.tenant_id', $1, true)", [tenantId]),
        transaction.client.query<ApiKey>(text, values),
      ]);
      await transaction.commit([]);
      return result.rows;
    });
  }
}
