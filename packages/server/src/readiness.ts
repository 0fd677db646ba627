/**
 * Whether the server can do its work: a check for each thing that it depends on or promises.
 */
import type { Database } from "./db/database.ts";
import type { Check, Readiness } from "./http/routes/health.ts";
import type { Signing } from "./signing/signing.ts";
import type { Witnesses } from "./signing/witnesses.ts";

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
}: {
  database: Database;
  unmet: readonly string[];
  maxClockSkewSeconds: number;
  signing: Pick<Signing, "checkpoints" | "missingLogs" | "publication"> & {
    readonly witnesses: Pick<Witnesses, "problems">;
  };
  /** The sign-lock lies beside the database's own files. */
  weakLock: boolean;
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
      signatures: signaturesCheck(),
      sign_lock: weakLock
        ? {
            status: "warning",
            detail:
              "the sign-lock is beside the database's files: a copy that is put back takes it back too. Set SIGN_LOCK_PATH to another disk",
          }
        : { status: "ok" },
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

  function signaturesCheck(): Check {
    const { checkpoints, missingLogs, publication } = signing;
    const refused = [
      ...checkpoints.refusals.map(({ detail }) => detail),
      ...missingLogs.map((log) => `${log} was signed before, and the database has no such log: see docs/runbook.md`),
    ];
    if (refused.length > 0) return { status: "failed", detail: refused.join("; ") };
    const { failure } = publication;
    if (failure === undefined) return { status: "ok" };
    const why = failure instanceof Error ? failure.message : String(failure);
    return { status: "warning", detail: `checkpoints cannot be published: ${why}` };
  }
}
