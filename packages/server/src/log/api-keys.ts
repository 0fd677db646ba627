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
// A revocation, or a new key, is seen by every server within this time.
const CACHE_MS = 1_000;
/** Of keys that there are, and of those that there are not: strangers' guesses put no real key out of memory. */
const CACHE_SIZE = 10_000;

/** What a valid key may do. */
export interface KeyAccess {
  readonly id: string;
  readonly tenantId: string;
  readonly serviceId: string | undefined;
  readonly scopes: readonly Scope[];
}

interface ValidAccess extends KeyAccess {
  readonly expiresAtMs: number;
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
  // All by the hash of the secret.
  readonly #found = new Map<string, { access: ValidAccess; at: number }>();
  readonly #unknown = new Map<string, number>();
  readonly #lookups = new Map<string, Promise<ValidAccess | undefined>>();

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** What this secret may do; undefined where it is not known, expired, or revoked more than a second ago. */
  async find(secret: string): Promise<KeyAccess | undefined> {
    const secretHash = hash("sha256", secret, "hex"); // kept instead of the secret, in memory too
    const now = this.#now();
    const found = this.#found.get(secretHash);
    if (found !== undefined && now - found.at < CACHE_MS) {
      return found.access.expiresAtMs > now ? found.access : undefined;
    }
    const unknownAt = this.#unknown.get(secretHash);
    if (unknownAt !== undefined && now - unknownAt < CACHE_MS) return undefined;
    return this.#lookups.get(secretHash) ?? this.#startLookup(secretHash, now);
  }

  /** Requests that bring the same key meanwhile share the look-up. */
  #startLookup(secretHash: string, now: number): Promise<ValidAccess | undefined> {
    const lookup = this.#lookUp(secretHash, now);
    this.#lookups.set(secretHash, lookup);
    const isNewest = () => this.#lookups.get(secretHash) === lookup; // else a key was made or revoked since it began
    lookup.then(
      (access) => {
        if (!isNewest()) return;
        this.#lookups.delete(secretHash);
        if (access === undefined) remember(this.#unknown, secretHash, now);
        else remember(this.#found, secretHash, { access, at: now });
      },
      () => {
        if (isNewest()) this.#lookups.delete(secretHash);
      },
    );
    return lookup;
  }

  async #lookUp(secretHash: string, now: number): Promise<ValidAccess | undefined> {
    const rows = await this.#database.query<{
      id: string;
      tenant_id: string;
      service_id: string | null;
      scopes: Scope[];
      expires_at: Date | null;
      revoked_at: Date | null;
    }>("select id, tenant_id, service_id, scopes, expires_at, revoked_at from tallystick.find_api_key($1)", [
      Buffer.from(secretHash, "hex"),
    ]);
    const row = rows[0];
    const expiresAtMs = row?.expires_at?.getTime() ?? Number.POSITIVE_INFINITY;
    if (row === undefined || row.revoked_at !== null || expiresAtMs <= now) return undefined;
    return {
      id: row.id,
      tenantId: row.tenant_id,
      serviceId: row.service_id ?? undefined,
      scopes: row.scopes,
      expiresAtMs,
    };
  }

  /**
   * Sees to it that there is a key with this secret. One that is there stays what it is: revoked, expired, another tenant's.
   * Any number of servers may call it at once.
   */
  async ensure(tenantId: string, key: NewApiKey, secret: string): Promise<void> {
    await this.#insert(tenantId, key, secret, "on conflict do nothing");
  }

  /** Makes a key. The secret is in this answer and nowhere else. */
  async create(tenantId: string, key: NewApiKey): Promise<ApiKey & { secret: string }> {
    const secret = SECRET_PREFIX + randomBytes(SECRET_BYTES).toString("hex");
    const created = await this.#insert(tenantId, key, secret);
    return { ...created[0]!, secret };
  }

  async #insert(tenantId: string, key: NewApiKey, secret: string, onConflict = ""): Promise<ApiKey[]> {
    const secretHash = hash("sha256", secret, "hex");
    const created = await this.#inTenant(
      tenantId,
      `insert into tallystick.api_keys (tenant_id, name, prefix, secret_hash, service_id, scopes, expires_at)
      values ($1, $2, $3, $4, $5, $6, $7) ${onConflict} returning ${COLUMNS}`,
      [
        tenantId,
        key.name,
        secret.slice(0, SECRET_PREFIX.length + 6),
        Buffer.from(secretHash, "hex"),
        key.serviceId ?? null,
        key.scopes,
        key.expiresAt ?? null,
      ],
    );
    this.#unknown.delete(secretHash);
    this.#lookups.delete(secretHash);
    return created;
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
      `update tallystick.api_keys set revoked_at = clock_timestamp() where tenant_id = $1 and id = $2 and revoked_at is null returning ${COLUMNS}`,
      [tenantId, id],
    );
    this.#found.clear();
    this.#lookups.clear();
    return rows[0] ?? (await this.list(tenantId)).find((key) => key.id === id);
  }

  async #inTenant(tenantId: string, text: string, values: unknown[]): Promise<ApiKey[]> {
    return this.#database.control(async (transaction) => {
      const [, result] = await transaction.together([
        transaction.client.query("select set_config('tallystick.tenant_id', $1, true)", [tenantId]),
        transaction.client.query<ApiKey>(text, values),
      ]);
      await transaction.commit([]);
      return result.rows;
    });
  }
}

/** Keeps the newest; the oldest makes room. */
function remember<T>(cache: Map<string, T>, secretHash: string, value: T): void {
  cache.delete(secretHash);
  if (cache.size >= CACHE_SIZE) cache.delete(cache.keys().next().value!);
  cache.set(secretHash, value);
}
