/**
 * API keys, as a request brings them: looked up by the hash of their secret, and remembered for a second.
 */
import { hash } from "node:crypto";
import type { Database } from "../db/database.ts";
import { type Caller, CredentialError } from "./caller.ts";
import type { LastUsed } from "./last-used.ts";
import type { Scope } from "./scopes.ts";

/** Begins every key, so that secret scanners can match it: `tally_` and 40 hex digits. */
export const SECRET_PREFIX = "tally_";

// A revocation, or a new key, is seen by every server within this time.
const CACHE_MS = 1_000;
/** Of keys that there are, and of those that there are not: strangers' guesses put no real key out of memory. */
const CACHE_SIZE = 10_000;

interface KnownKey {
  readonly caller: Caller;
  readonly expiresAtMs: number;
  readonly revoked: boolean;
}

export class ApiKeys {
  readonly #database: Database;
  readonly #now: () => number;
  readonly #lastUsed: LastUsed | undefined;
  // All by the hash of the secret.
  readonly #known = new Map<string, { key: KnownKey; at: number }>();
  readonly #unknown = new Map<string, number>();
  readonly #lookups = new Map<string, Promise<KnownKey | undefined>>();

  constructor(database: Database, { now = Date.now, lastUsed }: { now?: () => number; lastUsed?: LastUsed } = {}) {
    this.#database = database;
    this.#now = now;
    this.#lastUsed = lastUsed;
  }

  /**
   * Who holds this secret.
   * @param onStranger called before a secret is looked up that has not been found before; what it throws refuses it.
   * @throws {CredentialError} `api_key_unknown`, `api_key_expired`, or `api_key_revoked` where it was more than a second ago.
   */
  async authenticate(secret: string, onStranger?: () => void): Promise<Caller> {
    const now = this.#now();
    const secretHash = hashOf(secret);
    if (onStranger !== undefined && !this.#known.has(secretHash)) onStranger();
    const key = await this.#find(secretHash, now);
    if (key === undefined) throw new CredentialError("api_key_unknown", "The API key is not known here.");
    const { credential } = key.caller;
    if (key.revoked) {
      throw new CredentialError("api_key_revoked", "The API key is revoked: use another.", { credential });
    }
    if (key.expiresAtMs <= now) {
      const expired = `The API key expired at ${new Date(key.expiresAtMs).toISOString()}: use another.`;
      throw new CredentialError("api_key_expired", expired, { credential });
    }
    this.#lastUsed?.note(credential.id, now);
    return key.caller;
  }

  /** The next look at this key, or at every key, is a new one: it was made, or revoked. */
  forget(secret?: string): void {
    if (secret === undefined) {
      this.#known.clear();
      this.#lookups.clear();
      return;
    }
    const secretHash = hashOf(secret);
    this.#unknown.delete(secretHash);
    this.#lookups.delete(secretHash);
  }

  async #find(secretHash: string, now: number): Promise<KnownKey | undefined> {
    const known = this.#known.get(secretHash);
    if (known !== undefined && now - known.at < CACHE_MS) return known.key;
    const unknownAt = this.#unknown.get(secretHash);
    if (unknownAt !== undefined && now - unknownAt < CACHE_MS) return undefined;
    return this.#lookups.get(secretHash) ?? this.#startLookup(secretHash, now);
  }

  /** Requests that bring the same key meanwhile share the look-up. */
  #startLookup(secretHash: string, now: number): Promise<KnownKey | undefined> {
    const lookup = this.#lookUp(secretHash);
    this.#lookups.set(secretHash, lookup);
    const isNewest = () => this.#lookups.get(secretHash) === lookup; // else a key was made or revoked since it began
    lookup.then(
      (key) => {
        if (!isNewest()) return;
        this.#lookups.delete(secretHash);
        if (key === undefined) remember(this.#unknown, secretHash, now);
        else remember(this.#known, secretHash, { key, at: now });
      },
      () => {
        if (isNewest()) this.#lookups.delete(secretHash);
      },
    );
    return lookup;
  }

  async #lookUp(secretHash: string): Promise<KnownKey | undefined> {
    const [row] = await this.#database.query<{
      id: string;
      tenant_id: string;
      service_id: string | null;
      scopes: Scope[];
      expires_at: Date | null;
      revoked_at: Date | null;
    }>("select id, tenant_id, service_id, scopes, expires_at, revoked_at from tallystick.find_api_key($1)", [
      Buffer.from(secretHash, "hex"),
    ]);
    if (row === undefined) return undefined;
    return {
      caller: {
        credential: { kind: "api_key", id: row.id },
        tenantId: row.tenant_id,
        serviceId: row.service_id ?? undefined,
        scopes: row.scopes,
        actor: { type: "api_key", id: row.id },
      },
      expiresAtMs: row.expires_at?.getTime() ?? Number.POSITIVE_INFINITY,
      revoked: row.revoked_at !== null,
    };
  }
}

/** What is kept instead of the secret, in memory too. */
export function hashOf(secret: string): string {
  return hash("sha256", secret, "hex");
}

/** Keeps the newest; the oldest makes room. */
function remember<T>(cache: Map<string, T>, secretHash: string, value: T): void {
  cache.delete(secretHash);
  if (cache.size >= CACHE_SIZE) cache.delete(cache.keys().next().value!);
  cache.set(secretHash, value);
}
