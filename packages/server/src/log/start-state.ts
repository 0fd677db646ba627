/**
 * What an append starts from, read in one round trip with the locks of its logs.
 */
import type pg from "pg";
import type { AppendRequest } from "./append.ts";
import { SYSTEM_SERVICE, WATCH_SERVICE } from "./system.ts";

/** What an idempotency key was used for. */
export interface RecordedKey {
  readonly requestHash: string;
  readonly id: string;
  readonly seq: number;
  readonly recordedAt: string;
  readonly leafHash: Uint8Array;
}

/** A log whose lock is held. */
export interface LockedLog {
  readonly log_id: number;
  readonly tenant_id: string;
  readonly name: string;
  readonly size: string;
  readonly root: Buffer;
  readonly recorded_at: string;
  readonly clock_ms: number;
}

/** Locks the logs in id order and reads, once all locks are held, the database's clock and the logs' heads. */
export async function lockLogs(client: pg.ClientBase, logIds: ReadonlySet<number>): Promise<LockedLog[]> {
  const { rows } = await client.query<LockedLog>(
    `select log_id, tenant_id, name, size, root, extract(epoch from clock)::float8 * 1000 as clock_ms,
       to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as recorded_at
     from tallystick.lock_logs($1)`,
    [[...logIds]],
  );
  return rows;
}

/** The newest entry of each service chain that the requests add to. */
export async function readServiceHeads(client: pg.ClientBase, requests: readonly AppendRequest[]) {
  const asked = new Map<number, Set<string>>();
  for (const { logId, events } of requests) {
    const services = asked.get(logId) ?? new Set();
    asked.set(logId, services);
    for (const { serviceId } of events) services.add(serviceId);
  }
  const pairs = [...asked].flatMap(([logId, services]) => [...services].map((serviceId) => ({ logId, serviceId })));
  const { rows } = await client.query<{ log_id: number; service_id: string; seq: string; leaf_hash: Buffer }>(
    "select log_id, service_id, seq, leaf_hash from tallystick.service_heads_of($1, $2)",
    [pairs.map(({ logId }) => logId), pairs.map(({ serviceId }) => serviceId)],
  );
  return rows;
}

/** What was recorded since `since` under the requests' idempotency keys, by the key's hash. */
export async function readRecordedKeys(client: pg.ClientBase, requests: readonly AppendRequest[], since: Date) {
  const keys = new Set<string>();
  for (const { events } of requests)
    for (const { idempotency } of events) for (const { key } of idempotency ?? []) keys.add(key);
  if (keys.size === 0) return new Map<string, RecordedKey>();
  const { rows } = await client.query<{
    key: string;
    request_hash: string;
    seq: string;
    id: string;
    recorded_at: string;
    leaf_hash: Buffer;
  }>(
    `select key, request_hash, seq, id, leaf_hash, to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as recorded_at
     from tallystick.recorded_keys($1, $2)`,
    [[...keys], since],
  );
  return new Map<string, RecordedKey>(
    rows.map((row) => [
      row.key,
      {
        requestHash: row.request_hash,
        id: row.id,
        seq: Number(row.seq),
        recordedAt: row.recorded_at,
        leafHash: row.leaf_hash,
      },
    ]),
  );
}

/** Which services' events are taken signed only: `serviceKey` of each of those that the requests have unsigned events of. */
export async function readSignedOnly(client: pg.ClientBase, requests: readonly AppendRequest[]) {
  const asked = new Map<string, { logId: number; serviceId: string }>();
  for (const { logId, events } of requests) {
    for (const { serviceId, publisher } of events) {
      if (publisher === undefined && serviceId !== SYSTEM_SERVICE && serviceId !== WATCH_SERVICE) {
        asked.set(serviceKey(logId, serviceId), { logId, serviceId });
      }
    }
  }
  if (asked.size === 0) return new Set<string>();
  const pairs = [...asked.values()];
  const { rows } = await client.query<{ log_id: number; service_id: string }>(
    "select log_id, service_id from tallystick.signed_only_services($1, $2)",
    [pairs.map(({ logId }) => logId), pairs.map(({ serviceId }) => serviceId)],
  );
  return new Set(rows.map(({ log_id, service_id }) => serviceKey(log_id, service_id)));
}

/** A log's service, as {@link readSignedOnly} names it. */
export function serviceKey(logId: number, serviceId: string): string {
  return `${logId} ${serviceId}`;
}

/** From when until when a publisher key may sign, `from` inclusive and `to` not; RFC 3339 with six digits. */
export interface KeyWindow {
  readonly from: string;
  readonly to: string | null;
}

/** The publisher keys of the requests' events that are not revoked, by their rows' ids. Nothing is asked where none is signed. */
export async function readKeyWindows(client: pg.ClientBase, requests: readonly AppendRequest[]) {
  const keys = new Set<string>();
  for (const { events } of requests)
    for (const { publisher } of events) if (publisher !== undefined) keys.add(publisher.key);
  if (keys.size === 0) return new Map<string, KeyWindow>();
  const { rows } = await client.query<KeyWindow & { id: string }>(
    `select id, to_char(valid_from at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as from,
       to_char(valid_to at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as to
     from tallystick.valid_publisher_keys($1)`,
    [[...keys]],
  );
  return new Map<string, KeyWindow>(rows.map(({ id, from, to }) => [id, { from, to }]));
}
