/**
 * Tenants and the log that each has now.
 */
import { emptyRoot } from "@tallystick/core/tree";
import type pg from "pg";
import type { Database } from "../db/database.ts";
import type { LogIdentity } from "./identity.ts";

/** The tenant of whoever runs the installation: its log tells of what concerns no tenant, or all of them. No client writes to it. */
export const OPERATOR_TENANT = "_operator";

export type TenantStatus = "active" | "inactive" | "suspended";

/** What the operator has set for a tenant in place of the installation's settings. */
export interface TenantSettings {
  /** Requests a minute of all its credentials together, events counted; 0 is no limit. */
  readonly rate_limit_requests?: number;
  /** The same of each of its credentials. */
  readonly credential_rate_limit_requests?: number;
}

/** A change of settings: null is the installation's again, and what is left out stays. */
export type TenantSettingsChange = { readonly [K in keyof TenantSettings]?: number | null };

export interface Tenant {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly status: TenantStatus;
  readonly settings: TenantSettings;
  readonly created_at: string;
}

/** What can be changed of a tenant. */
export interface TenantChange {
  readonly name?: string;
  readonly status?: TenantStatus;
  readonly settings?: TenantSettingsChange;
}

/** A tenant with its current log: what a request that names the tenant works on. */
export interface TenantLog {
  readonly tenantId: string;
  readonly slug: string;
  readonly status: TenantStatus;
  readonly settings: TenantSettings;
  readonly logId: number;
  /** The log's origin line, `<origin>/<slug>`. */
  readonly name: string;
}

// A suspension, or a successor log, is seen by every server within this time.
const CACHE_MS = 1_000;
/** What is used after this time is looked up again while it still counts: requests do not all wait for it once a second. */
const RENEW_MS = 500;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** Whatever else is asked for is no tenant's name, and some of it (U+0000) no text that PostgreSQL takes. */
const SLUG = /^(?:[a-z0-9-]{1,63}|_operator)$/;
const COLUMNS = `id, slug, name, status, settings, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at`;

/** One of a tenant's logs. */
export interface LogFacts extends LogIdentity {
  readonly slug: string;
  readonly size: number;
  /** Hex. */
  readonly root: string;
  /** Name of the log before it. */
  readonly predecessor: string | null;
  /** Whether it is the one that is written to. */
  readonly current: boolean;
  readonly createdAt: string;
}

/** Thrown when a slug is taken, now or ever before. */
export class SlugTakenError extends Error {
  constructor(slug: string, options?: ErrorOptions) {
    super(`the slug "${slug}" is taken, or was once: slugs are never used again`, options);
    this.name = "SlugTakenError";
  }
}

export class Tenants {
  readonly #database: Database;
  readonly #now: () => number;
  readonly #cache = new Map<string, { log: TenantLog; at: number }>();
  readonly #lookups = new Map<string, Promise<TenantLog | undefined>>();

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** The same where it need not be looked up again yet; undefined says nothing. */
  known(idOrSlug: string): TenantLog | undefined {
    const cached = this.#cache.get(idOrSlug);
    return cached !== undefined && this.#now() - cached.at < RENEW_MS ? cached.log : undefined;
  }

  /** The tenant of this id or slug with its current log, at most a second old; undefined where there is none. */
  async find(idOrSlug: string): Promise<TenantLog | undefined> {
    if (!isName(idOrSlug)) return undefined;
    const now = this.#now();
    const cached = this.#cache.get(idOrSlug);
    const age = cached === undefined ? Number.POSITIVE_INFINITY : now - cached.at;
    if (age < RENEW_MS) return cached!.log;
    const lookup = this.#lookups.get(idOrSlug) ?? this.#startLookup(idOrSlug, now);
    if (age >= CACHE_MS) return lookup;
    lookup.catch(() => {}); // tried again by the next request
    return cached!.log;
  }

  /** Requests that name the same tenant meanwhile share the look-up. */
  #startLookup(idOrSlug: string, now: number): Promise<TenantLog | undefined> {
    const lookup = this.#lookUp(idOrSlug);
    this.#lookups.set(idOrSlug, lookup);
    const isNewest = () => this.#lookups.get(idOrSlug) === lookup; // else something has changed since it began
    lookup.then(
      (log) => {
        if (!isNewest()) return;
        this.#lookups.delete(idOrSlug);
        // What there is not is not remembered: a stranger's guesses must not fill memory.
        if (log !== undefined) this.#cache.set(idOrSlug, { log, at: now });
      },
      () => {
        if (isNewest()) this.#lookups.delete(idOrSlug);
      },
    );
    return lookup;
  }

  async #lookUp(idOrSlug: string): Promise<TenantLog | undefined> {
    const rows = await this.#database.query<{
      tenant_id: string;
      slug: string;
      status: TenantStatus;
      settings: TenantSettings;
      log_id: number;
      name: string;
    }>(
      `select t.id as tenant_id, t.slug, t.status, t.settings, l.id as log_id, l.name
       from tallystick.tenants t join tallystick.logs l on l.tenant_id = t.id
       where ${UUID.test(idOrSlug) ? "t.id" : "t.slug"} = $1
         and not exists (select from tallystick.logs successor where successor.predecessor_id = l.id)`,
      [idOrSlug],
    );
    const row = rows[0];
    if (row === undefined) return undefined;
    const { tenant_id: tenantId, log_id: logId, slug, status, settings, name } = row;
    return { tenantId, slug, status, settings, logId, name };
  }

  /** The operator's log, which each installation has. */
  async operatorLog(): Promise<TenantLog> {
    const log = await this.find(OPERATOR_TENANT);
    if (log === undefined)
      throw new Error(`this database has no tenant "${OPERATOR_TENANT}": start a server on it first`);
    return log;
  }

  /** The next look at this tenant is a new one. */
  forget({ tenantId, slug }: TenantLog): void {
    for (const name of [tenantId, slug]) {
      this.#cache.delete(name);
      this.#lookups.delete(name);
    }
  }

  /** The tenant's logs, oldest first. */
  async logs(tenantId: string): Promise<LogFacts[]> {
    return this.#database.readLatest(tenantId, async (client) => {
      const { rows } = await client.query<Omit<LogFacts, "size"> & { size: string }>(
        `select l.id as "logId", l.tenant_id as "tenantId", l.name, l.slug, h.size, encode(h.root, 'hex') as root,
           p.name as predecessor, to_char(l.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "createdAt",
           not exists (select from tallystick.logs successor where successor.predecessor_id = l.id) as current
         from tallystick.logs l
         left join tallystick.logs p on p.id = l.predecessor_id
         cross join lateral (select size, root from tallystick.heads where log_id = l.id order by size desc limit 1) h
         where l.tenant_id = $1 order by l.id`,
        [tenantId],
      );
      return rows.map((row) => ({ ...row, size: Number(row.size) }));
    });
  }

  /** All tenants, oldest first. */
  async list(): Promise<Tenant[]> {
    return this.#database.query<Tenant & Record<string, unknown>>(
      `select ${COLUMNS} from tallystick.tenants order by tenants.created_at, id`,
    );
  }

  async get(idOrSlug: string): Promise<Tenant | undefined> {
    if (!isName(idOrSlug)) return undefined;
    const rows = await this.#database.query<Tenant & Record<string, unknown>>(
      `select ${COLUMNS} from tallystick.tenants where ${UUID.test(idOrSlug) ? "id" : "slug"} = $1`,
      [idOrSlug],
    );
    return rows[0];
  }

  /**
   * Sees to it that there is a tenant of this slug: the installation's own ones, which no entry tells of. Any number of servers may
   * call it at once.
   */
  async ensure(slug: string, name: string): Promise<void> {
    if ((await this.find(slug)) !== undefined) return;
    try {
      await this.#database.control(async (transaction) => {
        await insertTenant(transaction.client, slug, name);
        await transaction.commit([]);
      });
    } catch (error) {
      if (!(error instanceof SlugTakenError)) throw error; // another server made it at the same moment
    }
  }
}

/**
 * Inserts a tenant, its log and the log's empty head.
 * @throws {SlugTakenError}
 */
export async function insertTenant(client: pg.ClientBase, slug: string, name: string): Promise<Tenant> {
  let tenant: Tenant;
  try {
    const { rows } = await client.query<Tenant>(
      `insert into tallystick.tenants (slug, name) values ($1, $2) returning ${COLUMNS}`,
      [slug, name],
    );
    tenant = rows[0]!;
  } catch (error) {
    if ((error as { code?: unknown }).code === "23505") throw new SlugTakenError(slug, { cause: error });
    throw error;
  }
  await client.query(
    `with log as (
       insert into tallystick.logs (tenant_id, name, slug)
       select $1, origin || '/' || $2, $2 from tallystick.installation returning id
     )
     insert into tallystick.heads (log_id, size, tenant_id, recorded_at, root) select id, 0, $1, clock_timestamp(), $3 from log`,
    [tenant.id, slug, Buffer.from(emptyRoot())],
  );
  return tenant;
}

/** Reads a tenant and locks its row, so that what is found is what is changed. */
export async function lockTenant(client: pg.ClientBase, tenantId: string): Promise<Tenant> {
  const { rows } = await client.query<Tenant>(
    `select ${COLUMNS} from tallystick.tenants where id = $1 for no key update`,
    [tenantId],
  );
  return rows[0]!;
}

/** Changes what is given of a tenant. */
export async function updateTenant(client: pg.ClientBase, tenantId: string, change: TenantChange): Promise<Tenant> {
  const { rows } = await client.query<Tenant>(
    `update tallystick.tenants set name = coalesce($2, name), status = coalesce($3, status),
       settings = jsonb_strip_nulls(settings || coalesce($4::jsonb, '{}'))
     where id = $1 returning ${COLUMNS}`,
    [tenantId, change.name ?? null, change.status ?? null, change.settings ?? null],
  );
  return rows[0]!;
}

function isName(idOrSlug: string): boolean {
  return UUID.test(idOrSlug) || SLUG.test(idOrSlug);
}
