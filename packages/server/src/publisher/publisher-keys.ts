/**
 * Publisher keys as an administrator sees them. Every change is an entry of the tenant's log, in the same transaction: both are
 * there or neither, and no entry that a key signed comes in between.
 */
import type { JsonObject } from "@tallystick/core/json";
import { formatPublicKeyPem, type PublicKey, type SignatureAlgorithm } from "@tallystick/core/public-key";
import { KEY_ACTIONS } from "@tallystick/core/publisher-keys";
import { SERVICE_CHANGED } from "@tallystick/core/signed-only";
import type pg from "pg";
import { type By, byWhom } from "../access/by.ts";
import type { Database } from "../db/database.ts";
import { TIME } from "../db/time.ts";
import { type Change, type Changed, makeChange } from "../log/change.ts";
import type { Sequencer } from "../log/sequencer.ts";
import type { SystemEvent } from "../log/system.ts";
import type { TenantLog } from "../log/tenants.ts";
import type { Publishers } from "./publishers.ts";

/** A key as it is listed. Times are RFC 3339 UTC. */
export interface ListedKey {
  readonly id: string;
  /** `<service_id>:v<version>`. */
  readonly key_id: string;
  readonly service_id: string;
  readonly version: number;
  readonly algorithm: SignatureAlgorithm;
  readonly public_key_pem: string;
  readonly valid_from: string;
  readonly valid_to: string | null;
  readonly revoked_at: string | null;
  readonly created_at: string;
}

export interface ListedService {
  readonly service_id: string;
  readonly signed_only: boolean;
  readonly changed_at: string;
}

/** A key that is to be registered. Times are RFC 3339 UTC with six digits; valid from now on unless given. */
export interface NewKey {
  readonly serviceId: string;
  readonly publicKey: PublicKey;
  readonly validFrom?: string | undefined;
  readonly validTo?: string | undefined;
}

export type KeyChangeErrorCode =
  /** There is no such key. */
  | "unknown"
  /** The service has no key that could be rotated. */
  | "none_valid"
  /** The key is registered already. */
  | "taken"
  /** `field` is a time that it cannot be. */
  | "bad_time";

/** Why a change was not made. */
export class KeyChangeError extends Error {
  override readonly name = "KeyChangeError";
  readonly code: KeyChangeErrorCode;
  readonly field: string | undefined;
  constructor(code: KeyChangeErrorCode, message: string, field?: string) {
    super(message);
    this.code = code;
    this.field = field;
  }
}

const COLUMNS = `k.id, k.service_id || ':v' || k.version as key_id, k.service_id, k.version, k.algorithm, k.public_key_pem,
  ${TIME("k.valid_from")} as valid_from, ${TIME("k.valid_to")} as valid_to, ${TIME("k.revoked_at")} as revoked_at, ${TIME("k.created_at")} as created_at`;

interface Parts {
  readonly database: Database;
  readonly sequencer: Sequencer;
  readonly publishers: Publishers;
}

export class PublisherKeys {
  readonly #database: Database;
  readonly #sequencer: Sequencer;
  readonly #publishers: Publishers;

  constructor({ database, sequencer, publishers }: Parts) {
    this.#database = database;
    this.#sequencer = sequencer;
    this.#publishers = publishers;
  }

  /** The tenant's keys, by service and version. */
  async list(tenantId: string): Promise<ListedKey[]> {
    return this.#database.queryOf(tenantId, SELECT_KEYS, [tenantId]);
  }

  /** The services that have a setting, by name. */
  async services(tenantId: string): Promise<ListedService[]> {
    return this.#database.queryOf(
      tenantId,
      `select service_id, signed_only, ${TIME("s.changed_at")} as changed_at from tallystick.services s where tenant_id = $1 order by service_id`,
      [tenantId],
    );
  }

  /**
   * Registers a key as the service's next version.
   * @throws {KeyChangeError} `taken`, `bad_time`. @throws {AppendError}
   */
  async register(log: TenantLog, by: By, key: NewKey): Promise<Changed<ListedKey>> {
    requireNew(await this.list(log.tenantId), key); // what can be refused without holding up anyone's commit
    return this.#change(log, async (client, recordedAt) => {
      const keys = await readKeys(client, log.tenantId);
      const changed = await insertKey(client, log, keys, key, recordedAt);
      return { changed, event: keyEvent(KEY_ACTIONS.registered, by, changed, factsOf(changed)) };
    });
  }

  /**
   * Registers a key in place of the service's newest valid one, which signs for `overlapSeconds` more, so that what is on its way
   * is not refused. Other keys of the service stay what they are.
   * @throws {KeyChangeError} `none_valid`, `taken`, `bad_time`. @throws {AppendError}
   */
  async rotate(log: TenantLog, by: By, key: NewKey, overlapSeconds: number): Promise<Changed<ListedKey>> {
    const known = await this.list(log.tenantId);
    requireNew(known, key);
    if (!known.some((one) => one.service_id === key.serviceId && one.revoked_at === null)) throw noneValid(key);
    return this.#change(log, async (client, recordedAt) => {
      const keys = await readKeys(client, log.tenantId);
      const isValid = ({ valid_to, revoked_at }: ListedKey) =>
        revoked_at === null && (valid_to === null || valid_to > recordedAt);
      const previous = keys.findLast((one) => one.service_id === key.serviceId && isValid(one));
      if (previous === undefined) {
        throw new KeyChangeError(
          "none_valid",
          `the service "${key.serviceId}" has no valid key to rotate: register one`,
        );
      }
      const changed = await insertKey(client, log, keys, key, recordedAt);
      const { rows } = await client.query<{ valid_to: string }>(
        `update tallystick.publisher_keys k
         set valid_to = least(k.valid_to, greatest($3::timestamptz, $4::timestamptz) + make_interval(secs => $5))
         where tenant_id = $1 and id = $2 returning ${TIME("k.valid_to")} as valid_to`,
        [log.tenantId, previous.id, recordedAt, changed.valid_from, overlapSeconds],
      );
      const facts = {
        ...factsOf(changed),
        previous_key_id: previous.key_id,
        previous_valid_to: rows[0]!.valid_to,
      };
      return { changed, event: keyEvent(KEY_ACTIONS.rotated, by, changed, facts) };
    });
  }

  /**
   * Revokes a key for good: nothing that it signed is recorded from now on; what was recorded stays what it is. A second time
   * changes nothing.
   *
   * @param named the key's UUID or its key id.
   * @throws {KeyChangeError} `unknown`. @throws {AppendError}
   */
  async revoke(log: TenantLog, by: By, named: string, reason: string | undefined): Promise<Changed<ListedKey>> {
    const isNamed = ({ id, key_id }: ListedKey) => key_id === named || id === named.toLowerCase();
    const known = (await this.list(log.tenantId)).find(isNamed);
    if (known === undefined) throw new KeyChangeError("unknown", `there is no publisher key ${named}`);
    if (known.revoked_at !== null) return { changed: known, entry: undefined };
    return this.#change(log, async (client, recordedAt) => {
      const { rows } = await client.query<ListedKey>(
        `update tallystick.publisher_keys k set revoked_at = $3 where tenant_id = $1 and id = $2 and revoked_at is null returning ${COLUMNS}`,
        [log.tenantId, known.id, recordedAt],
      );
      const changed = rows[0] ?? (await readKeys(client, log.tenantId)).find(isNamed)!;
      // Somebody has been faster.
      if (rows[0] === undefined) return { changed, event: undefined };
      const facts = {
        service_id: changed.service_id,
        key_id: changed.key_id,
        revoked_at: recordedAt,
        ...(reason !== undefined && { reason }),
      };
      return { changed, event: keyEvent(KEY_ACTIONS.revoked, by, changed, facts, reason) };
    });
  }

  /** Sets whether a service's events are taken signed only; each server knows within a second. @throws {AppendError} */
  async setSignedOnly(log: TenantLog, by: By, serviceId: string, signedOnly: boolean): Promise<Changed<ListedService>> {
    return this.#change(log, async (client, recordedAt) => {
      const { rows } = await client.query<ListedService>(
        `insert into tallystick.services as s (tenant_id, service_id, signed_only, changed_at) values ($1, $2, $3, $4)
         on conflict on constraint services_pkey do update set signed_only = excluded.signed_only, changed_at = excluded.changed_at
         where s.signed_only <> excluded.signed_only
         returning service_id, signed_only, ${TIME("s.changed_at")} as changed_at`,
        [log.tenantId, serviceId, signedOnly, recordedAt],
      );
      if (rows[0] === undefined) {
        const { rows: present } = await client.query<ListedService>(
          `select service_id, signed_only, ${TIME("s.changed_at")} as changed_at from tallystick.services s where tenant_id = $1 and service_id = $2`,
          [log.tenantId, serviceId],
        );
        return { changed: present[0]!, event: undefined };
      }
      const event: SystemEvent = {
        action: SERVICE_CHANGED,
        ...byWhom(by),
        resource: { type: "service", id: serviceId.slice(0, 256) },
        outcome: "success",
        metadata: { service_id: serviceId, signed_only: signedOnly },
      };
      return { changed: rows[0], event };
    });
  }

  async #change<T>(log: TenantLog, change: Change<T>): Promise<Changed<T>> {
    try {
      return await makeChange(this.#sequencer, log, change);
    } finally {
      this.#publishers.forget(log.tenantId);
    }
  }
}

const SELECT_KEYS = `select ${COLUMNS} from tallystick.publisher_keys k where tenant_id = $1 order by k.service_id, k.version`;

async function readKeys(client: pg.ClientBase, tenantId: string): Promise<ListedKey[]> {
  return (await client.query<ListedKey>(SELECT_KEYS, [tenantId])).rows;
}

async function insertKey(
  client: pg.ClientBase,
  { tenantId }: TenantLog,
  keys: readonly ListedKey[],
  { serviceId, publicKey, validFrom = "", validTo }: NewKey,
  recordedAt: string,
): Promise<ListedKey> {
  requireNew(keys, { publicKey });
  if (validFrom !== "" && validFrom < recordedAt) {
    throw new KeyChangeError(
      "bad_time",
      "lies in the past: leave it out for a key that is valid from now on",
      "valid_from",
    );
  }
  const from = validFrom === "" ? recordedAt : validFrom;
  if (validTo !== undefined && validTo <= from) {
    throw new KeyChangeError("bad_time", "must be later than when the key begins to be valid", "valid_to");
  }
  const version = Math.max(0, ...keys.filter((key) => key.service_id === serviceId).map((key) => key.version)) + 1;
  const { rows } = await client.query<ListedKey>(
    `insert into tallystick.publisher_keys as k (tenant_id, service_id, version, algorithm, public_key_pem, valid_from, valid_to, created_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8) returning ${COLUMNS}`,
    [
      tenantId,
      serviceId,
      version,
      publicKey.algorithm,
      formatPublicKeyPem(publicKey),
      from,
      validTo ?? null,
      recordedAt,
    ],
  );
  return rows[0]!;
}

function requireNew(keys: readonly ListedKey[], { publicKey }: Pick<NewKey, "publicKey">): void {
  const pem = formatPublicKeyPem(publicKey);
  const taken = keys.find(({ public_key_pem }) => public_key_pem === pem);
  if (taken === undefined) return;
  throw new KeyChangeError("taken", `this key is registered already, as ${taken.key_id}: make a new one`);
}

function noneValid({ serviceId }: NewKey): KeyChangeError {
  return new KeyChangeError("none_valid", `the service "${serviceId}" has no valid key to rotate: register one`);
}

/** What whoever verifies needs of a key. */
function factsOf(key: ListedKey): JsonObject {
  const { service_id, key_id, algorithm, public_key_pem, valid_from, valid_to } = key;
  return { service_id, key_id, algorithm, public_key_pem, valid_from, ...(valid_to !== null && { valid_to }) };
}

function keyEvent(
  action: (typeof KEY_ACTIONS)[keyof typeof KEY_ACTIONS],
  by: By,
  { key_id }: ListedKey,
  metadata: JsonObject,
  reason?: string,
): SystemEvent {
  return {
    action,
    ...byWhom(by),
    resource: { type: "publisher_key", id: key_id },
    outcome: "success",
    ...(reason !== undefined && { reason }),
    metadata,
  };
}
