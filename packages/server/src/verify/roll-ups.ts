/**
 * Roll-ups against the entries that they count: their number, and how many have each action. By these a pattern of actions is looked for, and
 * statistics are told; what they leave out would not be found. Columns are compared with leaves elsewhere, so that actions are read from them.
 */
import type pg from "pg";
import type { LogIdentity } from "../log/identity.ts";
import type { ProblemList } from "./report.ts";
import type { Snapshot } from "./sql.ts";

/** Positions that are counted at once, and minutes: no statement takes long. */
const POSITIONS = 250_000;
const MINUTES = 20_000;
const MAX_NAMED = 100;

interface Rolled {
  /** How far the log is counted. */
  readonly end: number;
  readonly size: number;
  readonly entries: number;
  readonly actions: ReadonlyMap<string, number>;
}

/** Names actions whose numbers differ, and rows that count what the log has not got. */
export async function checkRollUps(snapshot: Snapshot, log: LogIdentity, problems: ProblemList): Promise<void> {
  // At one go: the newest minute is counted on meanwhile.
  const rolled = await snapshot((client) => readRolled(client, log));
  if (rolled.end > rolled.size) {
    add(problems, "end_seq", rolled.end, rolled.size, "there are counts of entries that the log has not got");
    return;
  }
  if (rolled.entries !== rolled.end) {
    add(problems, "entries", rolled.entries, rolled.end, "the minutes do not add up to the entries that are counted");
  }
  const actual = new Map<string, number>();
  for (let from = 0; from < rolled.end; from += POSITIONS) {
    const to = Math.min(from + POSITIONS, rolled.end);
    for (const { action, entries } of await snapshot((client) => countActions(client, log, from, to))) {
      actual.set(action, (actual.get(action) ?? 0) + entries);
    }
  }
  let named = 0;
  for (const action of new Set([...actual.keys(), ...rolled.actions.keys()])) {
    const [expected, stored] = [actual.get(action) ?? 0, rolled.actions.get(action) ?? 0];
    if (expected === stored || named++ >= MAX_NAMED) continue;
    const what = JSON.stringify(action.slice(0, 200));
    add(
      problems,
      "action",
      stored,
      expected,
      `entries whose action is ${what} are counted wrongly: a pattern may not find them`,
    );
  }
}

function add(problems: ProblemList, field: string, stored: number, expected: number, detail: string): void {
  problems.add({ seq: null, id: null, kind: "rollup", field, stored: `${stored}`, expected: `${expected}`, detail });
}

async function readRolled(client: pg.ClientBase, { logId }: LogIdentity): Promise<Rolled> {
  const { rows: ends } = await client.query<{ end: number; size: number }>(
    `select coalesce((select max(end_seq) from tallystick.rollups where log_id = $1), 0)::float8 as end,
       coalesce((select max(size) from tallystick.heads where log_id = $1), 0)::float8 as size`,
    [logId],
  );
  const { rows: values } = await client.query<{ id: number; value: string }>(
    "select id, value from tallystick.rollup_values where log_id = $1 and field = 'action'",
    [logId],
  );
  const names = new Map(values.map(({ id, value }) => [id, value]));
  const actions = new Map<string, number>();
  let entries = 0;
  for (let after = "-infinity"; ; ) {
    const { rows } = await client.query<{
      id: number | null;
      count: number | null;
      entries: number;
      bucket: string;
      nth: number;
    }>(
      `select c.id::float8 as id, c.entries::float8 as count, m.entries::float8 as entries, m.bucket::text as bucket, m.nth::float8 as nth
       from (
         select bucket, entries, action, row_number() over (order by bucket) as nth from tallystick.rollups
         where log_id = $1 and level = 0 and bucket > $2::timestamptz order by bucket limit ${MINUTES}
       ) m left join lateral tallystick.rollup_counts(m.action) c on true order by m.nth`,
      [logId, after],
    );
    let last = 0;
    for (const { id, count, entries: ofMinute, nth } of rows) {
      if (nth !== last) entries += ofMinute;
      last = nth;
      if (id === null) continue;
      const name = names.get(id) ?? `(value ${id}, which has no name)`;
      actions.set(name, (actions.get(name) ?? 0) + count!);
    }
    if (last < MINUTES) break;
    after = rows.at(-1)!.bucket;
  }
  return { ...ends[0]!, entries, actions };
}

async function countActions(
  client: pg.ClientBase,
  { logId }: LogIdentity,
  from: number,
  to: number,
): Promise<{ action: string; entries: number }[]> {
  const { rows } = await client.query<{ action: string; entries: number }>(
    `select e.action, count(*)::float8 as entries from tallystick.entries e
     where e.log_id = $1 and e.seq >= $2 and e.seq < $3
       and e.recorded_at >= (select h.recorded_at from tallystick.heads h where h.log_id = $1 and h.size > $2 order by h.size limit 1)
       and e.recorded_at <= (select h.recorded_at from tallystick.heads h where h.log_id = $1 and h.size > $3 - 1 order by h.size limit 1)
     group by e.action`,
    [logId, from, to],
  );
  return rows;
}
