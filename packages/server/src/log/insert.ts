/**
 * The rows of one log's part of a commit, as queries that are sent without waiting for each other.
 */
import type { FullTile, TreeEdge } from "@tallystick/core/edge";
import type pg from "pg";
import { ArrayParam, OID } from "../db/array-param.ts";
import { COLUMNS_VERSION, openingTerm, termsLiteral } from "./columns.ts";
import type { PreparedEvent } from "./prepare.ts";

/** An event with its place. */
export interface RecordedEntry {
  readonly id: string;
  readonly seq: number;
  readonly leaf: string;
  readonly leafHash: Uint8Array;
  readonly event: PreparedEvent;
}

/** The newest entry of a service's chain. */
export interface ServiceHead {
  readonly seq: number;
  readonly leafHash: Uint8Array;
}

/** One log's part of a commit. */
export interface LogRows {
  readonly logId: number;
  readonly tenantId: string;
  readonly recordedAt: string;
  readonly entries: readonly RecordedEntry[];
  readonly services: ReadonlyMap<string, ServiceHead>;
  readonly touched: ReadonlySet<string>;
  /** The tree with the entries in it. */
  readonly edge: TreeEdge;
}

/** Starts the inserts, in the order in which they must be executed. The caller waits for all of them. */
export function insertRows(client: pg.ClientBase, log: LogRows): Promise<unknown>[] {
  return [
    insertEntries(client, log),
    ...insertOpenings(client, log),
    ...insertIdempotencyKeys(client, log),
    ...log.edge.takeTiles().map((tile) => insertTile(client, log, tile)),
    insertServiceHeads(client, log),
    client.query(
      "insert into tallystick.heads (log_id, size, tenant_id, recorded_at, root) values ($1, $2, $3, $4, $5)",
      [log.logId, log.edge.size, log.tenantId, log.recordedAt, Buffer.from(log.edge.root())],
    ),
  ];
}

function insertEntries(client: pg.ClientBase, log: LogRows) {
  const { entries } = log;
  const count = entries.length;
  const ids = new ArrayParam(OID.uuid, count * 20);
  const occurred = new ArrayParam(OID.timestamptz, count * 12);
  const terms = new ArrayParam(OID.text, count * 128);
  const actions = new ArrayParam(OID.text, count * 32);
  const hashes = new ArrayParam(OID.bytea, count * 36);
  const leaves = new ArrayParam(OID.text, count * 1024);
  for (const { id, seq, leaf, leafHash, event } of entries) {
    ids.uuid(id);
    occurred.timestamptz(event.columns.occurredAt);
    terms.text(termsLiteral(event.columns, seq));
    actions.text(event.columns.action);
    hashes.bytes(leafHash);
    leaves.text(leaf);
  }
  return client.query(
    `insert into tallystick.entries
       (seq, recorded_at, occurred_at, tenant_id, id, log_id, columns_version, leaf_hash, terms, action, leaf)
     select $1::bigint + position - 1, $2::timestamptz, occurred_at, $3::uuid, id, $4::integer, $5::smallint, leaf_hash, terms::bigint[], action, leaf
     from unnest($6::uuid[], $7::timestamptz[], $8::text[], $9::text[], $10::bytea[], $11::text[])
       with ordinality as entry (id, occurred_at, terms, action, leaf_hash, leaf, position)`,
    [
      entries[0]!.seq,
      log.recordedAt,
      log.tenantId,
      log.logId,
      COLUMNS_VERSION,
      ids.finish(),
      occurred.finish(),
      terms.finish(),
      actions.finish(),
      hashes.finish(),
      leaves.finish(),
    ],
  );
}

function insertOpenings(client: pg.ClientBase, log: LogRows) {
  const seqs = new ArrayParam(OID.int8, 0);
  const terms: number[] = [];
  const salts = new ArrayParam(OID.bytea, 0);
  const pointers = new ArrayParam(OID.text, 0);
  const values = new ArrayParam(OID.text, 0);
  for (const { seq, event } of log.entries) {
    for (const { pointer, salt, value } of event.openings) {
      seqs.int8(seq);
      terms.push(openingTerm(pointer, value));
      salts.bytes(salt);
      pointers.text(pointer);
      values.text(value);
    }
  }
  if (terms.length === 0) return [];
  return [
    client.query(
      `insert into tallystick.openings (seq, recorded_at, tenant_id, log_id, term, salt, pointer, value)
       select seq, $1::timestamptz, $2::uuid, $3::integer, term, salt, pointer, value
       from unnest($4::bigint[], $5::bigint[], $6::bytea[], $7::text[], $8::text[]) as opening (seq, term, salt, pointer, value)`,
      [
        log.recordedAt,
        log.tenantId,
        log.logId,
        seqs.finish(),
        terms,
        salts.finish(),
        pointers.finish(),
        values.finish(),
      ],
    ),
  ];
}

function insertIdempotencyKeys(client: pg.ClientBase, log: LogRows) {
  const keys = new ArrayParam(OID.uuid, 0);
  const hashes = new ArrayParam(OID.uuid, 0);
  const seqs = new ArrayParam(OID.int8, 0);
  let found = false;
  for (const { seq, event } of log.entries) {
    if (event.idempotency === undefined) continue;
    keys.uuid(event.idempotency.key);
    hashes.uuid(event.idempotency.requestHash);
    seqs.int8(seq);
    found = true;
  }
  if (!found) return [];
  return [
    client.query(
      `insert into tallystick.idempotency_keys (key, recorded_at, seq, request_hash, tenant_id, log_id)
       select key, $1::timestamptz, seq, request_hash, $2::uuid, $3::integer
       from unnest($4::uuid[], $5::uuid[], $6::bigint[]) as used (key, request_hash, seq)`,
      [log.recordedAt, log.tenantId, log.logId, keys.finish(), hashes.finish(), seqs.finish()],
    ),
  ];
}

function insertTile(client: pg.ClientBase, log: LogRows, { level, index, root, data }: FullTile) {
  return client.query(
    "insert into tallystick.tiles (log_id, level, index, tenant_id, root, data) values ($1, $2, $3, $4, $5, $6)",
    [log.logId, level, index, log.tenantId, Buffer.from(root), Buffer.from(data)],
  );
}

function insertServiceHeads(client: pg.ClientBase, log: LogRows) {
  const touched = [...log.touched];
  const heads = touched.map((serviceId) => log.services.get(serviceId)!);
  return client.query(
    `insert into tallystick.service_heads (log_id, service_id, seq, tenant_id, leaf_hash)
     select $1::integer, service_id, seq, $2::uuid, leaf_hash
     from unnest($3::text[], $4::bigint[], $5::bytea[]) as head (service_id, seq, leaf_hash)`,
    [log.logId, log.tenantId, touched, heads.map(({ seq }) => seq), heads.map(({ leafHash }) => Buffer.from(leafHash))],
  );
}
