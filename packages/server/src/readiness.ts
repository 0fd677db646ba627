/**
 * Whether the server can do its work: a check for each thing that it depends on or promises.
 */
import type { Database } from "./db/database.ts";
import type { Check, Readiness } from "./http/routes/health.ts";
import { OPERATOR_TENANT } from "./log/tenants.ts";
import type { Signing } from "./signing/signing.ts";
import type { Witnesses } from "./signing/witnesses.ts";

/** Names of the operator's log and its successors: no client writes to them. */
const OPERATOR_LOG = new RegExp(`/${OPERATOR_TENANT}(?:\\.\\d+)?$`);

interface State {
  clock_ms: number;
  gaps: string[] | null;
  partition: boolean;
  next_partition: boolean;
}

// Anyone may ask: however often, the database is asked once in this time.
const CACHE_MS = 1_000;

/** Answers within the database's connection timeout, whatever state the database is in; at most a second old. */
export function readinessOf({
  database,
  unmet,
  maxClockSkewSeconds,
  signing,
  weakLock,
  tls,
}: {
  database: Database;
  unmet: readonly string[];
  maxClockSkewSeconds: number;
  signing: Pick<Signing, "checkpoints" | "missingLogs" | "publication"> & {
    readonly witnesses: Pick<Witnesses, "problems">;
  };
  /** The sign-lock lies beside the database's own files. */
  weakLock: boolean;
  /** None where the server speaks plain HTTP. */
  tls?: { check(): Check } | undefined;
}): () => Promise<Readiness> {
  const roles: Check = unmet.length === 0 ? { status: "ok" } : { status: "warning", detail: unmet.join("; ") };
  let newest: { at: number; readiness: Promise<Readiness> } | undefined;
  return () => {
    if (newest === undefined || performance.now() - newest.at >= CACHE_MS) {
      newest = { at: performance.now(), readiness: look() };
    }
    return newest.readiness;
  };

  async function look(): Promise<Readiness> {
    let state: State;
    try {
      const rows = await database.query<State & Record<string, unknown>>(
        `select extract(epoch from clock_timestamp())::float8 * 1000 as clock_ms,
           (select array_agg(relation || ': ' || gap) from tallystick.enforcement_gaps()) as gaps,
           to_regclass('tallystick.entries_' || to_char(now() at time zone 'UTC', 'YYYY_MM')) is not null as partition,
           to_regclass('tallystick.entries_' || to_char((now() + interval '1 month') at time zone 'UTC', 'YYYY_MM')) is not null as next_partition`,
      );
      state = rows[0]!;
    } catch (error) {
      return {
        ok: false,
        checks: {
          database: { status: "failed", detail: `the database does not answer: ${(error as Error).message}` },
          roles,
        },
      };
    }
    const skewSeconds = Math.abs(state.clock_ms - Date.now()) / 1000;
    const checks: Record<string, Check> = {
      database: { status: "ok" },
      clock:
        skewSeconds <= maxClockSkewSeconds
          ? { status: "ok" }
          : {
              status: "failed",
              detail: `the database's clock and this server's differ by ${Math.round(skewSeconds)} s: set both by NTP`,
            },
      partitions: state.partition
        ? state.next_partition
          ? { status: "ok" }
          : { status: "warning", detail: "next month's partition is missing: see the log for why it could not be made" }
        : { status: "failed", detail: "this month's partition is missing: see the log for why it could not be made" },
      enforcement:
        state.gaps === null
          ? { status: "ok" }
          : { status: "failed", detail: `the database no longer refuses changes: ${state.gaps.join("; ")}` },
      roles,
      signatures: await signaturesCheck(),
      sign_lock: weakLock
        ? {
            status: "warning",
            detail:
              "the sign-lock is beside the database's files: a copy that is put back takes it back too. Set SIGN_LOCK_PATH to another disk",
          }
        : { status: "ok" },
      ...(tls !== undefined && { tls: tls.check() }),
      ...witnessesCheck(),
    };
    return { ok: Object.values(checks).every(({ status }) => status !== "failed"), checks };
  }

  /** Never failed, whatever a witness says: a third party's word would take the server out of service, and recording with it. */
  function witnessesCheck(): Record<string, Check> {
    const problems = signing.witnesses.problems();
    if (problems === undefined) return {};
    return { witnesses: problems.length === 0 ? { status: "ok" } : { status: "warning", detail: problems.join("; ") } };
  }

  /** Failed where no client's log can be written to: what is wrong with one tenant's must not take away the others' server. */
  async function signaturesCheck(): Promise<Check> {
    const { checkpoints, missingLogs, publication } = signing;
    const { refusals } = checkpoints;
    const { failure } = publication;
    if (refusals.length === 0 && missingLogs.length === 0 && failure === undefined) return { status: "ok" };
    const logs = await logsNow(missingLogs);
    const details = [
      ...refusals.map(({ detail }) => detail),
      ...logs.missing.map((log) => `${log} was signed before, and the database has no such log: see docs/runbook.md`),
    ];
    if (failure !== undefined) {
      details.push(`checkpoints cannot be published: ${failure instanceof Error ? failure.message : String(failure)}`);
    }
    if (details.length === 0) return { status: "ok" };
    const refused = refusals.filter(({ log }) => !OPERATOR_LOG.test(log)).length;
    return { status: refused >= logs.current ? "failed" : "warning", detail: details.join("; ") };
  }

  /** How many logs clients may write to, were it not for refusals; and which of these the database still has not got. */
  async function logsNow(names: readonly string[]): Promise<{ current: number; missing: readonly string[] }> {
    const [logs] = await database.query<{ current: number; missing: string[] | null }>(
      `select (select count(*)::int from tallystick.logs l join tallystick.tenants t on t.id = l.tenant_id
           where t.slug <> '${OPERATOR_TENANT}' and not exists (select from tallystick.logs successor where successor.predecessor_id = l.id)) as current,
         (select array_agg(name) from unnest($1::text[]) as missing (name)
           where not exists (select from tallystick.logs l where l.name = missing.name)) as missing`,
      [names],
    );
    return { current: logs!.current, missing: logs!.missing ?? [] };
  }
}
