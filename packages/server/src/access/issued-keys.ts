/**
 * API keys, as an administrator sees them: made, listed, revoked. A secret is shown once and kept as a hash; making and revoking
 * are entries.
 */
import { randomBytes } from "node:crypto";
import type pg from "pg";
import type { Database } from "../db/database.ts";
import { TIME } from "../db/time.ts";
import { type Change, type Changed, makeChange } from "../log/change.ts";
import type { Sequencer } from "../log/sequencer.ts";
import { lockTenant, type TenantLog, type Tenants } from "../log/tenants.ts";
import { type ApiKeys, hashOf, SECRET_PREFIX } from "./api-keys.ts";
import { type By, byWhom } from "./by.ts";
import type { Scope } from "./scopes.ts";

const SECRET_BYTES = 20;

/** An API key as it is listed: never with its secret. Times are RFC 3339 UTC. */
export interface ApiKey {
  readonly id: string;
  readonly name: string;
  /** How the secret begins: enough to recognise it. */
  readonly prefix: string;
  readonly service_id: string | null;
  readonly scopes: Scope[];
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
  /** To about a minute. */
  readonly last_used_at: string | null;
}

export interface NewApiKey {
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly serviceId?: string | undefined;
  readonly expiresAt?: string | undefined;
}

const COLUMNS = `k.id, k.name, k.prefix, k.service_id, k.scopes, ${TIME("k.created_at")} as created_at,
  ${TIME("k.expires_at")} as expires_at, ${TIME("k.revoked_at")} as revoked_at, ${TIME("k.last_used_at")} as last_used_at`;

export class IssuedKeys {
  readonly #database: Database;
  readonly #sequencer: Sequencer;
  readonly #apiKeys: ApiKeys;
  readonly #tenants: Tenants;

  constructor(parts: { database: Database; sequencer: Sequencer; apiKeys: ApiKeys; tenants: Tenants }) {
    this.#tenants = parts.tenants;
    this.#database = parts.database;
    this.#sequencer = parts.sequencer;
    this.#apiKeys = parts.apiKeys;
  }

  /** The tenant's keys, oldest first, revoked ones too. */
  async list(tenantId: string): Promise<ApiKey[]> {
    return this.#database.queryOf<ApiKey>(
      tenantId,
      `select ${COLUMNS} from tallystick.api_keys k where tenant_id = $1 order by k.created_at, id`,
      [tenantId],
    );
  }

  /**
   * Makes a key. The secret is in this answer and nowhere else.
   * @throws {import("../log/errors.ts").AppendError} where the entry cannot be recorded: no key was made.
   */
  async create(log: TenantLog, by: By, key: NewApiKey): Promise<ApiKey & { secret: string }> {
    const secret = SECRET_PREFIX + randomBytes(SECRET_BYTES).toString("hex");
    const { changed } = await makeChange(this.#sequencer, log, async (client, recordedAt) => {
      const [created] = await insertKey(client, log.tenantId, key, secret, recordedAt);
      const { id, name, prefix, service_id, scopes, expires_at } = created!;
      const facts = {
        name,
        prefix,
        scopes,
        ...(service_id !== null && { service_id }),
        ...(expires_at !== null && { expires_at }),
      };
      const resource = { type: "api_key", id };
      return {
        changed: created!,
        event: { action: "tallystick.api_key.created", ...byWhom(by), resource, outcome: "success", metadata: facts },
      };
    });
    this.#apiKeys.forget(secret);
    return { ...changed, secret };
  }

  /**
   * Revokes a key for good; undefined where the tenant has none of this id. A second time changes nothing.
   * @throws {import("../log/errors.ts").AppendError} where the entry cannot be recorded: the key is what it was.
   */
  async revoke(log: TenantLog, by: By, id: string): Promise<Changed<ApiKey> | undefined> {
    const known = (await this.list(log.tenantId)).find((key) => key.id === id.toLowerCase());
    if (known === undefined) return undefined;
    if (known.revoked_at !== null) return { changed: known, entry: undefined };
    const revoke: Change<ApiKey> = async (client, recordedAt) => {
      const { rows } = await client.query<ApiKey>(
        `update tallystick.api_keys k set revoked_at = $3 where tenant_id = $1 and id = $2 and revoked_at is null returning ${COLUMNS}`,
        [log.tenantId, known.id, recordedAt],
      );
      const [changed] = rows;
      if (changed === undefined) return { changed: { ...known, revoked_at: recordedAt }, event: undefined }; // somebody has been faster
      const resource = { type: "api_key", id: changed.id };
      const metadata = { name: changed.name, prefix: changed.prefix };
      return {
        changed,
        event: { action: "tallystick.api_key.revoked", ...byWhom(by), resource, outcome: "success", metadata },
      };
    };
    // A key of a tenant whose log is broken may be in the wrong hands all the same.
    const revoked = await makeChange(this.#sequencer, log, revoke, () => this.#tenants.operatorLog());
    this.#apiKeys.forget();
    return revoked;
  }

  /**
   * Sees to it that there is a key with this secret: the installation's own first one, which no one asked for and no entry tells of.
   * One that is there stays what it is: revoked, expired, another tenant's. Any number of servers may call it at once.
   * @param options.onlyFirst makes none where the tenant has any, or had: of several servers one makes it.
   */
  async ensure(tenantId: string, key: NewApiKey, secret: string, { onlyFirst = false } = {}): Promise<void> {
    await this.#database.control(async (transaction) => {
      const { client } = transaction;
      await client.query("select set_config('tallystick.tenant_id', $1, true)", [tenantId]);
      if (onlyFirst) await lockTenant(client, tenantId);
      if (!onlyFirst || !(await hasKeys(client, tenantId)))
        await insertKey(client, tenantId, key, secret, undefined, "on conflict do nothing");
      await transaction.commit([]);
    });
    this.#apiKeys.forget(secret);
  }
}

async function hasKeys(client: pg.ClientBase, tenantId: string): Promise<boolean> {
  const { rows } = await client.query("select from tallystick.api_keys where tenant_id = $1 limit 1", [tenantId]);
  return rows.length > 0;
}

async function insertKey(
  client: pg.ClientBase,
  tenantId: string,
  key: NewApiKey,
  secret: string,
  createdAt: string | undefined,
  onConflict = "",
): Promise<ApiKey[]> {
  const { rows } = await client.query<ApiKey>(
    `insert into tallystick.api_keys as k (tenant_id, name, prefix, secret_hash, service_id, scopes, expires_at, created_at)
     values ($1, $2, $3, $4, $5, $6, $7, coalesce($8::timestamptz, now())) ${onConflict} returning ${COLUMNS}`,
    [
      tenantId,
      key.name,
      secret.slice(0, SECRET_PREFIX.length + 6),
      Buffer.from(hashOf(secret), "hex"),
      key.serviceId ?? null,
      key.scopes,
      key.expiresAt ?? null,
      createdAt ?? null,
    ],
  );
  return rows;
}
