/**
 * The log as it is when a verification begins.
 */
import type pg from "pg";
import { TIME } from "../db/time.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { ServiceHeadRow } from "./chains.ts";
import type { ProblemList } from "./report.ts";
import { type PinnedRollups, readPinnedRollups } from "./roll-ups.ts";
import { allOf, HEAD, SERVICE_HEAD, type Span } from "./sql.ts";
import type { HeadRow } from "./tree.ts";

/** The log as it is when the verification begins. */
export interface Pinned {
  /** Undefined where the log has no head at all. */
  readonly head: HeadRow | undefined;
  /** The newest head of each service. */
  readonly services: readonly ServiceHeadRow[];
  /** One span a partition, in order, from the beginning of time to its end. */
  readonly spans: readonly Span[];
  /** The head of the empty log, which is made with it. */
  readonly firstHead: HeadRow | undefined;
  /** Tiles that a log of this size does not have: how many, and the first of them. */
  readonly extraTiles: {
    readonly count: number;
    readonly first: readonly { readonly level: number; readonly index: number }[];
  };
  /** What the database should refuse and might not: rows of tallystick.enforcement_gaps(). */
  readonly gaps: readonly { readonly relation: string; readonly gap: string }[];
  readonly rollups: PinnedRollups;
}

/** Reads the newest head, and with it whatever has to be of the same moment. */
export async function readPinned(client: pg.ClientBase, log: LogIdentity): Promise<Pinned> {
  const { logId } = log;
  const [heads, firstHeads, services, bounds, gaps] = await allOf([
    client.query<HeadRow>(`select ${HEAD} from tallystick.heads h where h.log_id = $1 order by h.size desc limit 1`, [
      logId,
    ]),
    client.query<HeadRow>(`select ${HEAD} from tallystick.heads h where h.log_id = $1 and h.size = 0`, [logId]),
    // One index look-up a service, however long the chains are.
    client.query<ServiceHeadRow>(
      `with recursive newest as (
         (select s.* from tallystick.service_heads s where s.log_id = $1 order by s.service_id, s.seq desc limit 1)
         union all
         select next.* from newest cross join lateral (
           select s.* from tallystick.service_heads s
           where s.log_id = $1 and s.service_id > newest.service_id order by s.service_id, s.seq desc limit 1
         ) next
       )
       select ${SERVICE_HEAD} from newest s`,
      [logId],
    ),
    client.query<{ bound: string; size: number | null }>(
      `with bounds as (
         select distinct unnest(regexp_matches(pg_get_expr(c.relpartbound, c.oid), '\\(''([^'']+)''\\)', 'g'))::timestamptz as bound
         from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'tallystick.entries'::regclass
       )
       select ${TIME("bound")} as bound, (
         select h.size::float8 from tallystick.heads h
         where h.log_id = $1 and h.recorded_at < bound order by h.recorded_at desc, h.size desc limit 1
       ) as size
       from bounds where isfinite(bound) order by bounds.bound`,
      [logId],
    ),
    client.query<{ relation: string; gap: string }>("select relation, gap from tallystick.enforcement_gaps()"),
  ]);
  const head = heads.rows[0];
  const size = head?.size ?? 0;
  const spans: Span[] = [];
  let since = "-infinity";
  let from = 0;
  for (const bound of [...bounds.rows, { bound: "infinity", size }]) {
    const to = Math.min(size, Math.max(from, bound.size ?? 0));
    spans.push({ from, to, since, until: bound.bound });
    since = bound.bound;
    from = to;
  }
  const { rows: extra } = await client.query<{ level: number; index: number; count: number }>(
    `select t.level, t.index::float8 as index, (count(*) over ())::float8 as count from generate_series(0, 6) as levels (level)
     join tallystick.tiles t on t.log_id = $1 and t.level = levels.level and t.index >= div($2::numeric, 256::numeric ^ (levels.level + 1))
     order by t.level, t.index limit 100`,
    [logId, size],
  );
  return {
    head,
    firstHead: firstHeads.rows[0],
    services: services.rows,
    spans,
    extraTiles: { count: extra[0]?.count ?? 0, first: extra },
    gaps: gaps.rows,
    rollups: await readPinnedRollups(client, log),
  };
}

/** Names what is wrong with it; of one service's chain only what protects all. */
export function checkPinned(
  { head, firstHead, extraTiles, gaps }: Pinned,
  wholeLog: boolean,
  problems: ProblemList,
): void {
  for (const { relation, gap } of gaps) {
    problems.add({ seq: null, id: null, kind: "enforcement", field: relation, detail: `${relation}: ${gap}` });
  }
  if (!wholeLog) return;
  if (head === undefined) problems.add({ seq: null, id: null, kind: "head", detail: "the log has no head" });
  else if (firstHead === undefined) {
    const detail = "the head of size 0, which is made with the log, is missing";
    problems.add({ seq: null, id: null, kind: "head", detail });
  }
  for (const { level, index } of extraTiles.first) {
    problems.add({ seq: null, id: null, kind: "tile", detail: `tile ${level}/${index} is beyond the end of the log` });
  }
  problems.addUnlisted(extraTiles.count - extraTiles.first.length);
}
