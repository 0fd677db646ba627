/**
 * Verification of every log of a database, for whoever may read all of it.
 */
import type pg from "pg";
import { openAccess } from "./access.ts";
import { type VerifiedLog, verifyLog } from "./log.ts";
import type { VerifyReport } from "./report.ts";
import { VerifyWorkers } from "./workers.ts";

export interface VerifyDatabaseOptions {
  /** Id or slug: verifies the logs of this tenant alone. */
  readonly tenant?: string | undefined;
  /** Verifies the chain of this service alone, see {@link verifyLog}. */
  readonly service?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told after each batch how many of a log's positions have been gone through. */
  readonly onProgress?:
    | ((progress: { readonly log: string; readonly checked: number; readonly size: number }) => void)
    | undefined;
}

/** Thrown when there is no such tenant: nothing was verified. */
export class UnknownTenantError extends Error {
  constructor(tenant: string) {
    super(`there is no tenant "${tenant}"`);
    this.name = "UnknownTenantError";
  }
}

const BEGIN = "begin isolation level repeatable read read only";

/**
 * Verifies the logs of a database one after another, the oldest first; each report comes when its log is done.
 *
 * @param url a role that sees every tenant's rows: tallystick_auditor, tallystick_owner, or a superuser.
 * @throws {UnknownTenantError}; what the driver throws where the database cannot be read: what is left is then not verified.
 */
export async function* verifyDatabase(url: string, options: VerifyDatabaseOptions = {}): AsyncGenerator<VerifyReport> {
  const { tenant, service, signal, onProgress } = options;
  const { snapshot, pool } = openAccess(url);
  const workers = new VerifyWorkers(url);
  try {
    for (const log of await listLogs(pool, tenant)) {
      yield await verifyLog((work) => snapshot(BEGIN, work), log, {
        threads: { workers, begin: BEGIN },
        serviceId: service,
        signal,
        onProgress: (checked, size) => onProgress?.({ log: log.name, checked, size }),
      });
    }
  } finally {
    await Promise.all([pool.end(), workers.close()]);
  }
}

async function listLogs(pool: pg.Pool, tenant: string | undefined): Promise<VerifiedLog[]> {
  const { rows } = await pool.query<VerifiedLog>(
    `select l.id as "logId", l.tenant_id as "tenantId", coalesce(t.slug, l.tenant_id::text) as slug, l.name from tallystick.logs l
     left join tallystick.tenants t on t.id = l.tenant_id
     where $1::text is null or t.id::text = $1 or t.slug = $1 order by l.id`,
    [tenant ?? null],
  );
  if (rows.length === 0 && tenant !== undefined) throw new UnknownTenantError(tenant);
  return rows;
}
