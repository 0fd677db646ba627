/**
 * The yardstick of bulk writes: COPY BINARY of the same rows into the plain design, a table with its text columns and five
 * b-trees, each with what it takes to page in order. No hashing, no chain, no tree, no HTTP, no checks.
 */
import { hash, randomUUID } from "node:crypto";
import { canonicalize } from "@tallystick/core/canonical";
import { leafText, NO_PREVIOUS } from "@tallystick/core/leaf";
import pg from "pg";
import { copyData, copyIn, field } from "./copy-in.ts";
import { type EventShape, eventAt } from "./events.ts";
import { BULK_EVENTS } from "./load-program.ts";
import { withClient } from "./tallystick.ts";

const DATABASE = "yardstick";
const TENANT = randomUUID();

const TABLE = `
  create table plain (
    tenant uuid not null,
    seq bigint not null,
    id uuid not null,
    recorded_at timestamptz not null,
    occurred_at timestamptz not null,
    leaf_hash bytea not null,
    actor text not null,
    action text not null,
    resource text not null,
    leaf text not null,
    primary key (tenant, seq)
  );
  create index on plain (tenant, recorded_at, seq);
  create index on plain (tenant, actor, seq);
  create index on plain (tenant, action, seq);
  create index on plain (tenant, resource, seq);
`;
const COPY =
  "copy plain (tenant, seq, id, recorded_at, occurred_at, leaf_hash, actor, action, resource, leaf) from stdin (format binary)";

export class CopyYardstick {
  readonly #client: pg.Client;
  #size = 0;

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  /** Makes the table, in a database of its own of the instance that `databaseUrl` leads to. */
  static async create(databaseUrl: string): Promise<CopyYardstick> {
    await withClient(databaseUrl, (client) => client.query(`create database ${DATABASE}`));
    const url = new URL(databaseUrl);
    url.pathname = `/${DATABASE}`;
    const client = new pg.Client({ connectionString: url.href, application_name: "tallystick bench" });
    await client.connect();
    await client.query(TABLE);
    return new CopyYardstick(client);
  }

  /** Copies `count` further rows, {@link BULK_EVENTS} a commit; encoding them is not timed. */
  async run(count: number, shape: EventShape): Promise<{ durationMs: number }> {
    const chunks = this.#encode(count, shape);
    const startedAt = performance.now();
    for (const chunk of chunks) await copyIn(this.#client, COPY, chunk);
    const durationMs = performance.now() - startedAt;
    this.#size += count;
    const { rows } = await this.#client.query<{ size: string }>("select count(*) as size from plain");
    if (Number(rows[0]!.size) !== this.#size)
      throw new Error(`the yardstick has ${rows[0]!.size} rows, not ${this.#size}`);
    return { durationMs };
  }

  async close(): Promise<void> {
    await this.#client.end();
  }

  #encode(count: number, shape: EventShape): Buffer[] {
    const chunks: Buffer[] = [];
    for (let from = 0; from < count; from += BULK_EVENTS) {
      const recordedAtUs = BigInt(Date.now() + chunks.length) * 1000n;
      const length = Math.min(BULK_EVENTS, count - from);
      chunks.push(
        copyData(Array.from({ length }, (_, index) => rowAt(this.#size + from + index, recordedAtUs, shape))),
      );
    }
    return chunks;
  }
}

function rowAt(seq: number, recordedAtUs: bigint, shape: EventShape): Buffer[] {
  const event = eventAt(seq, shape);
  const id = randomUUID();
  const recordedAt = `${new Date(Number(recordedAtUs / 1000n)).toISOString().slice(0, -1)}000Z`;
  const leaf = leafText(
    { log: "bench/default", seq, id, recordedAt, serviceId: "default", serviceSeq: seq, prev: NO_PREVIOUS },
    canonicalize(event),
  );
  return [
    field.uuid(TENANT),
    field.int8(seq),
    field.uuid(id),
    field.timestamptz(recordedAtUs),
    field.timestamptz(BigInt(Date.parse(event.occurred_at!)) * 1000n),
    hash("sha256", leaf, "buffer"),
    field.text(event.actor.id!),
    field.text(event.action),
    field.text(event.resource!.id!),
    field.text(leaf),
  ];
}
