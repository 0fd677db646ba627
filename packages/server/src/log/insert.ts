/**
 * The rows of one log's part of a commit, as queries that are sent without waiting for each other.
 */
import type { Opening } from "@tallystick/core/commitment";
import type { FullTile, TreeEdge } from "@tallystick/core/edge";
import { leafHash } from "@tallystick/core/tree";
import type pg from "pg";
import { ArrayParam, OID } from "../db/array-param.ts";
import { COLUMNS_VERSION, openingTerm, termAt } from "./columns.ts";
import type { Idempotency, PreparedEvent } from "./prepare.ts";

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
  readonly services: ReadonlyMap<string, ServiceHead>;
  readonly touched: ReadonlySet<string>;
  /** The tree with the entries in it. */
  readonly edge: TreeEdge;
}

/** Bytes that are reserved for the leaves of a slice at first. */
const LEAF_BYTES = 1024;
const TERMS = 8;

/** Successive entries of one log, as the parameters of the statements that insert them: each value is encoded once, here. */
export class EntryRows {
  readonly #firstSeq: number;
  readonly #ids: ArrayParam;
  readonly #occurred: ArrayParam;
  readonly #terms: ArrayParam;
  readonly #firstTerms: ArrayParam;
  readonly #lastTerms: ArrayParam;
  readonly #actions: ArrayParam;
  readonly #hashes: ArrayParam;
  readonly #leaves: ArrayParam;
  readonly #openings: { seq: number; opening: Opening }[] = [];
  readonly #keys: { seq: number; idempotency: Idempotency }[] = [];

  /** @param expected how many entries there may be; more are taken as well. */
  constructor(firstSeq: number, expected: number) {
    this.#firstSeq = firstSeq;
    this.#ids = new ArrayParam(OID.uuid, expected * 20);
    this.#occurred = new ArrayParam(OID.timestamptz, expected * 12);
    this.#terms = new ArrayParam(OID.int8, expected * TERMS * 12);
    this.#firstTerms = new ArrayParam(OID.int4, expected * 8);
    this.#lastTerms = new ArrayParam(OID.int4, expected * 8);
    this.#actions = new ArrayParam(OID.text, expected * 32);
    this.#hashes = new ArrayParam(OID.bytea, expected * 36);
    this.#leaves = new ArrayParam(OID.text, expected * LEAF_BYTES);
  }

  get count(): number {
    return this.#ids.count;
  }

  /** Adds the entry behind the last one. Returns its leaf hash: of the very bytes that are sent. */
  add(id: string, leaf: string, { columns, openings, idempotency }: PreparedEvent): Uint8Array {
    const seq = this.#firstSeq + this.count;
    const hash = leafHash(this.#leaves.text(leaf));
    this.#ids.uuid(id);
    this.#occurred.timestamptz(columns.occurredAt);
    this.#firstTerms.int4(this.#terms.count + 1);
    for (const term of columns.termHashes) this.#terms.int8(termAt(term, seq));
    this.#lastTerms.int4(this.#terms.count);
    this.#actions.text(columns.action);
    this.#hashes.bytes(hash);
    for (const opening of openings) this.#openings.push({ seq, opening });
    for (const each of idempotency ?? []) this.#keys.push({ seq, idempotency: each });
    return hash;
  }

  /** Starts the inserts, in the order in which they must be executed. The caller waits for all of them. */
  insert(client: pg.ClientBase, log: LogRows): Promise<unknown>[] {
    const entries = client.query(
      // Terms are slices of one array: as arrays of their own they would have to be sent as text.
      `insert into tallystick.entries
         (seq, recorded_at, occurred_at, tenant_id, id, log_id, columns_version, leaf_hash, terms, action, leaf)
       select $1::bigint + position - 1, $2::timestamptz, occurred_at, $3::uuid, id, $4::integer, $5::smallint, leaf_hash,
         ($8::bigint[])[first_term:last_term], action, leaf
       from unnest($6::uuid[], $7::timestamptz[], $9::integer[], $10::integer[], $11::text[], $12::bytea[], $13::text[])
         with ordinality as entry (id, occurred_at, first_term, last_term, action, leaf_hash, leaf, position)`,
      [
        this.#firstSeq,
        log.recordedAt,
        log.tenantId,
        log.logId,
        COLUMNS_VERSION,
        this.#ids.finish(),
        this.#occurred.finish(),
        this.#terms.finish(),
        this.#firstTerms.finish(),
        this.#lastTerms.finish(),
        this.#actions.finish(),
        this.#hashes.finish(),
        this.#leaves.finish(),
      ],
    );
    return [entries, ...this.#insertOpenings(client, log), ...this.#insertIdempotencyKeys(client, log)];
  }

  #insertOpenings(client: pg.ClientBase, log: LogRows) {
    if (this.#openings.length === 0) return [];
    const seqs = new ArrayParam(OID.int8, 0);
    const terms = new ArrayParam(OID.int8, 0);
    const salts = new ArrayParam(OID.bytea, 0);
    const pointers = new ArrayParam(OID.text, 0);
    const values = new ArrayParam(OID.text, 0);
    for (const { seq, opening } of this.#openings) {
      seqs.int8(seq);
      terms.int8(openingTerm(log.logId, opening.pointer, opening.value));
      salts.bytes(opening.salt);
      pointers.text(opening.pointer);
      values.text(opening.value);
    }
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
          terms.finish(),
          salts.finish(),
          pointers.finish(),
          values.finish(),
        ],
      ),
    ];
  }

  #insertIdempotencyKeys(client: pg.ClientBase, log: LogRows) {
    if (this.#keys.length === 0) return [];
    const keys = new ArrayParam(OID.uuid, this.#keys.length * 20);
    const hashes = new ArrayParam(OID.uuid, this.#keys.length * 20);
    const seqs = new ArrayParam(OID.int8, this.#keys.length * 12);
    for (const { seq, idempotency } of this.#keys) {
      keys.uuid(idempotency.key);
      hashes.uuid(idempotency.requestHash);
      seqs.int8(seq);
    }
    return [
      client.query(
        `insert into tallystick.idempotency_keys (key, recorded_at, seq, request_hash, tenant_id, log_id)
         select key, $1::timestamptz, seq, request_hash, $2::uuid, $3::integer
         from unnest($4::uuid[], $5::uuid[], $6::bigint[]) as used (key, request_hash, seq)`,
        [log.recordedAt, log.tenantId, log.logId, keys.finish(), hashes.finish(), seqs.finish()],
      ),
    ];
  }
}

/** Starts the inserts of what a commit adds to the tree beside its entries. The caller waits for all of them. */
export function insertHeads(client: pg.ClientBase, log: LogRows): Promise<unknown>[] {
  return [
    ...log.edge.takeTiles().map((tile) => insertTile(client, log, tile)),
    insertServiceHeads(client, log),
    client.query(
      "insert into tallystick.heads (log_id, size, tenant_id, recorded_at, root) values ($1, $2, $3, $4, $5)",
      [log.logId, log.edge.size, log.tenantId, log.recordedAt, Buffer.from(log.edge.root())],
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
