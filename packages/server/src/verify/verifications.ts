/**
 * Verifications that run as jobs, as the database knows them: every server can tell of each.
 */
import type { Database } from "../db/database.ts";
import type { TenantLog } from "../log/tenants.ts";
import type { VerifyReport } from "./report.ts";

export type VerificationStatus = "queued" | "running" | "done" | "failed" | "lost";

/** Times are RFC 3339 UTC with six digits of fraction. */
export interface Verification {
  readonly id: string;
  /** `lost`: its server stopped, or died, before it was done. */
  readonly status: VerificationStatus;
  /** The log's name. */
  readonly log: string;
  /** Whose chain alone is verified; null for the whole log. */
  readonly service_id: string | null;
  /** Positions gone through, of `size`, which is null until the log has been read. */
  readonly progress: { readonly checked: number; readonly size: number | null };
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  /** Whether nothing is wrong; null until it is done. */
  readonly ok: boolean | null;
  /** When it is done. */
  readonly report?: VerifyReport;
  /** An RFC 9457 problem, when it has failed or was lost. */
  readonly problem?: object;
}

/** What has become of a verification. */
export type Outcome =
  | { readonly status: "done"; readonly report: VerifyReport }
  | { readonly status: "failed" | "lost"; readonly problem: object };

export interface Progress {
  readonly checked: number;
  readonly size: number | undefined;
  /** Whether its turn has come. */
  readonly started: boolean;
}

/** How often a server says that it is at work. */
export const HEARTBEAT_MS = 2_000;
/** After this long without a word a verification is lost. */
export const LOST_AFTER_MS = 15_000;
/** So many of a tenant are kept; older ones go when another is made. */
export const KEPT = 100;

const TIME = (column: string) =>
  `to_char(v.${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as ${column}`;
const COLUMNS = `v.id,
  case when v.finished_at is null and v.heartbeat_at < clock_timestamp() - interval '${LOST_AFTER_MS} ms' then 'lost' else v.status end as status,
  l.name as log, v.service_id, json_build_object('checked', v.checked, 'size', v.size) as progress,
  ${TIME("created_at")}, ${TIME("started_at")}, ${TIME("finished_at")}, (v.report ->> 'ok')::boolean as ok`;
const SOURCE = "tallystick.verifications v join tallystick.logs l on l.id = v.log_id";

type Row = Omit<Verification, "report" | "problem"> & { report?: VerifyReport | null; problem?: object | null };

export class Verifications {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Makes one, queued. */
  async create({ tenantId, logId }: TenantLog, serviceId: string | undefined): Promise<Verification> {
    const [row] = await this.#database.queryOf<Row>(
      tenantId,
      `with forgotten as (
         delete from tallystick.verifications where tenant_id = $1 and id in (
           select id from tallystick.verifications where tenant_id = $1 order by created_at desc offset ${KEPT - 1}
         ) and (finished_at is not null or heartbeat_at < clock_timestamp() - interval '1 hour')
       ), v as (
         insert into tallystick.verifications (tenant_id, log_id, service_id) values ($1, $2, $3) returning *
       )
       select ${COLUMNS} from v join tallystick.logs l on l.id = v.log_id`,
      [tenantId, logId, serviceId ?? null],
    );
    return shown(row!);
  }

  /** One of the tenant's; undefined where it has none of this id. */
  async get(tenantId: string, id: string): Promise<Verification | undefined> {
    const [row] = await this.#database.queryOf<Row>(
      tenantId,
      `select ${COLUMNS}, v.report, v.problem from ${SOURCE} where v.tenant_id = $1 and v.id = $2`,
      [tenantId, id],
    );
    return row && shown(row);
  }

  /** The tenant's newest, the newest first, without their reports. */
  async list(tenantId: string): Promise<Verification[]> {
    const rows = await this.#database.queryOf<Row>(
      tenantId,
      `select ${COLUMNS} from ${SOURCE} where v.tenant_id = $1 order by v.created_at desc, v.id limit ${KEPT}`,
      [tenantId],
    );
    return rows.map(shown);
  }

  /** Says that the server is at work on it. */
  async beat(tenantId: string, id: string, { checked, size, started }: Progress): Promise<void> {
    await this.#database.queryOf(
      tenantId,
      `update tallystick.verifications set heartbeat_at = clock_timestamp(), checked = $3, size = $4,
         status = case when $5 then 'running' else status end, started_at = case when $5 then coalesce(started_at, clock_timestamp()) end
       where tenant_id = $1 and id = $2 and finished_at is null`,
      [tenantId, id, checked, size ?? null, started],
    );
  }

  /** Ends it. Nothing changes one that has ended. */
  async finish(tenantId: string, id: string, { checked, size }: Progress, outcome: Outcome): Promise<void> {
    await this.#database.queryOf(
      tenantId,
      `update tallystick.verifications set status = $3, checked = $4, size = $5, report = $6, problem = $7,
         heartbeat_at = clock_timestamp(), finished_at = clock_timestamp()
       where tenant_id = $1 and id = $2 and finished_at is null`,
      [
        tenantId,
        id,
        outcome.status,
        checked,
        size ?? null,
        outcome.status === "done" ? JSON.stringify(outcome.report) : null,
        outcome.status === "done" ? null : JSON.stringify(outcome.problem),
      ],
    );
  }
}

function shown({ report, problem, ...row }: Row): Verification {
  return { ...row, ...(report != null && { report }), ...(problem != null && { problem }) };
}
