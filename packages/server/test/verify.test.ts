import { toHex } from "@tallystick/core/hex";
import { leafHash } from "@tallystick/core/tree";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TenantLog } from "../src/log/tenants.ts";
import { append, checkLog, reportOf, TestDatabase, type TestEvent, testSequencer } from "../src/testing/log.ts";
import { openAccess } from "../src/verify/access.ts";
import { UnknownTenantError, verifyDatabase } from "../src/verify/database.ts";
import { verifyLog } from "../src/verify/log.ts";
import type { VerifyProblem } from "../src/verify/report.ts";
import type { Snapshot } from "../src/verify/sql.ts";
import { VerifyWorkers } from "../src/verify/workers.ts";

const BEGIN = "begin isolation level repeatable read read only";

let db: TestDatabase;
let workers: VerifyWorkers;
let superuser: ReturnType<typeof openAccess>;
beforeAll(async () => {
  db = await TestDatabase.create();
  workers = new VerifyWorkers(db.url());
  superuser = openAccess(db.url());
});
afterAll(async () => {
  await Promise.all([workers.close(), superuser.pool.end()]);
  await db.close();
});

const asSuperuser: Snapshot = (work) => superuser.snapshot(BEGIN, work);

// Two full tiles, and a tail that is in none; six commits; three services.
const SIZE = 600;
const COMMIT = 100;
const TAIL = 590;

function event(i: number): TestEvent {
  return {
    action: `order.update${i}`,
    actor: { id: `user-${i}`, ...(i % 10 === 0 && { email: `user-${i}@example.com` }) },
    resource: { type: "order", id: `order-${i}` },
    description: `what happened at ${i}`,
    occurred_at: "2024-02-29T12:00:00.123456Z",
    service_id: `service-${i % 3}`,
    context: { ...(i % 10 === 0 && { ip: "192.0.2.7" }), request_id: `request-${i}` },
  };
}

interface Row {
  readonly seq: number;
  readonly id: string;
  readonly recordedAt: string;
  readonly leaf: string;
  readonly hash: string;
}

/** A log of its own for each tampering, and what is in it. */
class Victim {
  readonly log: TenantLog;
  readonly rows: readonly Row[];

  private constructor(log: TenantLog, rows: readonly Row[]) {
    this.log = log;
    this.rows = rows;
  }

  static async create(): Promise<Victim> {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database);
    for (let first = 0; first < SIZE; first += COMMIT) {
      await append(
        sequencer,
        log,
        Array.from({ length: COMMIT }, (_, i) => event(first + i)),
      );
    }
    const { rows } = await db.superuser.query<Row>(
      `select seq::float8 as seq, id, to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "recordedAt",
         leaf, encode(leaf_hash, 'hex') as hash
       from tallystick.entries where log_id = $1 order by seq`,
      [log.logId],
    );
    return new Victim(log, rows);
  }

  /** A row of the log, changed in place. */
  async set(table: string, where: string, change: string, values: unknown[] = []): Promise<void> {
    const changed = await db.tamper(
      `update tallystick.${table} set ${change} where log_id = ${this.log.logId} and ${where}`,
      values,
    );
    expect(changed).toBeGreaterThan(0);
  }

  async remove(table: string, where: string): Promise<void> {
    expect(
      await db.tamper(`delete from tallystick.${table} where log_id = ${this.log.logId} and ${where}`),
    ).toBeGreaterThan(0);
  }

  /** A copy of rows of the log; `changes` gives the expressions that differ. */
  async copy(table: string, where: string, changes: Readonly<Record<string, string>>): Promise<void> {
    const { rows } = await db.superuser.query<{ name: string }>(
      "select attname as name from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped",
      [`tallystick.${table}`],
    );
    const names = rows.map(({ name }) => name);
    await db.tamper(
      `insert into tallystick.${table} (${names.join(", ")})
       select ${names.map((name) => changes[name] ?? name).join(", ")} from tallystick.${table} where log_id = ${this.log.logId} and ${where}`,
    );
  }

  async stored(table: string, what: string, where: string): Promise<string> {
    const { rows } = await db.superuser.query<{ value: string }>(
      `select ${what} as value from tallystick.${table} where log_id = ${this.log.logId} and ${where}`,
    );
    return rows[0]!.value;
  }

  /** The hash of an entry's leaf once `leaf` has been changed as {@link forge} does. */
  forgedHash(seq: number): string {
    return toHex(leafHash(forged(this.rows[seq]!.leaf)));
  }
}

function forged(leaf: string): string {
  return leaf.replace("what happened", "what HAPPENED");
}
const FORGE = "leaf = replace(leaf, 'what happened', 'what HAPPENED')";
const REHASH = `${FORGE}, leaf_hash = sha256('\\x00'::bytea || convert_to(replace(leaf, 'what happened', 'what HAPPENED'), 'UTF8'))`;

interface Tampering {
  readonly name: string;
  readonly tamper: (victim: Victim) => Promise<unknown>;
  /** All problems, and nothing else. */
  readonly named: (victim: Victim) => Partial<VerifyProblem>[] | Promise<Partial<VerifyProblem>[]>;
}

/** The problem of an entry. */
const at = ({ rows }: Victim, seq: number) => ({ seq, id: rows[seq]!.id });
const uncheckedHeads = {
  seq: null,
  kind: "head",
  field: "root",
  detail: expect.stringContaining("could not be compared"),
} as const;

const TAMPERINGS: readonly Tampering[] = [
  ...[10, 300, TAIL, SIZE - 1].flatMap((seq): Tampering[] => [
    {
      name: `one byte of the leaf of ${seq}`,
      tamper: (victim) => victim.set("entries", `seq = ${seq}`, FORGE),
      named: (victim) => [
        {
          ...at(victim, seq),
          kind: "leaf",
          field: "leaf",
          stored: victim.forgedHash(seq),
          expected: victim.rows[seq]!.hash,
        },
      ],
    },
    {
      name: `the leaf_hash of ${seq}`,
      tamper: (victim) =>
        victim.set("entries", `seq = ${seq}`, "leaf_hash = set_byte(leaf_hash, 31, get_byte(leaf_hash, 31) # 1)"),
      named: async (victim) => [
        {
          ...at(victim, seq),
          kind: "leaf_hash",
          field: "leaf_hash",
          stored: await victim.stored("entries", "encode(leaf_hash, 'hex')", `seq = ${seq}`),
          expected: victim.rows[seq]!.hash,
        },
      ],
    },
  ]),
  {
    name: "a leaf with its leaf_hash, in a full tile",
    tamper: (victim) => victim.set("entries", "seq = 10", REHASH),
    named: (victim) => [
      {
        ...at(victim, 10),
        kind: "leaf",
        field: "leaf",
        stored: victim.forgedHash(10),
        expected: victim.rows[10]!.hash,
      },
    ],
  },
  {
    name: "a leaf with its leaf_hash, after the last full tile: the next of its service knows",
    tamper: (victim) => victim.set("entries", `seq = ${TAIL}`, REHASH),
    named: async (victim) => [
      {
        ...at(victim, TAIL),
        kind: "chain",
        field: "leaf_hash",
        stored: victim.forgedHash(TAIL),
        expected: victim.rows[TAIL]!.hash,
      },
      {
        ...at(victim, SIZE - 1),
        kind: "head",
        field: "root",
        stored: await victim.stored("heads", "encode(root, 'hex')", `size = ${SIZE}`),
      },
    ],
  },
  {
    name: "the last leaf with its leaf_hash: the service's head knows",
    tamper: (victim) => victim.set("entries", `seq = ${SIZE - 1}`, REHASH),
    named: (victim) => [
      {
        ...at(victim, SIZE - 1),
        kind: "chain",
        field: "leaf_hash",
        stored: victim.forgedHash(SIZE - 1),
        expected: victim.rows[SIZE - 1]!.hash,
      },
      { ...at(victim, SIZE - 1), kind: "head", field: "root" },
    ],
  },
  {
    name: "a leaf that is no JSON any more",
    tamper: (victim) => victim.set("entries", "seq = 10", "leaf = 'gone'"),
    named: (victim) => [
      { ...at(victim, 10), kind: "leaf", field: "leaf", stored: "gone", detail: expect.stringContaining("not JSON") },
      {
        ...at(victim, 10),
        kind: "leaf",
        field: "leaf",
        stored: toHex(leafHash("gone")),
        expected: victim.rows[10]!.hash,
      },
    ],
  },
  {
    name: "JSON that is no leaf",
    tamper: (victim) => victim.set("entries", "seq = 10", "leaf = '[null]'"),
    named: (victim) => [
      { ...at(victim, 10), kind: "leaf", field: "leaf", stored: "[null]" },
      {
        ...at(victim, 10),
        kind: "leaf",
        field: "leaf",
        stored: toHex(leafHash("[null]")),
        expected: victim.rows[10]!.hash,
      },
    ],
  },
  {
    name: "occurred_at",
    tamper: (victim) => victim.set("entries", "seq = 10", "occurred_at = '0001-01-01T00:00:00.000001Z'"),
    named: (victim) => [
      {
        ...at(victim, 10),
        kind: "column",
        field: "occurred_at",
        stored: "0001-01-01T00:00:00.000001Z",
        expected: "2024-02-29T12:00:00.123456Z",
      },
    ],
  },
  {
    name: "occurred_at taken away",
    tamper: (victim) => victim.set("entries", "seq = 10", "occurred_at = null"),
    named: (victim) => [
      {
        ...at(victim, 10),
        kind: "column",
        field: "occurred_at",
        stored: "null",
        expected: "2024-02-29T12:00:00.123456Z",
      },
    ],
  },
  {
    name: "occurred_at without end",
    tamper: (victim) => victim.set("entries", "seq = 10", "occurred_at = 'infinity'"),
    named: (victim) => [
      { ...at(victim, 10), kind: "column", field: "occurred_at", expected: "2024-02-29T12:00:00.123456Z" },
    ],
  },
  {
    name: "action",
    tamper: (victim) => victim.set("entries", `seq = ${TAIL}`, "action = 'order.view'"),
    named: (victim) => [
      { ...at(victim, TAIL), kind: "column", field: "action", stored: "order.view", expected: `order.update${TAIL}` },
    ],
  },
  {
    name: "a term",
    tamper: (victim) => victim.set("entries", "seq = 10", "terms[1] = terms[1] + 1"),
    named: async (victim) => [
      {
        ...at(victim, 10),
        kind: "column",
        field: "terms",
        stored: await victim.stored("entries", "terms::text", "seq = 10"),
        expected: expect.stringContaining(await victim.stored("entries", "(terms[1] - 1)::text", "seq = 10")),
      },
    ],
  },
  {
    name: "all terms taken away",
    tamper: (victim) => victim.set("entries", "seq = 10", "terms = '{}'"),
    named: (victim) => [{ ...at(victim, 10), kind: "column", field: "terms", stored: "{}" }],
  },
  {
    name: "the block of the terms",
    tamper: (victim) =>
      victim.set(
        "entries",
        "seq = 10",
        "terms = array(select term + (1::bigint << 32) from unnest(terms) with ordinality t (term, at) order by at)",
      ),
    named: (victim) => [{ ...at(victim, 10), kind: "column", field: "terms" }],
  },
  {
    name: "columns_version",
    tamper: (victim) => victim.set("entries", "seq = 10", "columns_version = 99, action = 'cannot be checked'"),
    named: (victim) => [
      { ...at(victim, 10), kind: "unknown_version", field: "columns_version", stored: "99", expected: "1" },
    ],
  },
  {
    name: "id",
    tamper: (victim) =>
      victim.set(
        "entries",
        "seq = 10",
        "id = (left(id::text, 35) || translate(right(id::text, 1), '0123456789abcdef', '123456789abcdef0'))::uuid",
      ),
    named: async (victim) => {
      const id = await victim.stored("entries", "id::text", "seq = 10");
      return [{ seq: 10, id, kind: "column", field: "id", stored: id, expected: victim.rows[10]!.id }];
    },
  },
  {
    name: "tenant_id",
    tamper: (victim) => victim.set("entries", "seq = 10", "tenant_id = '00000000-0000-4000-8000-000000000000'"),
    named: (victim) => [
      {
        ...at(victim, 10),
        kind: "column",
        field: "tenant_id",
        stored: "00000000-0000-4000-8000-000000000000",
        expected: victim.log.tenantId,
      },
    ],
  },
  {
    name: "recorded_at, by a second",
    tamper: (victim) => victim.set("entries", "seq = 10", "recorded_at = recorded_at + interval '1 second'"),
    named: async (victim) => [
      { ...at(victim, 10), kind: "column", field: "recorded_at", expected: victim.rows[10]!.recordedAt },
      ...(await misdatedId(victim, 10)),
    ],
  },
  {
    name: "recorded_at, into another partition",
    tamper: (victim) => victim.set("entries", "seq = 11", "recorded_at = recorded_at + interval '1 month'"),
    named: (victim) => [
      { ...at(victim, 11), kind: "extra" },
      { seq: 11, id: null, kind: "missing" },
    ],
  },
  {
    name: "seq: the entry moved onto another",
    tamper: (victim) => victim.set("entries", "seq = 11", "seq = 150"),
    named: (victim) => [
      { seq: 11, id: null, kind: "missing" },
      { seq: 150, id: victim.rows[11]!.id, kind: "column", field: "seq", stored: "150", expected: "11" },
      { seq: 150, id: victim.rows[11]!.id, kind: "extra" },
    ],
  },
  {
    name: "log_id: the entry moved to another log",
    tamper: async (victim) => victim.set("entries", "seq = 11", `log_id = ${(await db.tenant()).logId}`),
    named: () => [{ seq: 11, id: null, kind: "missing" }],
  },
  {
    name: "an opening's value",
    tamper: (victim) =>
      victim.set("openings", "seq = 10 and pointer = '/event/actor/email'", `value = '"mallory@example.com"'`),
    named: async (victim) => [
      { ...at(victim, 10), kind: "opening", field: "value", expected: commitment(victim, 10, "email") },
    ],
  },
  {
    name: "an opening's value that is no JSON",
    tamper: (victim) => victim.set("openings", "seq = 10 and pointer = '/event/actor/email'", "value = '{'"),
    named: (victim) => [
      { ...at(victim, 10), kind: "opening", field: "value", expected: commitment(victim, 10, "email") },
    ],
  },
  {
    name: "an opening's salt",
    tamper: (victim) =>
      victim.set(
        "openings",
        `seq = ${TAIL} and pointer = '/event/context/ip'`,
        "salt = set_byte(salt, 0, get_byte(salt, 0) # 128)",
      ),
    named: (victim) => [
      { ...at(victim, TAIL), kind: "opening", field: "salt", expected: commitment(victim, TAIL, "ip") },
    ],
  },
  {
    name: "an opening's term",
    tamper: (victim) => victim.set("openings", "seq = 10 and pointer = '/event/context/ip'", "term = 7"),
    named: (victim) => [{ ...at(victim, 10), kind: "opening", field: "term", stored: "7" }],
  },
  {
    name: "an opening's pointer",
    tamper: (victim) =>
      victim.set("openings", "seq = 10 and pointer = '/event/context/ip'", "pointer = '/event/action'"),
    named: (victim) => [{ ...at(victim, 10), kind: "opening", field: "pointer", stored: "/event/action" }],
  },
  {
    name: "an opening's time",
    tamper: (victim) =>
      victim.set(
        "openings",
        "seq = 10 and pointer = '/event/context/ip'",
        "recorded_at = recorded_at + interval '1 month'",
      ),
    named: (victim) => [
      { ...at(victim, 10), kind: "opening", field: "recorded_at", expected: victim.rows[10]!.recordedAt },
    ],
  },
  {
    name: "an opening's tenant",
    tamper: (victim) =>
      victim.set(
        "openings",
        "seq = 10 and pointer = '/event/context/ip'",
        "tenant_id = '00000000-0000-4000-8000-000000000000'",
      ),
    named: (victim) => [{ ...at(victim, 10), kind: "opening", field: "tenant_id", expected: victim.log.tenantId }],
  },
  {
    name: "an opening of an entry that has no commitment",
    tamper: (victim) => victim.copy("openings", "seq = 10 and pointer = '/event/context/ip'", { seq: "11" }),
    named: (victim) => [{ ...at(victim, 11), kind: "opening", field: "pointer", stored: "/event/context/ip" }],
  },
  {
    name: "an opening beyond the end",
    tamper: (victim) => victim.copy("openings", "seq = 10 and pointer = '/event/context/ip'", { seq: "1000000" }),
    named: () => [{ seq: 1_000_000, id: null, kind: "opening", stored: "/event/context/ip" }],
  },
  {
    name: "an entry taken away",
    tamper: (victim) => victim.remove("entries", "seq = 33"),
    named: () => [{ seq: 33, id: null, kind: "missing", expected: "33" }],
  },
  {
    name: "entries taken away across commits and tiles",
    tamper: (victim) => victim.remove("entries", "seq between 250 and 310"),
    named: () => [
      { seq: 250, id: null, kind: "missing", expected: "250 to 310", detail: expect.stringContaining("61") },
    ],
  },
  {
    name: "the first entry taken away",
    tamper: (victim) => victim.remove("entries", "seq = 0"),
    named: () => [{ seq: 0, id: null, kind: "missing", expected: "0" }],
  },
  {
    name: "an entry after the last full tile taken away",
    tamper: (victim) => victim.remove("entries", "seq = 591"),
    named: () => [uncheckedHeads, { seq: 591, id: null, kind: "missing", expected: "591" }],
  },
  {
    name: "the last entry taken away",
    tamper: (victim) => victim.remove("entries", `seq = ${SIZE - 1}`),
    named: () => [uncheckedHeads, { seq: SIZE - 1, id: null, kind: "missing", expected: `${SIZE - 1}` }],
  },
  {
    name: "an entry put at the end",
    tamper: (victim) => victim.copy("entries", `seq = ${SIZE - 1}`, { seq: `${SIZE}` }),
    named: (victim) => [{ seq: SIZE, id: victim.rows[SIZE - 1]!.id, kind: "extra" }],
  },
  {
    name: "a second row for a position, at another time",
    tamper: (victim) => victim.copy("entries", "seq = 33", { recorded_at: "recorded_at + interval '1 microsecond'" }),
    named: (victim) => [
      { ...at(victim, 33), kind: "column", field: "recorded_at", expected: victim.rows[33]!.recordedAt },
      { ...at(victim, 33), kind: "extra" },
    ],
  },
  {
    name: "a second row for a position, before the first one",
    tamper: (victim) =>
      victim.copy("entries", "seq = 33", { recorded_at: "recorded_at - interval '1 microsecond'", leaf: "'{}'" }),
    named: (victim) => [
      { ...at(victim, 33), kind: "extra" },
      { ...at(victim, 33), kind: "leaf", stored: "{}" },
    ],
  },
  {
    name: "a second row for a position, in another partition",
    tamper: (victim) => victim.copy("entries", "seq = 33", { recorded_at: "recorded_at + interval '1 month'" }),
    named: (victim) => [{ ...at(victim, 33), kind: "extra" }],
  },
  {
    name: "a byte of a tile",
    tamper: (victim) =>
      victim.set("tiles", "level = 0 and index = 0", "data = set_byte(data, 32 * 7, get_byte(data, 32 * 7) # 1)"),
    named: (victim) => [{ ...at(victim, 7), kind: "tile", field: "data", expected: victim.rows[7]!.hash }],
  },
  {
    name: "the root of a tile",
    tamper: (victim) => victim.set("tiles", "level = 0 and index = 1", "root = sha256('')"),
    named: () => [
      { seq: null, kind: "tile", field: "root", stored: EMPTY_SHA256, detail: expect.stringContaining("tile 0/1") },
    ],
  },
  {
    name: "a tile's tenant",
    tamper: (victim) =>
      victim.set("tiles", "level = 0 and index = 1", "tenant_id = '00000000-0000-4000-8000-000000000000'"),
    named: () => [{ seq: null, kind: "tile", field: "tenant_id" }],
  },
  {
    name: "a tile taken away",
    tamper: (victim) => victim.remove("tiles", "level = 0 and index = 0"),
    named: () => [{ seq: null, kind: "tile", detail: "tile 0/0 is missing" }],
  },
  {
    name: "tiles added",
    tamper: async (victim) => {
      await victim.copy("tiles", "index = 0", { index: "2" });
      await victim.copy("tiles", "index = 0", { level: "3::smallint" });
    },
    named: () => [
      { seq: null, kind: "tile", detail: "tile 0/2 is beyond the end of the log" },
      { seq: null, kind: "tile", detail: "tile 3/0 is beyond the end of the log" },
    ],
  },
  ...[200, SIZE].map(
    (size): Tampering => ({
      name: `the root of the head of size ${size}`,
      tamper: (victim) => victim.set("heads", `size = ${size}`, "root = sha256('')"),
      named: (victim) => [{ ...at(victim, size - 1), kind: "head", field: "root", stored: EMPTY_SHA256 }],
    }),
  ),
  {
    name: "the root of the empty log",
    tamper: (victim) => victim.set("heads", "size = 0", "root = sha256('x')"),
    named: () => [{ seq: null, id: null, kind: "head", field: "root", expected: EMPTY_SHA256 }],
  },
  {
    name: "the time of a head",
    tamper: (victim) => victim.set("heads", "size = 200", "recorded_at = recorded_at - interval '1 microsecond'"),
    named: (victim) => [
      { ...at(victim, 199), kind: "head", field: "recorded_at", expected: victim.rows[199]!.recordedAt },
    ],
  },
  {
    name: "the size of a head",
    tamper: (victim) => victim.set("heads", "size = 200", "size = 190"),
    named: (victim) => [
      ...[187, 188].map((seq) => ({ ...at(victim, seq), kind: "service_head" as const })),
      { ...at(victim, 189), kind: "head", field: "root" },
      { ...at(victim, 189), kind: "service_head" },
      { ...at(victim, 199), kind: "head", field: "size", expected: "200" },
    ],
  },
  {
    name: "a head in the middle taken away",
    tamper: (victim) => victim.remove("heads", "size = 200"),
    named: (victim) => [{ ...at(victim, 199), kind: "head", field: "size", expected: "200" }],
  },
  {
    name: "the first head taken away",
    tamper: (victim) => victim.remove("heads", "size = 0"),
    named: () => [{ seq: null, id: null, kind: "head" }],
  },
  {
    name: "a service head's hash",
    tamper: (victim) => victim.set("service_heads", "service_id = 'service-2' and seq = 65", "leaf_hash = sha256('')"),
    named: (victim) => [
      {
        ...at(victim, 197),
        kind: "service_head",
        field: "leaf_hash",
        stored: EMPTY_SHA256,
        expected: victim.rows[197]!.hash,
      },
    ],
  },
  {
    name: "a service head taken away",
    tamper: (victim) => victim.remove("service_heads", "service_id = 'service-0' and seq = 199"),
    named: (victim) => [{ ...at(victim, 597), kind: "service_head", expected: victim.rows[597]!.hash }],
  },
  {
    name: "service heads added",
    tamper: async (victim) => {
      await victim.copy("service_heads", "service_id = 'service-0' and seq = 199", { seq: "200" });
      await victim.copy("service_heads", "service_id = 'service-0' and seq = 199", { service_id: "'unheard of'" });
    },
    named: () => [
      { seq: null, kind: "service_head", detail: expect.stringContaining('"service-0" at its number 200') },
      { seq: null, kind: "service_head", detail: expect.stringContaining('"unheard of"') },
    ],
  },
];

const EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/** Where a second passed, the id's time is another too. */
async function misdatedId(victim: Victim, seq: number): Promise<Partial<VerifyProblem>[]> {
  return [{ ...at(victim, seq), kind: "column", field: "id" }];
}

function commitment(victim: Victim, seq: number, field: "email" | "ip"): string {
  const { event } = JSON.parse(victim.rows[seq]!.leaf);
  return (field === "email" ? event.actor.email : event.context.ip).$committed;
}

describe("verifyLog() names what a superuser changed", () => {
  test.each(TAMPERINGS)("$name", async ({ tamper, named }) => {
    const victim = await Victim.create();
    await tamper(victim);
    const report = await reportOf(db, victim.log);
    expect(report.problems).toMatchObject(await named(victim));
    expect(report.ok).toBe(false);
    // In batches of a tile, which cut through commits, it comes to the same.
    expect(await verifyLog(asSuperuser, victim.log, { batchSize: 256 })).toEqual(report);
  });

  test.each(TAMPERINGS)("in threads of their own: $name", async ({ tamper }) => {
    const victim = await Victim.create();
    const inThreads = { batchSize: 256, threads: { workers, begin: BEGIN }, threadsFrom: 0 };
    expect(await verifyLog(asSuperuser, victim.log, inThreads)).toEqual(await verifyLog(asSuperuser, victim.log));
    await tamper(victim);
    const report = await verifyLog(asSuperuser, victim.log, inThreads);
    expect(report).toEqual(await verifyLog(asSuperuser, victim.log));
    expect(report.ok).toBe(false);
  });

  test("columns that the schema does not allow", async () => {
    const other = await TestDatabase.create();
    try {
      const log = await other.tenant();
      const sequencer = testSequencer(other.database);
      for (const i of [0, 1, 2]) await append(sequencer, log, [event(i)]);
      await other.superuser.query(`alter table tallystick.entries drop constraint entries_leaf_hash_size;
        alter table tallystick.entries alter column leaf drop not null`);
      await other.tamper(`update tallystick.entries set leaf_hash = '' where log_id = ${log.logId} and seq = 0`);
      await other.tamper(`update tallystick.entries set leaf = null where log_id = ${log.logId} and seq = 1`);
      const { problems } = await reportOf(other, log);
      expect(problems).toMatchObject([
        { seq: 0, kind: "leaf_hash", field: "leaf_hash", stored: "" },
        { seq: 1, kind: "leaf", stored: "" },
        { seq: 1, kind: "leaf", stored: toHex(leafHash("")) },
      ]);
    } finally {
      await other.close();
    }
  });

  test("a partition that was dropped, by the range of entries that went with it", async () => {
    const other = await TestDatabase.create();
    try {
      const log = await other.tenant();
      const sequencer = testSequencer(other.database);
      await append(sequencer, log, [event(0), event(1)]);
      await append(sequencer, log, [event(2)]);
      const [partition] = await other.as<{ name: string }>(
        "postgres",
        "select distinct tableoid::regclass as name from tallystick.entries",
      );
      await other.superuser.query(`drop table ${partition!.name}`);
      const { ok, checked, problems } = await reportOf(other, log);
      expect({ ok, checked }).toEqual({ ok: false, checked: 0 });
      expect(problems).toContainEqual(expect.objectContaining({ seq: 0, kind: "missing", expected: "0 to 2" }));
    } finally {
      await other.close();
    }
  });

  test("a trigger that was switched off", async () => {
    const other = await TestDatabase.create();
    try {
      const log = await other.tenant();
      await other.superuser.query("alter table tallystick.heads disable trigger heads_append_only");
      const { ok, problems } = await reportOf(other, log);
      expect(ok).toBe(false);
      expect(problems).toMatchObject([
        {
          seq: null,
          id: null,
          kind: "enforcement",
          field: "heads",
          detail: expect.stringContaining("heads_append_only"),
        },
      ]);
    } finally {
      await other.close();
    }
  });

  test("hashes in tiles above the lowest, in a log of more than 65,536 entries", async () => {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database);
    const size = 65_536 + 300;
    for (let first = 0; first < size; first += 5_000) {
      const events = Array.from({ length: Math.min(5_000, size - first) }, (_, i) => ({
        action: "a.b",
        actor: { id: `user-${first + i}` },
      }));
      await append(sequencer, log, events);
    }
    expect(await checkLog(db.database, log)).toMatchObject({ size, checked: size });
    const where = `log_id = ${log.logId} and level = 1`;
    const [before] = await db.as<{ hash: string }>(
      "postgres",
      `select encode(substring(data from 65 for 32), 'hex') as hash from tallystick.tiles where ${where}`,
    );
    await db.tamper(`update tallystick.tiles set data = set_byte(data, 64, get_byte(data, 64) # 255) where ${where}`);
    const { problems } = await reportOf(db, log);
    expect(problems).toMatchObject([
      {
        seq: null,
        kind: "tile",
        field: "data",
        expected: before!.hash,
        detail: "tile 1/0 has another hash for tile 0/2",
      },
    ]);
  });
});

describe("verifyLog()", () => {
  test("finds nothing wrong in what the sequencer wrote, as reader, auditor, owner and superuser", async () => {
    const { log, rows } = await Victim.create();
    const expected = { ok: true, log: log.name, size: SIZE, checked: SIZE, erased: 0, problems: [] };
    expect(await checkLog(db.database, log)).toMatchObject(expected);
    const { url, begin } = db.database.readAccess(log.tenantId);
    const threads = { workers: new VerifyWorkers(url), begin };
    const read: Snapshot = (work) => db.database.read(log.tenantId, work);
    expect(await verifyLog(read, log, { threads, threadsFrom: 0, batchSize: 256 })).toMatchObject(expected);
    await threads.workers.close();
    for (const role of ["tallystick_auditor", "tallystick_owner", "postgres"] as const) {
      expect(await reportOf(db, log, role)).toMatchObject(expected);
    }
    expect(rows.length).toBe(SIZE);
  });

  test("finds nothing wrong in an empty log", async () => {
    const log = await db.tenant();
    expect(await checkLog(db.database, log)).toMatchObject({ ok: true, size: 0, checked: 0, root: EMPTY_SHA256 });
  });

  test("an erased opening is counted, and no problem", async () => {
    const { log } = await Victim.create();
    await db.superuser.query(
      "delete from tallystick.openings where log_id = $1 and (seq = 10 or seq = 20 and pointer = '/event/context/ip')",
      [log.logId],
    );
    expect(await reportOf(db, log)).toMatchObject({ ok: true, erased: 3 });
  });

  test("is not disturbed by entries that arrive meanwhile", async () => {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database);
    let writing = true;
    const writer = (async () => {
      for (let i = 0; writing; i++)
        await append(
          sequencer,
          log,
          Array.from({ length: 1 + (i % 50) }, (_, j) => event(j)),
        );
    })();
    for (let round = 0; round < 20; round++) await checkLog(db.database, log);
    writing = false;
    await writer;
    await checkLog(db.database, log);
  });

  test("goes on around a row that PostgreSQL cannot read", async () => {
    const { log, rows } = await Victim.create();
    const report = await verifyLog(
      (work) =>
        db.database.read(log.tenantId, (client) =>
          work(
            new Proxy(client, {
              get: (target, name) => {
                if (name !== "query") return Reflect.get(target, name, target);
                return (query: { text?: string; callback?: (error: unknown) => void }, ...rest: unknown[]) => {
                  const [, from, to] = /e\.seq >= (\d+) and e\.seq < (\d+)/.exec(query.text ?? "") ?? [];
                  if (query.callback !== undefined && Number(from) <= 33 && 33 < Number(to)) {
                    return query.callback(
                      Object.assign(new Error("missing chunk number 0 for toast value 16400"), { code: "XX001" }),
                    );
                  }
                  return (target.query as (...all: unknown[]) => unknown).call(target, query, ...rest);
                };
              },
            }),
          ),
        ),
      log,
    );
    expect(report).toMatchObject({
      ok: false,
      checked: SIZE - 1,
      problems: [{ seq: 33, kind: "unreadable", detail: expect.stringContaining("missing chunk") }],
    });
    expect(rows[33]!.seq).toBe(33);
  });

  test("lists 1,000 problems and says how many more there are", async () => {
    const victim = await Victim.create();
    await victim.set("entries", "true", "action = 'x', terms = '{}'");
    const { problems } = await reportOf(db, victim.log);
    expect(problems.length).toBe(1_001);
    expect(problems.at(-1)).toMatchObject({ seq: null, kind: "more", detail: expect.stringMatching(/^200 more/) });
  });

  test("takes of an entry of another version only its bytes and its place in the tree", async () => {
    // The one way to get such an entry now is to write it: leaf, chain and head of a log of one entry.
    const other = await db.tenant();
    const log = await db.tenant();
    await append(testSequencer(db.database), log, [event(0)]);
    const [row] = await db.as<{ leaf: string }>(
      "postgres",
      `select leaf from tallystick.entries where log_id = ${log.logId} and seq = 0`,
    );
    const leaf = row!.leaf
      .replace(/"v":1}$/, '"v":2}')
      .replace(/^{"event":{.*},"id"/, '{"event":{"shape":"unknown"},"id"');
    const root = toHex(leafHash(leaf));
    await db.superuser.query(
      `insert into tallystick.entries (seq, recorded_at, tenant_id, id, log_id, columns_version, leaf_hash, terms, action, leaf)
       select 0, recorded_at, $2, id, $3, 7, decode($4, 'hex'), '{}', '', $5 from tallystick.entries where log_id = $1 and seq = 0`,
      [log.logId, other.tenantId, other.logId, root, leaf],
    );
    await db.superuser.query(
      `insert into tallystick.heads (log_id, size, tenant_id, recorded_at, root)
       select $2, 1, $3, recorded_at, decode($4, 'hex') from tallystick.entries where log_id = $1 and seq = 0`,
      [log.logId, other.logId, other.tenantId, root],
    );
    await db.superuser.query(
      "insert into tallystick.service_heads (log_id, service_id, seq, tenant_id, leaf_hash) values ($1, 'service-0', 0, $2, decode($3, 'hex'))",
      [other.logId, other.tenantId, root],
    );
    expect(await reportOf(db, other)).toMatchObject({ ok: true, size: 1, root, checked: 1 });
  });

  test("with a service checks its chain alone", async () => {
    const victim = await Victim.create();
    const verify = (serviceId: string) =>
      verifyLog((work) => db.database.read(victim.log.tenantId, work), victim.log, { serviceId });
    expect(await verify("service-1")).toMatchObject({ ok: true, size: SIZE, checked: SIZE / 3 });
    await victim.set("entries", "seq = 10", REHASH); // of service-1
    expect(await verify("service-0")).toMatchObject({ ok: true, checked: SIZE / 3 });
    expect((await verify("service-1")).problems).toMatchObject([
      {
        ...at(victim, 10),
        kind: "chain",
        field: "leaf_hash",
        stored: victim.forgedHash(10),
        expected: victim.rows[10]!.hash,
      },
    ]);
    await victim.remove("entries", "seq = 20"); // of service-2
    expect((await verify("service-2")).problems).toMatchObject([
      { ...at(victim, 23), kind: "chain", field: "service.seq", stored: "7", expected: "6" },
    ]);
    expect(await verify("nobody")).toMatchObject({ ok: true, checked: 0 });
  });

  test("ends when it is told to", async () => {
    const { log } = await Victim.create();
    const reason = new Error("enough");
    await expect(
      verifyLog((work) => db.database.read(log.tenantId, work), log, { signal: AbortSignal.abort(reason) }),
    ).rejects.toBe(reason);
  });
});

describe("verifyDatabase()", () => {
  test("reports on every log, and tells how far it is", async () => {
    const { log } = await Victim.create();
    const seen: unknown[] = [];
    const reports = [];
    for await (const report of verifyDatabase(db.url("tallystick_auditor"), {
      onProgress: (progress) => seen.push(progress),
    }))
      reports.push(report);
    const { rows } = await db.superuser.query<{ name: string }>("select name from tallystick.logs order by id");
    expect(reports.map((report) => report.log)).toEqual(rows.map(({ name }) => name));
    expect(seen).toContainEqual({ log: log.name, checked: SIZE, size: SIZE });
  });

  test("refuses a tenant that is not there", async () => {
    await expect(verifyDatabase(db.url(), { tenant: "nobody" }).next()).rejects.toThrow(UnknownTenantError);
  });
});
