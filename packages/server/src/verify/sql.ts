/**
 * How the rows of a log are asked for: columns under the names that the code has for them, 64-bit numbers as doubles, which are
 * exact for all that a log can hold.
 */
import pg from "pg";
import { TIME } from "../db/time.ts";

/** Runs `work` in a transaction of its own, with one snapshot, as someone who may see the log. */
export type Snapshot = <T>(work: (client: pg.ClientBase) => Promise<T>) => Promise<T>;

/** Positions [from, to) whose entries were recorded at or after `since` and before `until`. Times are PostgreSQL literals. */
export interface Span {
  readonly from: number;
  readonly to: number;
  readonly since: string;
  readonly until: string;
}

export const HEAD = `h.size::float8 as size, ${TIME("h.recorded_at")} as "recordedAt", encode(h.root, 'hex') as root, h.tenant_id as "tenantId"`;
export const SERVICE_HEAD = `s.service_id as "serviceId", s.seq::float8 as seq, s.tenant_id as "tenantId", encode(s.leaf_hash, 'hex') as "leafHash"`;
export const TILE = `t.level, t.index::float8 as index, t.tenant_id as "tenantId", encode(t.root, 'hex') as root, t.data`;
export const OPENING = `o.seq::float8 as seq, ${TIME("o.recorded_at")} as "recordedAt", o.tenant_id as "tenantId", o.term::float8 as term, o.salt, o.pointer, o.value`;

/** The condition of being recorded in a span. The last one has no end, so that no time is outside all of them. */
export function within(alias: string, { since, until }: Span): string {
  const end = until === "infinity" ? "" : ` and ${alias}.recorded_at < ${pg.escapeLiteral(until)}`;
  return `${alias}.recorded_at >= ${pg.escapeLiteral(since)}${end}`;
}

/** Waits for statements that were sent together; all have ended when the first failure is thrown. */
export async function allOf<const Queries extends readonly unknown[]>(
  queries: Queries,
): Promise<{ -readonly [K in keyof Queries]: Awaited<Queries[K]> }> {
  await Promise.allSettled(queries);
  return Promise.all(queries);
}
