/**
 * The batches of a log, each of which needs no more than one short transaction.
 */
import type pg from "pg";
import type { LogIdentity } from "../log/identity.ts";
import type { ServiceHeadRow } from "./chains.ts";
import { copyRows } from "./copy.ts";
import { type CheckedEntry, EntryCheck } from "./entry.ts";
import type { OpeningRow } from "./openings.ts";
import { checkSignatures, type PublisherHistory, type SignatureCount } from "./publishers.ts";
import { ProblemList } from "./report.ts";
import { BatchTally, type MinuteCounts } from "./roll-ups.ts";
import { ENTRY_COLUMNS } from "./row.ts";
import { SegmentCheck } from "./segments.ts";
import { allOf, HEAD, OPENING, SERVICE_HEAD, type Span, TILE, within } from "./sql.ts";
import type { TileRow } from "./tiles.ts";
import type { HeadRow } from "./tree.ts";

/** Everything about positions [from, to) that was recorded in one span. */
export interface Batch {
  readonly span: Span;
  readonly entries: readonly CheckedEntry[];
  readonly openings: readonly OpeningRow[];
  readonly tiles: ReadonlyMap<number, TileRow>;
  /** Heads of size from + 1 on, up to the first beyond the last position. */
  readonly heads: readonly HeadRow[];
  readonly serviceHeads: readonly ServiceHeadRow[];
  /** What is wrong with single entries. */
  readonly problems: ProblemList;
  readonly signatures: SignatureCount;
  /** What roll-ups count of it. */
  readonly minutes: readonly MinuteCounts[];
  /** The position whose row PostgreSQL could not read: the only one of its batch. */
  readonly unreadable: number | undefined;
}

/** Reads a batch; each entry is checked as it arrives. Without `withEntries` everything but the entries. */
export async function readBatch(
  client: pg.ClientBase,
  log: LogIdentity,
  span: Span,
  options: { serviceId: string | undefined; withEntries: boolean; publishers: PublisherHistory; rolledUp: number },
): Promise<Batch> {
  const { from, to } = span;
  const { logId } = log;
  const entries: CheckedEntry[] = [];
  const problems = new ProblemList();
  // Of one service's entries no segment can be made, nor where an entry cannot be read.
  const segments =
    options.serviceId === undefined && options.withEntries ? new SegmentCheck(log, problems, span) : undefined;
  const tally = new BatchTally(options.serviceId === undefined ? options.rolledUp : 0);
  const check = new EntryCheck(log, problems, options.serviceId, (seq, leaf) => {
    segments?.take(seq, leaf);
    tally.take(seq, leaf);
  });
  const rows = options.withEntries
    ? copyRows(
        client,
        `select ${ENTRY_COLUMNS} from tallystick.entries e
         where e.log_id = ${logId} and e.seq >= ${from} and e.seq < ${to} and ${within("e", span)} order by e.seq, e.recorded_at`,
        (row, at) => {
          const entry = check.check(row, at);
          if (entry !== undefined) entries.push(entry);
        },
      )
    : undefined;
  const range = [logId, from, to];
  const [, openings, tiles, heads] = await allOf([
    rows,
    client.query<OpeningRow>(
      `select ${OPENING} from tallystick.openings o where o.log_id = $1 and o.seq >= $2 and o.seq < $3 order by o.seq, o.pointer, o.recorded_at`,
      range,
    ),
    client.query<TileRow>(
      `select ${TILE} from tallystick.tiles t where t.log_id = $1 and t.level = 0 and t.index >= $2::bigint / 256 and t.index <= ($3::bigint - 1) / 256`,
      range,
    ),
    client.query<HeadRow>(
      `(select ${HEAD} from tallystick.heads h where h.log_id = $1 and h.size > $2 and h.size < $3 order by h.size)
       union all
       (select ${HEAD} from tallystick.heads h where h.log_id = $1 and h.size >= $3 order by h.size limit 1)`,
      range,
    ),
  ]);
  await segments?.finish(client, openings.rows);
  return {
    span,
    entries,
    openings: openings.rows,
    tiles: new Map(tiles.rows.map((tile) => [tile.index, tile])),
    heads: heads.rows,
    serviceHeads: await readServiceHeads(client, logId, entries),
    problems,
    signatures: checkSignatures(options.publishers, entries, openings.rows, problems),
    minutes: tally.minutes,
    unreadable: options.withEntries ? undefined : from,
  };
}

/** The service heads between the first and the last entry that each service has here. */
async function readServiceHeads(
  client: pg.ClientBase,
  logId: number,
  entries: readonly CheckedEntry[],
): Promise<ServiceHeadRow[]> {
  const ranges = new Map<string, { first: number; last: number }>();
  for (const { service, computed, stored } of entries) {
    if (service === undefined || computed !== stored) continue;
    const range = ranges.get(service.id);
    if (range === undefined) ranges.set(service.id, { first: service.seq, last: service.seq });
    else range.last = service.seq;
  }
  if (ranges.size === 0) return [];
  const asked = [...ranges.values()];
  const { rows } = await client.query<ServiceHeadRow>(
    `select ${SERVICE_HEAD} from unnest($2::text[], $3::bigint[], $4::bigint[]) as asked (service_id, first, last)
     join tallystick.service_heads s on s.log_id = $1 and s.service_id = asked.service_id and s.seq between asked.first and asked.last
     order by s.service_id, s.seq limit $5`,
    [logId, [...ranges.keys()], asked.map(({ first }) => first), asked.map(({ last }) => last), 2 * entries.length],
  );
  return rows;
}

/** One stored tile. */
export async function readTile(
  client: pg.ClientBase,
  { logId }: LogIdentity,
  level: number,
  index: number,
): Promise<TileRow | undefined> {
  const { rows } = await client.query<TileRow>(
    `select ${TILE} from tallystick.tiles t where t.log_id = $1 and t.level = $2 and t.index = $3`,
    [logId, level, index],
  );
  return rows[0];
}
