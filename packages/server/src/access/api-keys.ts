/**
 * API keys, as a request brings them: looked up by the hash of their secret, and remembered for a second.
 */
import { hash } from "node:crypto";
import type { Database } from "../db/database.ts";
import { type Caller, CredentialError } from "./caller.ts";
import type { LastUsed } from "./last-used.ts";
import { Recent } from "./recent.ts";
import type { Scope } from "./scopes.ts";

/** Begins every key, so that secret scanners can match it: `tally_` and 40 hex digits. */
export const SECRET_PREFIX = "tally_";

interface KnownKey {
  readonly caller: Caller;
  readonly expiresAtMs: number;
  readonly revoked: boolean;
}

export class ApiKeys {
  readonly #database: Database;
  readonly #now: () => number;
  readonly #lastUsed: LastUsed | undefined;
  /** By the hash of the secret. */
  readonly #recent = new Recent<KnownKey>();

  constructor(database: Database, { now = Date.now, lastUsed }: { now?: () => number; lastUsed?: LastUsed } = {}) {
    this.#database = database;
    this.#now = now;
    this.#lastUsed = lastUsed;
  }

  /** Who holds this secret, where it was found good a moment ago; undefined says nothing. */
  known(secret: string): Caller | undefined {
    const now = this.#now();
    const key = this.#recent.known(hashOf(secret), now);
    if (key === undefined || key.revoked || key.expiresAtMs <= now) return undefined;
    this.#lastUsed?.note(key.caller.credential.id, now);
    return key.caller;
  }

  /**
   * Who holds this secret.
   * @param onStranger called before a secret is looked up that has not been found before; what it throws refuses it.
   * @throws {CredentialError} `api_key_unknown`, `api_key_expired`, or `api_key_revoked` where it was more than a second ago.
   */
  async authenticate(secret: string, onStranger?: () => void): Promise<Caller> {
    const now = this.#now();
    const secretHash = hashOf(secret);
    if (onStranger !== undefined && !this.#recent.has(secretHash)) onStranger();
    const key = await this.#recent.find(secretHash, now, () => this.#lookUp(secretHash));
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
    this.#recent.forget(secret === undefined ? undefined : hashOf(secret));
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
