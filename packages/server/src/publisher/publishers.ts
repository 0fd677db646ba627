/**
 * What the write path knows of a tenant's publishers: their keys, and which services must sign.
 */
import type { KeyObject } from "node:crypto";
import { type PublicKey, PublicKeyError, parsePublicKeyPem } from "@tallystick/core/public-key";
import type { Database } from "../db/database.ts";
import { importedKey } from "./signature-check.ts";

/** A registered key. Whether it may sign at a moment is asked with the log's lock held. */
export interface KnownKey {
  /** The row's id. */
  readonly id: string;
  readonly serviceId: string;
  readonly publicKey: PublicKey;
  readonly imported: KeyObject;
  readonly revoked: boolean;
}

export interface TenantPublishers {
  /** By key id, `<service_id>:v<n>`; a row whose key cannot be read is left out. */
  readonly keys: ReadonlyMap<string, KnownKey>;
  /** Services whose events are taken signed only. */
  readonly signedOnly: ReadonlySet<string>;
}

interface Row {
  readonly id: string | null;
  readonly service_id: string;
  readonly version: number;
  readonly public_key_pem: string;
  readonly revoked_at: Date | null;
  readonly signed_only: boolean;
  readonly [column: string]: unknown;
}

// A key, or that a service must sign, is seen by every server within this time.
const CACHE_MS = 1_000;
// A key id that is not known may be a moment old: asked about again, but not for each of a stranger's guesses.
const MISS_MS = 100;
const MAX_TENANTS = 10_000;

export class Publishers {
  readonly #database: Database;
  readonly #now: () => number;
  readonly #cache = new Map<string, { publishers: TenantPublishers; at: number }>();
  readonly #lookups = new Map<string, Promise<TenantPublishers>>();

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** What is known already and at most a second old; undefined where it has to be asked for. */
  cached(tenantId: string): TenantPublishers | undefined {
    const found = this.#cache.get(tenantId);
    return found !== undefined && this.#now() - found.at < CACHE_MS ? found.publishers : undefined;
  }

  /** At most a second old. */
  async of(tenantId: string): Promise<TenantPublishers> {
    return this.cached(tenantId) ?? this.#lookUp(tenantId);
  }

  /** The key of this id; undefined where the tenant had none a tenth of a second ago. */
  async key(tenantId: string, keyId: string): Promise<KnownKey | undefined> {
    const known = (await this.of(tenantId)).keys.get(keyId);
    const at = this.#cache.get(tenantId)?.at;
    if (known !== undefined || (at !== undefined && this.#now() - at < MISS_MS)) return known;
    return (await this.#lookUp(tenantId)).keys.get(keyId);
  }

  /** The next look at this tenant is a new one. */
  forget(tenantId: string): void {
    this.#cache.delete(tenantId);
    this.#lookups.delete(tenantId);
  }

  /** Requests that ask meanwhile share the look-up. */
  #lookUp(tenantId: string): Promise<TenantPublishers> {
    const under = this.#lookups.get(tenantId);
    if (under !== undefined) return under;
    const at = this.#now();
    const lookup = this.#read(tenantId);
    this.#lookups.set(tenantId, lookup);
    const isNewest = () => this.#lookups.get(tenantId) === lookup; // else something was changed since it began
    lookup.then(
      (publishers) => {
        if (!isNewest()) return;
        this.#lookups.delete(tenantId);
        this.#cache.delete(tenantId);
        if (this.#cache.size >= MAX_TENANTS) this.#cache.delete(this.#cache.keys().next().value!);
        this.#cache.set(tenantId, { publishers, at });
      },
      () => {
        if (isNewest()) this.#lookups.delete(tenantId);
      },
    );
    return lookup;
  }

  async #read(tenantId: string): Promise<TenantPublishers> {
    const before = this.#cache.get(tenantId)?.publishers.keys;
    const rows = await this.#database.query<Row>(
      "select id, service_id, version, public_key_pem, revoked_at, signed_only from tallystick.publishers_of($1)",
      [tenantId],
    );
    const keys = new Map<string, KnownKey>();
    for (const row of rows) {
      if (row.id === null) continue;
      const keyId = `${row.service_id}:v${row.version}`;
      const known = before?.get(keyId);
      const revoked = row.revoked_at !== null;
      // A key never becomes another one: what was imported stays good.
      const key = known ?? importedFrom(row.public_key_pem);
      if (key === undefined) continue;
      const { publicKey, imported } = key;
      keys.set(keyId, { id: row.id, serviceId: row.service_id, publicKey, imported, revoked });
    }
    return { keys, signedOnly: new Set(rows.filter((row) => row.signed_only).map((row) => row.service_id)) };
  }
}

/**
 * Undefined for what is no key. Nobody registered it: the row came from someone with the database's password, and must not stop
 * the tenant's writes. `verify` names it, as no entry of the log tells of it.
 */
function importedFrom(pem: string): Pick<KnownKey, "publicKey" | "imported"> | undefined {
  try {
    const publicKey = parsePublicKeyPem(pem);
    return { publicKey, imported: importedKey(publicKey) };
  } catch (error) {
    if (!(error instanceof PublicKeyError)) throw error;
    return undefined;
  }
}
