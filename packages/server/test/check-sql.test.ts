import { createHmac } from "node:crypto";
import { toHex } from "@tallystick/core/hex";
import { leafHash } from "@tallystick/core/tree";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SERVER_ROLES } from "../src/db/prepare.ts";
import type { TenantLog } from "../src/log/tenants.ts";
import { append, checkLog, TestDatabase, type TestEvent, testSequencer } from "../src/testing/log.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await TestDatabase.create();
});
afterAll(() => db.close());

// Two full tiles and a tail; six commits; three services.
const SIZE = 600;
const COMMIT = 100;

function event(i: number): TestEvent {
  return {
    action: `order.update${i}`,
    actor: {
      id: `user-${i}`,
      ...(i % 10 === 0 && { email: `user-${i}@example.com`, name: 'Zoë "Z" \\ 🙂' }),
      ...(i % 7 === 0 && {
        on_behalf_of: { id: "boss", on_behalf_of: { id: "board", type: "service" as const, name: "Böard" } },
      }),
      ...(i % 4 === 0 && { type: "service" as const }),
    },
    ...(i % 3 !== 0 && { resource: { type: "order", id: `order-${i}` } }),
    ...(i % 5 === 0 && {
      related: [
        { type: "order", id: `order-${i}` },
        { type: "cart", id: `cart/${i}` },
      ],
    }),
    description: `what happened at ${i}`,
    ...(i % 2 === 0 && { occurred_at: i === 2 ? "0001-01-01T00:00:00.000001Z" : "2024-02-29T12:00:00.123456Z" }),
    ...(i % 6 === 0 && {
      outcome: i % 12 === 0 ? ("success" as const) : ("denied" as const),
      severity: "CRITICAL" as const,
    }),
    ...(i % 9 === 0 && { operation: "UPDATE" as const, event_type: "Bestellung.geändert" }),
    metadata: { text: "\u2028 \u0001 \\u0000 {}", number: 1e300, small: 5e-324, nested: [[{}], null, true] },
    service_id: `service-${i % 3}`,
    context: {
      ...(i % 10 === 0 && { ip: "192.0.2.7" }),
      request_id: `request-${i}`,
      session_id: i % 8 === 0 ? `request-${i}` : "session",
      trace_id: `trace ${i}`,
    },
  };
}

interface Row {
  readonly seq: number;
  readonly id: string;
  readonly recordedAt: string;
  readonly leaf: string;
  readonly hash: string;
}

interface Finding {
  readonly tenant: string;
  readonly seq: string | null;
  readonly id: string | null;
  readonly field: string;
  readonly stored: string | null;
  readonly expected: string | null;
  readonly detail: string;
  readonly next: string;
}

/** What a check says, to the auditor. */
function check(call: string): Promise<Finding[]> {
  return db.as<Finding & Record<string, unknown>>("tallystick_auditor", `select * from tallystick.${call}`);
}

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
      const events = Array.from({ length: COMMIT }, (_, i) => event(first + i));
      await append(sequencer, log, events);
    }
    const { rows } = await db.superuser.query<Row>(
      `select seq::float8 as seq, id, to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "recordedAt",
         leaf, encode(leaf_hash, 'hex') as hash
       from tallystick.entries where log_id = $1 order by seq`,
      [log.logId],
    );
    return new Victim(log, rows);
  }

  async set(table: string, where: string, change: string): Promise<void> {
    const changed = await db.tamper(
      `update tallystick.${table} set ${change} where log_id = ${this.log.logId} and ${where}`,
    );
    expect(changed).toBeGreaterThan(0);
  }

  async remove(table: string, where: string): Promise<void> {
    const removed = await db.tamper(`delete from tallystick.${table} where log_id = ${this.log.logId} and ${where}`);
    expect(removed).toBeGreaterThan(0);
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
}

const FORGED = (leaf: string) => leaf.replace("what happened", "what HAPPENED");
const FORGE = "leaf = replace(leaf, 'what happened', 'what HAPPENED')";
const REHASH = `${FORGE}, leaf_hash = sha256('\\x00'::bytea || convert_to(replace(leaf, 'what happened', 'what HAPPENED'), 'UTF8'))`;
const EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const NOBODY = "00000000-0000-4000-8000-000000000000";

const CHECKS = ["check_leaf_hashes", "check_tree", "check_service_chains", "check_columns", "check_openings"] as const;

/** All that each check says; those that are not named say nothing. */
type Named = { readonly [name in (typeof CHECKS)[number]]?: readonly Partial<Finding>[] };

interface Tampering {
  readonly name: string;
  readonly tamper: (victim: Victim) => Promise<unknown>;
  readonly named: (victim: Victim) => Named | Promise<Named>;
}

/** The finding of an entry. */
const at = ({ rows }: Victim, seq: number) => ({ seq: `${seq}`, id: rows[seq]!.id });

const TREE_GONE = [{ field: "heads.root", detail: expect.stringContaining("cannot be recomputed") }];
const missing = (seq: number) => ({ seq: `${seq}`, id: null, field: "seq", stored: null, expected: `${seq}` });

const TAMPERINGS: readonly Tampering[] = [
  {
    name: "one byte of a leaf",
    tamper: (victim) => victim.set("entries", "seq = 10", FORGE),
    named: (victim) => ({
      check_leaf_hashes: [
        { ...at(victim, 10), field: "leaf_hash", stored: victim.rows[10]!.hash, expected: forgedHash(victim, 10) },
      ],
    }),
  },
  {
    name: "a leaf_hash",
    tamper: (victim) => victim.set("entries", "seq = 10", "leaf_hash = sha256('')"),
    named: (victim) => ({
      check_leaf_hashes: [
        { ...at(victim, 10), field: "leaf_hash", stored: EMPTY_SHA256, expected: victim.rows[10]!.hash },
      ],
      check_tree: expect.arrayContaining([
        expect.objectContaining({
          seq: "10",
          field: "tiles.data",
          stored: victim.rows[10]!.hash,
          expected: EMPTY_SHA256,
        }),
      ]),
      check_service_chains: [
        { ...at(victim, 13), field: "service.prev", stored: victim.rows[10]!.hash, expected: EMPTY_SHA256 },
      ],
    }),
  },
  {
    name: "a leaf with its leaf_hash, in a full tile",
    tamper: (victim) => victim.set("entries", "seq = 10", REHASH),
    named: async (victim) => ({
      check_tree: expect.arrayContaining(
        [
          {
            ...at(victim, 99),
            field: "heads.root",
            stored: await victim.stored("heads", "encode(root, 'hex')", "size = 100"),
          },
          { seq: "10", field: "tiles.data", stored: victim.rows[10]!.hash, expected: forgedHash(victim, 10) },
          { ...at(victim, 599), field: "heads.root" },
        ].map((finding) => expect.objectContaining(finding)),
      ),
      check_service_chains: [
        { ...at(victim, 13), field: "service.prev", stored: victim.rows[10]!.hash, expected: forgedHash(victim, 10) },
      ],
    }),
  },
  {
    name: "the last leaf with its leaf_hash",
    tamper: (victim) => victim.set("entries", "seq = 599", REHASH),
    named: (victim) => ({
      check_tree: [{ ...at(victim, 599), field: "heads.root" }],
      check_service_chains: [
        {
          ...at(victim, 599),
          field: "service_heads.leaf_hash",
          stored: victim.rows[599]!.hash,
          expected: forgedHash(victim, 599),
        },
      ],
    }),
  },
  ...[
    ["no JSON", "gone"],
    ["JSON that is no leaf", "[null]"],
    ["a leaf whose position is no number", `{"v":1,"seq":"10"}`],
  ].map(
    ([name, leaf]): Tampering => ({
      name: `a leaf that is ${name}`,
      tamper: (victim) => victim.set("entries", "seq = 10", `leaf = '${leaf}'`),
      named: (victim) => ({
        check_leaf_hashes: [{ ...at(victim, 10), field: "leaf_hash", expected: toHex(leafHash(leaf!)) }],
        check_service_chains: [{ ...at(victim, 13), field: "service.seq", stored: "4", expected: "3" }],
        check_columns: [{ ...at(victim, 10), field: "leaf", stored: leaf! }],
      }),
    }),
  ),
  ...[
    ["occurred_at", "'0001-01-01T00:00:00.000001Z'", "0001-01-01T00:00:00.000001Z", "2024-02-29T12:00:00.123456Z"],
    [
      "occurred_at",
      "'0001-01-01 00:00:00.000001+00 BC'",
      "0001-01-01 00:00:00.000001 BC",
      "2024-02-29T12:00:00.123456Z",
    ],
    ["occurred_at", "'infinity'", "infinity", "2024-02-29T12:00:00.123456Z"],
    ["occurred_at", "null", null, "2024-02-29T12:00:00.123456Z"],
    ["action", "'order.view'", "order.view", "order.update10"],
    ["tenant_id", `'${NOBODY}'`, NOBODY, undefined],
    ["columns_version", "99", "99", "1"],
    ["terms", "'{}'", "{}", undefined],
    ["terms", "terms[2:]", undefined, undefined],
  ].map(
    ([field, value, stored, expected]): Tampering => ({
      name: `${field} = ${value}`,
      tamper: (victim) => victim.set("entries", "seq = 10", `${field} = ${value}`),
      named: async (victim) => ({
        check_columns: [
          {
            ...at(victim, 10),
            field: field!,
            ...(stored !== undefined && { stored }),
            ...(expected !== undefined && { expected }),
            ...(field === "tenant_id" && { expected: victim.log.tenantId }),
            ...(field === "terms" && {
              expected: expect.stringContaining(
                (
                  await db.as<{ term: string }>(
                    "postgres",
                    `select tallystick.term(${victim.log.logId}, 'action', 'order.update10', 10)::text as term`,
                  )
                )[0]!.term,
              ),
            }),
          },
        ],
      }),
    }),
  ),
  {
    name: "id",
    tamper: (victim) => victim.set("entries", "seq = 10", `id = '${NOBODY}'`),
    named: (victim) => ({
      check_columns: [{ seq: "10", id: NOBODY, field: "id", stored: NOBODY, expected: victim.rows[10]!.id }],
    }),
  },
  {
    name: "recorded_at",
    tamper: (victim) => victim.set("entries", "seq = 10", "recorded_at = recorded_at - interval '1 second'"),
    named: (victim) => ({
      check_leaf_hashes: [{ ...at(victim, 10), field: "recorded_at" }],
      check_tree: expect.arrayContaining([expect.objectContaining({ field: "heads.size", expected: "10" })]),
      check_columns: [{ ...at(victim, 10), field: "recorded_at", expected: victim.rows[10]!.recordedAt }],
      check_openings: [10, 10, 10].map((seq) => ({ ...at(victim, seq), field: "recorded_at" })),
    }),
  },
  {
    name: "seq: an entry moved onto another",
    tamper: (victim) => victim.set("entries", "seq = 11", "seq = 150"),
    named: (victim) => ({
      check_leaf_hashes: [
        missing(11),
        { seq: "150", id: victim.rows[11]!.id, field: "recorded_at", stored: victim.rows[11]!.recordedAt },
        { ...at(victim, 150), field: "seq", stored: "150" },
      ],
      check_tree: TREE_GONE,
      check_service_chains: expect.anything(),
      check_columns: [{ seq: "150", id: victim.rows[11]!.id, field: "seq", stored: "150", expected: "11" }],
      check_openings: expect.anything(),
    }),
  },
  {
    name: "an entry taken away",
    tamper: (victim) => victim.remove("entries", "seq = 33"),
    named: (victim) => ({
      check_leaf_hashes: [missing(33)],
      check_tree: TREE_GONE,
      check_service_chains: [{ ...at(victim, 36), field: "service.seq", stored: "12", expected: "11" }],
    }),
  },
  {
    name: "the last entry taken away",
    tamper: (victim) => victim.remove("entries", "seq = 599"),
    named: (victim) => ({
      check_leaf_hashes: [missing(599)],
      check_tree: TREE_GONE,
      check_service_chains: expect.arrayContaining([
        expect.objectContaining({ seq: null, field: "service_heads", stored: victim.rows[599]!.hash, expected: null }),
      ]),
    }),
  },
  {
    name: "an entry put behind the end",
    tamper: (victim) => victim.copy("entries", "seq = 599", { seq: "600" }),
    named: (victim) => ({
      check_leaf_hashes: [{ seq: "600", id: victim.rows[599]!.id, field: "seq", stored: "600", expected: null }],
      check_columns: [{ seq: "600", field: "seq", stored: "600", expected: "599" }],
    }),
  },
  {
    name: "a second row for a position",
    tamper: (victim) => victim.copy("entries", "seq = 33", { recorded_at: "recorded_at + interval '1 microsecond'" }),
    named: (victim) => ({
      check_leaf_hashes: [{ ...at(victim, 33), field: "seq", stored: "33" }],
      check_service_chains: expect.arrayContaining([
        expect.objectContaining({ ...at(victim, 33), field: "service.seq" }),
      ]),
      check_columns: [{ ...at(victim, 33), field: "recorded_at", expected: victim.rows[33]!.recordedAt }],
    }),
  },
  {
    name: "a byte of a tile",
    tamper: (victim) =>
      victim.set("tiles", "level = 0 and index = 0", "data = set_byte(data, 32 * 7, get_byte(data, 32 * 7) # 1)"),
    named: (victim) => ({ check_tree: [{ seq: "7", field: "tiles.data", expected: victim.rows[7]!.hash }] }),
  },
  {
    name: "the root of a tile",
    tamper: (victim) => victim.set("tiles", "level = 0 and index = 1", "root = sha256('')"),
    named: () => ({ check_tree: [{ seq: null, field: "tiles.root", stored: EMPTY_SHA256 }] }),
  },
  {
    name: "a tile's tenant",
    tamper: (victim) => victim.set("tiles", "level = 0 and index = 1", `tenant_id = '${NOBODY}'`),
    named: (victim) => ({
      check_tree: [{ seq: null, field: "tiles.tenant_id", stored: NOBODY, expected: victim.log.tenantId }],
    }),
  },
  {
    name: "a tile taken away",
    tamper: (victim) => victim.remove("tiles", "level = 0 and index = 0"),
    named: () => ({
      check_tree: [{ field: "tiles", stored: null, detail: expect.stringMatching(/^tile 0\/0 .* missing/) }],
    }),
  },
  {
    name: "a tile put behind the end",
    tamper: (victim) => victim.copy("tiles", "level = 0 and index = 0", { index: "2" }),
    named: () => ({ check_tree: [{ field: "tiles", stored: "0/2", expected: null }] }),
  },
  {
    name: "the root of a head",
    tamper: (victim) => victim.set("heads", "size = 200", "root = sha256('')"),
    named: (victim) => ({ check_tree: [{ ...at(victim, 199), field: "heads.root", stored: EMPTY_SHA256 }] }),
  },
  {
    name: "the root of the newest head",
    tamper: (victim) => victim.set("heads", "size = 600", "root = sha256('')"),
    named: (victim) => ({ check_tree: [{ ...at(victim, 599), field: "heads.root", stored: EMPTY_SHA256 }] }),
  },
  {
    name: "the root of the empty log",
    tamper: (victim) => victim.set("heads", "size = 0", "root = sha256('x')"),
    named: () => ({ check_tree: [{ seq: null, field: "heads.root", expected: EMPTY_SHA256 }] }),
  },
  {
    name: "the time and the tenant of a head",
    tamper: (victim) =>
      victim.set("heads", "size = 200", `recorded_at = recorded_at - interval '1 second', tenant_id = '${NOBODY}'`),
    named: (victim) => ({
      check_tree: [
        { ...at(victim, 199), field: "heads.recorded_at", expected: victim.rows[199]!.recordedAt },
        { ...at(victim, 199), field: "heads.tenant_id", stored: NOBODY, expected: victim.log.tenantId },
      ],
    }),
  },
  ...[
    ["root", "root = sha256('')", EMPTY_SHA256],
    ["note", "note = replace(note, '200', '199')", "\n199\n"],
  ].map(
    ([field, change, stored]): Tampering => ({
      name: `the ${field} of a checkpoint`,
      tamper: async (victim) => {
        await db.superuser.query(
          `insert into tallystick.checkpoints (log_id, size, tenant_id, root, note)
           select log_id, size, tenant_id, root, format(E'%s\\n%s\\n%s\\n\\n— key signature\\n', $2::text, size, encode(root, 'base64'))
           from tallystick.heads where log_id = $1 and size > 0`,
          [victim.log.logId, victim.log.name],
        );
        expect(await check(`check_tree('${victim.log.slug}')`)).toEqual([]);
        await victim.set("checkpoints", "size = 200", change!);
      },
      named: async (victim) => ({
        check_tree: [
          {
            seq: "199",
            field: `checkpoints.${field}`,
            stored: expect.stringContaining(stored!),
            ...(field === "root" && { expected: await victim.stored("heads", "encode(root, 'hex')", "size = 200") }),
          },
        ],
      }),
    }),
  ),
  {
    name: "a head in the middle taken away",
    tamper: (victim) => victim.remove("heads", "size = 200"),
    named: (victim) => ({ check_tree: [{ ...at(victim, 200), field: "heads.size", stored: null, expected: "200" }] }),
  },
  {
    name: "the newest head taken away",
    tamper: (victim) => victim.remove("heads", "size = 600"),
    named: () => ({
      check_leaf_hashes: Array.from({ length: 100 }, (_, i) => ({ seq: `${500 + i}`, field: "seq", expected: null })),
      check_tree: [{ field: "tiles", stored: "0/1" }],
      check_service_chains: expect.anything(),
    }),
  },
  {
    name: "a service head's hash and tenant",
    tamper: (victim) =>
      victim.set(
        "service_heads",
        "service_id = 'service-2' and seq = 65",
        `leaf_hash = sha256(''), tenant_id = '${NOBODY}'`,
      ),
    named: (victim) => ({
      check_service_chains: [
        {
          ...at(victim, 197),
          field: "service_heads.leaf_hash",
          stored: EMPTY_SHA256,
          expected: victim.rows[197]!.hash,
        },
        { ...at(victim, 197), field: "service_heads.tenant_id", stored: NOBODY, expected: victim.log.tenantId },
      ],
    }),
  },
  {
    name: "the newest service head taken away",
    tamper: (victim) => victim.remove("service_heads", "service_id = 'service-0' and seq = 199"),
    named: (victim) => ({
      check_service_chains: [
        { ...at(victim, 597), field: "service_heads", stored: null, expected: victim.rows[597]!.hash },
      ],
    }),
  },
  {
    name: "a service head of nobody",
    tamper: (victim) =>
      victim.copy("service_heads", "service_id = 'service-0' and seq = 199", { service_id: "'unheard of'" }),
    named: (victim) => ({
      check_service_chains: [
        {
          seq: null,
          field: "service_heads",
          stored: victim.rows[597]!.hash,
          detail: expect.stringContaining('"unheard of"'),
        },
      ],
    }),
  },
  ...[
    ["value", `value = '"mallory@example.com"'`],
    ["value", "value = '{'"],
    ["value", "value = '7'"],
    ["salt", "salt = set_byte(salt, 0, get_byte(salt, 0) # 128)"],
  ].map(
    ([field, change]): Tampering => ({
      name: `an opening: ${change}`,
      tamper: (victim) => victim.set("openings", "seq = 10 and pointer = '/event/actor/email'", change!),
      named: (victim) => ({
        check_openings: [{ ...at(victim, 10), field: field!, expected: commitment(victim, 10) }],
      }),
    }),
  ),
  {
    name: "an opening's term, tenant and time",
    tamper: (victim) =>
      victim.set(
        "openings",
        "seq = 10 and pointer = '/event/actor/email'",
        `term = 7, tenant_id = '${NOBODY}', recorded_at = recorded_at + interval '1 month'`,
      ),
    named: (victim) => ({
      check_openings: [
        { ...at(victim, 10), field: "term", stored: "7" },
        { ...at(victim, 10), field: "recorded_at", expected: victim.rows[10]!.recordedAt },
        { ...at(victim, 10), field: "tenant_id", stored: NOBODY, expected: victim.log.tenantId },
      ],
    }),
  },
  {
    name: "an opening's pointer",
    tamper: (victim) =>
      victim.set("openings", "seq = 10 and pointer = '/event/actor/email'", "pointer = '/event/action'"),
    named: (victim) => ({
      check_openings: [{ ...at(victim, 10), field: "pointer", stored: "/event/action", expected: null }],
    }),
  },
  {
    name: "an opening of no entry",
    tamper: (victim) => victim.copy("openings", "seq = 10 and pointer = '/event/actor/email'", { seq: "1000000" }),
    named: () => ({ check_openings: [{ seq: "1000000", id: null, field: "seq" }] }),
  },
];

function forgedHash({ rows }: Victim, seq: number): string {
  return toHex(leafHash(FORGED(rows[seq]!.leaf)));
}

function commitment({ rows }: Victim, seq: number): string {
  return (JSON.parse(rows[seq]!.leaf) as { event: { actor: { email: { $committed: string } } } }).event.actor.email
    .$committed;
}

describe("on a good log", () => {
  test("nothing is found, by any of its names", async () => {
    const { log } = await Victim.create();
    await checkLog(db.database, log);
    for (const name of [log.name, log.slug, `${log.logId}`, log.tenantId]) {
      expect(await check(`check_log('${name}')`)).toEqual([]);
    }
    expect(await check(`check_leaf_hashes('${log.slug}', 10, 20)`)).toEqual([]);
    expect(await check(`check_service_chains('${log.slug}', 'service-1')`)).toEqual([]);
    expect(await check("check_log('default')")).toEqual([]);
  });

  test("erased values are none of it", async () => {
    const victim = await Victim.create();
    await db.superuser.query(`delete from tallystick.openings where log_id = ${victim.log.logId} and seq < 300`);
    expect(await check(`check_log('${victim.log.slug}')`)).toEqual([]);
  });

  test("the same commits in single entries, across the edge of a tile", async () => {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database);
    for (let i = 0; i < 260; i++) await append(sequencer, log, [event(i)]);
    expect(await check(`check_log('${log.slug}')`)).toEqual([]);
  });

  test("a log or a service that is not there is an error, and no clean bill", async () => {
    const { log } = await Victim.create();
    await expect(check("check_log('nobody')")).rejects.toThrow('no log and no tenant "nobody"');
    await expect(check(`check_service_chains('${log.slug}', 'ordres')`)).rejects.toThrow("ordres");
  });
});

describe("names what a superuser changed", () => {
  test.each(TAMPERINGS)("$name", async ({ tamper, named }) => {
    const victim = await Victim.create();
    await tamper(victim);
    const expected = await named(victim);
    const all: Finding[] = [];
    for (const name of CHECKS) {
      const found = await check(`${name}('${victim.log.slug}')`);
      all.push(...found);
      expect(found, name).toMatchObject((expected[name] ?? []) as object);
      for (const { tenant, detail, next } of found) {
        expect(tenant).toBe(victim.log.slug);
        expect(detail).toMatch(/./);
        // What is to be run next runs.
        await db.as("tallystick_auditor", next);
      }
    }
    expect(all).not.toEqual([]);
    expect(await check(`check_log('${victim.log.slug}')`)).toEqual(all);
  });

  test("a protection that was switched off", async () => {
    const other = await TestDatabase.create();
    try {
      await other.superuser.query("alter table tallystick.heads disable trigger heads_append_only");
      expect(await other.as("tallystick_auditor", "select * from tallystick.check_log('default')")).toMatchObject([
        { tenant: "default", field: "heads", detail: expect.stringContaining("heads_append_only") },
      ]);
    } finally {
      await other.close();
    }
  });
});

test("hmac_sha256() is RFC 2104's, for keys shorter and longer than a block", async () => {
  for (const size of [0, 1, 16, 32, 63, 64, 65, 131]) {
    const key = Buffer.from(Array.from({ length: size }, (_, i) => (i * 37 + 0x80) & 0xff));
    const message = Buffer.from(`message of ${size}`);
    const { rows } = await db.superuser.query<{ mac: string }>(
      "select encode(tallystick.hmac_sha256($1, $2), 'hex') as mac",
      [key, message],
    );
    expect(rows[0]!.mac).toBe(createHmac("sha256", key).update(message).digest("hex"));
  }
});

test("nobody but the auditor and the owner may run them", async () => {
  for (const role of SERVER_ROLES) {
    const outcome = await db.as(role, "select * from tallystick.check_log('default')").then(
      () => "done",
      (error: { code?: string }) => error.code,
    );
    expect([role, outcome]).toEqual([
      role,
      role === "tallystick_auditor" || role === "tallystick_owner" ? "done" : "42501",
    ]);
  }
});
