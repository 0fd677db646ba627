import { signCheckpoint } from "@tallystick/core/checkpoint";
import { parsePublicKeyPem } from "@tallystick/core/public-key";
import { noteSigner } from "@tallystick/core/verifier-key";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SERVER_ROLES } from "../src/db/prepare.ts";
import { termHash } from "../src/log/columns.ts";
import type { TenantLog } from "../src/log/tenants.ts";
import { PublisherKeys } from "../src/publisher/publisher-keys.ts";
import { Publishers } from "../src/publisher/publishers.ts";
import { indexLog } from "../src/testing/indexing.ts";
import { append, checkLog, TestDatabase, type TestRole, testSequencer } from "../src/testing/log.ts";
import { TestPublisher } from "../src/testing/publisher.ts";

let db: TestDatabase;
let ours: TenantLog;
let theirs: TenantLog;
beforeAll(async () => {
  db = await TestDatabase.create();
  [ours, theirs] = [await db.tenant("ours"), await db.tenant("theirs")];
  const sequencer = testSequencer(db.database);
  for (const log of [ours, theirs]) {
    const events = Array.from({ length: 300 }, (_, i) => ({
      action: "a.b",
      actor: { id: `user-${i}`, email: "a@example.com" },
      idempotency_key: `key-${i}`,
    }));
    await append(sequencer, log, events);
    const keys = new PublisherKeys({ database: db.database, sequencer, publishers: new Publishers(db.database) });
    const publicKey = parsePublicKeyPem(new TestPublisher().pem);
    await keys.register(log, { actor: { id: "operator" } }, { serviceId: "orders", publicKey });
    await keys.setSignedOnly(log, { actor: { id: "operator" } }, "orders", true);
    await indexLog(db.database, log);
    await db.superuser.query(
      "insert into tallystick.text_openings_due (log_id, segment, tenant_id) values ($1, 0, $2)",
      [log.logId, log.tenantId],
    );
  }
  const seed = new Uint8Array(32).fill(1);
  await db.superuser.query("insert into tallystick.log_keys (public_key) values ($1)", [
    Buffer.from(noteSigner("key", seed).key.publicKey),
  ]);
  for (const { tenantId, logId, name } of [ours, theirs]) {
    const heads = await db.superuser.query<{ size: string; root: Buffer }>(
      "select size, root from tallystick.heads where log_id = $1",
      [logId],
    );
    for (const { size, root } of heads.rows) {
      const note = signCheckpoint({ origin: name, size: Number(size), root }, [noteSigner(name, seed)]);
      await db.superuser.query(
        "insert into tallystick.checkpoints (log_id, size, tenant_id, root, note) values ($1, $2, $3, $4, $5)",
        [logId, size, tenantId, root, note],
      );
    }
    await db.superuser.query(
      `select tallystick.keep_cosignature(log_id, size, 'witness+00000000', '— witness AAAAAAA=', now()) from tallystick.checkpoints where log_id = $1`,
      [logId],
    );
    await db.superuser.query("insert into tallystick.verifications (tenant_id, log_id) values ($1, $2)", [
      tenantId,
      logId,
    ]);
    await db.superuser.query(
      "insert into tallystick.api_keys (tenant_id, name, prefix, secret_hash, scopes) values ($1::uuid, 'k', 'p', sha256(convert_to($1::uuid::text, 'UTF8')), '{read}')",
      [tenantId],
    );

    await db.superuser.query(
      "insert into tallystick.client_certificates (tenant_id, name, san, scopes) values ($1::uuid, 'c', 'URI:' || $1::uuid, '{read}')",
      [tenantId],
    );
  }
});
afterAll(async () => {
  for (const log of [ours, theirs]) await checkLog(db.database, log);
  await db.close();
});

const ROLES: readonly TestRole[] = [...SERVER_ROLES, "postgres"];
const AS_REPLICA = "set session_replication_role = replica";

/** Tables whose rows never change, a column of each, and its primary key. */
const APPEND_ONLY = {
  installation: { column: "origin", key: "singleton" },
  logs: { column: "name", key: "id" },
  heads: { column: "root", key: "log_id, size" },
  service_heads: { column: "leaf_hash", key: "log_id, service_id, seq" },
  tiles: { column: "data", key: "log_id, level, index" },
  entries: { column: "leaf", key: "log_id, seq, recorded_at" },
  log_keys: { column: "public_key", key: "singleton" },
  checkpoints: { column: "note", key: "log_id, size" },
  cosignatures: { column: "line", key: "log_id, size, witness" },
  text_segments: { column: "text", key: "log_id, segment" },
} as const;

async function tablesOf(parent: string): Promise<string[]> {
  const { rows } = await db.superuser.query<{ name: string }>(
    "select relid::text as name from pg_partition_tree($1::regclass)",
    [`tallystick.${parent}`],
  );
  return rows.length === 0 ? [`tallystick.${parent}`] : rows.map(({ name }) => name);
}

/** Statements that change or remove rows, each a way of its own to get there. */
function changes(table: string, { column, key }: { column: string; key: string }): Record<string, string> {
  return {
    update: `update ${table} set ${column} = ${column}`,
    "update of no row": `update ${table} set ${column} = ${column} where false`,
    delete: `delete from ${table}`,
    "delete of no row": `delete from ${table} where false`,
    truncate: `truncate ${table} cascade`,
    upsert: `insert into ${table} select * from ${table} on conflict (${key}) do update set ${column} = excluded.${column}`,
    "merge that updates": `merge into ${table} t using (select 1) s on true when matched then update set ${column} = t.${column}`,
    "merge that deletes": `merge into ${table} t using (select 1) s on true when matched then delete`,
  };
}

describe("the database refuses to change what is recorded", () => {
  test.each(Object.keys(APPEND_ONLY) as (keyof typeof APPEND_ONLY)[])(
    "%s and its partitions, for every role",
    async (table) => {
      const tables = await tablesOf(table);
      expect(tables.length).toBeGreaterThanOrEqual(table === "entries" ? 3 : 1);
      for (const name of tables) {
        for (const [way, statement] of Object.entries(changes(name, APPEND_ONLY[table]))) {
          // A generated column or a view in between must not be what refuses: only rights and our trigger count.
          const own =
            way === "upsert" && table === "logs"
              ? statement.replace("select * from", "overriding system value select * from")
              : statement;
          for (const role of ROLES) await expectRefused(role, [own]);
          await expectRefused("postgres", [AS_REPLICA, own]);
        }
      }
    },
  );

  test("openings: nothing but DELETE, and that for the superuser and the owner", async () => {
    for (const name of await tablesOf("openings")) {
      const { update, truncate, upsert } = changes(name, { column: "value", key: "log_id, seq, pointer, recorded_at" });
      for (const statement of [
        update!,
        truncate!,
        upsert!,
        `merge into ${name} t using (select 1) s on true when matched then update set value = t.value`,
      ]) {
        for (const role of ROLES) await expectRefused(role, [statement]);
        await expectRefused("postgres", [AS_REPLICA, statement]);
      }
      for (const role of SERVER_ROLES.filter((name) => name !== "tallystick_owner"))
        await expectRefused(role, [`delete from ${name}`]);
      await expect(db.as("postgres", "begin", `delete from ${name}`, "rollback")).resolves.toBeDefined();
    }
  });

  test("tenants are not deleted, with their log or without", async () => {
    await db.superuser.query("insert into tallystick.tenants (slug, name) values ('without-log', 'x')");
    for (const role of ROLES) {
      await expectRefused(role, ["delete from tallystick.tenants where slug = 'without-log'"]);
      await expectRefused(role, ["truncate tallystick.tenants cascade"]);
    }
    await expectRefused("postgres", [AS_REPLICA, "delete from tallystick.tenants"]);
  });

  test("the settings of services are changed by the server, and never deleted", async () => {
    const table = "tallystick.services";
    for (const statement of [`delete from ${table}`, `delete from ${table} where false`, `truncate ${table} cascade`]) {
      for (const role of ROLES) await expectRefused(role, [statement]);
      await expectRefused("postgres", [AS_REPLICA, statement]);
    }
  });

  test("publisher keys are not deleted, and nothing about one changes but that it ends sooner or is revoked", async () => {
    const table = "tallystick.publisher_keys";
    for (const statement of [
      `delete from ${table}`,
      `delete from ${table} where false`,
      `truncate ${table} cascade`,
      `merge into ${table} t using (select 1) s on true when matched then delete`,
      `update ${table} set public_key_pem = public_key_pem || 'x'`,
      `update ${table} set service_id = 'other'`,
      `update ${table} set valid_from = '2020-01-01'`,
      `update ${table} set id = gen_random_uuid()`,
    ]) {
      for (const role of ROLES) await expectRefused(role, [statement]);
      await expectRefused("postgres", [AS_REPLICA, statement]);
    }
    const asOurs = `select set_config('tallystick.tenant_id', '${ours.tenantId}', true)`;
    const end = `update ${table} set valid_to = '2100-01-01'`;
    const revoke = `update ${table} set revoked_at = now()`;
    const writer = (...statements: string[]) =>
      db.as<{ count: number }>(
        "tallystick_writer",
        "begin",
        asOurs,
        ...statements,
        `select count(*)::int from ${table}`,
      );
    expect(await writer(end, `update ${table} set valid_to = '2099-01-01'`, revoke)).toEqual([{ count: 1 }]);
    for (const after of [
      [end, `update ${table} set valid_to = null`],
      [end, `update ${table} set valid_to = '2101-01-01'`],
      [revoke, `update ${table} set revoked_at = null`],
      [revoke, `update ${table} set revoked_at = '2020-01-01'`],
    ]) {
      await expectRefused("tallystick_writer", ["begin", asOurs, ...after]);
      await expectRefused("postgres", [AS_REPLICA, "begin", ...after]);
    }
  });

  test("no foreign key cascades", async () => {
    const { rows } = await db.superuser.query(
      "select conname from pg_constraint where contype = 'f' and (confdeltype not in ('a', 'r') or confupdtype not in ('a', 'r'))",
    );
    expect(rows).toEqual([]);
  });

  test("a partition that is made later is protected like the first", async () => {
    const made = await db.as<{ make_partitions: string }>("tallystick_writer", "select tallystick.make_partitions(4)");
    expect(made.length).toBeGreaterThan(0);
    for (const { make_partitions: name } of made.filter((row) => row.make_partitions.startsWith("entries_"))) {
      for (const statement of Object.values(changes(`tallystick.${name}`, APPEND_ONLY.entries))) {
        await expectRefused("tallystick_owner", [statement]);
        await expectRefused("postgres", [AS_REPLICA, statement]);
      }
    }
    expect(await gaps()).toEqual([]);
  });
});

describe("roles", () => {
  test("none of the server's may become another, make anything, or bypass row-level security", async () => {
    const { rows } = await db.superuser.query(
      `select rolname from pg_roles where rolname like 'tallystick%'
       and (rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls or not rolcanlogin)`,
    );
    expect(rows).toEqual([]);
    for (const role of SERVER_ROLES.filter((name) => name !== "tallystick_owner")) {
      await expectRefused(role, ["set role tallystick_owner"]);
      await expectRefused(role, ["create table tallystick.mine (x int)"]);
      await expectRefused(role, ["alter table tallystick.entries disable trigger all"]);
      await expectRefused(role, ["drop table tallystick.entries"]);
      await expectRefused(role, [AS_REPLICA]);
      await expectRefused(role, ["select tallystick.attach_partition('tallystick.entries', 'x', now(), now())"]);
    }
    for (const role of ["tallystick_reader", "tallystick_auditor", "tallystick_retention"] as const) {
      for (const table of Object.keys(APPEND_ONLY))
        await expectRefused(role, [
          `insert into tallystick.${table} overriding system value select * from tallystick.${table}`,
        ]);
      await expectRefused(role, ["select tallystick.make_partitions(1)"]);
      await expectRefused(role, [`select * from tallystick.lock_logs('{${ours.logId}}')`]);
    }
  });

  test("nobody but the owner has rights on a partition itself", async () => {
    const { rows } = await db.superuser.query(
      `select c.relname from pg_class c join pg_inherits i on i.inhrelid = c.oid
       where c.relnamespace = 'tallystick'::regnamespace and c.relkind = 'r' and c.relacl is not null`,
    );
    expect(rows).toEqual([]);
  });
});

describe("row-level security", () => {
  test("is on, with a policy, for every table that has a tenant_id, their partitions and the tenants themselves", async () => {
    await db.database.query("select tallystick.make_partitions(3)"); // also for those that are made from now on
    const { rows } = await db.superuser.query<{
      name: string;
      enabled: boolean;
      partition: boolean;
      policies: string[] | null;
    }>(
      `select c.relname as name, c.relrowsecurity as enabled, c.relispartition as partition,
         (select array_agg(p.polcmd::text || ' ' || r.rolname order by 1) from pg_policy p join pg_roles r on r.oid = any (p.polroles) where p.polrelid = c.oid) as policies
       from pg_class c
       where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p') and (c.relname = 'tenants'
         or exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id'))`,
    );
    expect(rows.filter(({ partition }) => !partition).length).toBeGreaterThan(10);
    expect(rows.filter(({ partition }) => partition).length).toBeGreaterThan(10);
    for (const { name, enabled, policies } of rows) {
      expect({ name, enabled }).toEqual({ name, enabled: true });
      expect(policies, name).toEqual(
        expect.arrayContaining(["r tallystick_reader", "r tallystick_auditor", "a tallystick_writer"]),
      );
    }
  });

  test("holds for a partition that somebody has given rights on by mistake", async () => {
    const { rows } = await db.superuser.query<{ name: string }>(
      "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'tallystick.entries'::regclass",
    );
    const { rows: written } = await db.superuser.query<{ name: string }>(
      "select distinct tableoid::regclass::text as name from tallystick.entries",
    );
    for (const { name } of rows) await db.superuser.query(`grant select on ${name} to tallystick_reader`);
    for (const { name } of written) {
      const query = `select distinct tenant_id from ${name}`;
      expect(await db.as("tallystick_reader", query)).toEqual([]);
      const setTenant = `select set_config('tallystick.tenant_id', '${ours.tenantId}', true)`;
      expect(await db.as("tallystick_reader", "begin", setTenant, query)).toEqual([{ tenant_id: ours.tenantId }]);
    }
    for (const { name } of rows) await db.superuser.query(`revoke all on ${name} from tallystick_reader`);
    // As it was before: without any list of rights.
    await db.superuser.query(
      "update pg_class set relacl = null where oid in (select inhrelid from pg_inherits where inhparent = 'tallystick.entries'::regclass)",
    );
  });

  test("hides everything from a reader that names no tenant, and other tenants' rows from one that does", async () => {
    const { rows } = await db.superuser.query<{ name: string }>(
      `select c.oid::regclass::text as name from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
       where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by 1`,
    );
    const readable: string[] = [];
    for (const { name } of rows) {
      const count = `select count(*)::int as all, (count(*) filter (where tenant_id <> '${ours.tenantId}'))::int as others from ${name}`;
      expect((await db.as<{ others: number }>("postgres", count))[0]!.others, name).toBeGreaterThan(0);
      for (const role of ["tallystick_reader", "tallystick_writer"] as const) {
        try {
          const [nobody] = await db.as<{ all: number }>(role, count);
          // The writer looks tenants' logs up by name before it can name a tenant.
          if (!(role === "tallystick_writer" && name === "tallystick.logs"))
            expect(nobody, `${role} ${name}`).toMatchObject({ all: 0 });
          const [own] = await db.as<{ all: number; others: number }>(
            role,
            "begin",
            `select set_config('tallystick.tenant_id', '${ours.tenantId}', true)`,
            count,
          );
          expect(own!.all, `${role} ${name}`).toBeGreaterThan(0);
          if (!(role === "tallystick_writer" && name === "tallystick.logs"))
            expect(own, `${role} ${name}`).toMatchObject({ others: 0 });
          readable.push(`${role} ${name}`);
        } catch (error) {
          expect(error, `${role} ${name}`).toMatchObject({ code: "42501" });
        }
      }
    }
    // What is verified, searched and proved over HTTP is read as this role.
    for (const name of [
      "entries",
      "heads",
      "logs",
      "openings",
      "service_heads",
      "text_openings",
      "text_segments",
      "tiles",
    ])
      expect(readable).toContain(`tallystick_reader tallystick.${name}`);
    expect(readable).not.toContain("tallystick_reader tallystick.api_keys");
    expect(readable).not.toContain("tallystick_reader tallystick.client_certificates");
    expect(readable).not.toContain("tallystick_reader tallystick.idempotency_keys");
  });

  // The second is for servers of the release before.
  test.each([
    ["find_candidates", "'{}', null, null, null, null, null"],
    ["find_positions", "'{}', '{}', null, null, null, null"],
  ])("gives %s() no other tenant's log", async (name, asked) => {
    const find = (log: TenantLog) =>
      db.as(
        "tallystick_reader",
        "begin",
        `select set_config('tallystick.tenant_id', '${ours.tenantId}', true)`,
        `select * from tallystick.${name}(${log.logId}, 0, 1000, true, 10, ${asked})`,
      );
    expect(await find(ours)).toHaveLength(10);
    expect(await find(theirs)).toEqual([]);
  });

  test("gives positions_of() no other tenant's log", async () => {
    const as = (tenantId: string, log: TenantLog) =>
      db.as(
        "tallystick_reader",
        "begin",
        `select set_config('tallystick.tenant_id', '${tenantId}', true)`,
        `select * from tallystick.positions_of(${log.logId}, 1000, array[${termHash(log.logId, "action", "a.b")}]::bigint[])`,
      );
    expect(await as(ours.tenantId, ours)).toHaveLength(300);
    expect(await as(ours.tenantId, theirs)).toEqual([]);
  });

  test("lets the auditor see every tenant", async () => {
    const [row] = await db.as<{ count: number }>(
      "tallystick_auditor",
      "select count(distinct tenant_id)::int as count from tallystick.entries",
    );
    expect(row!.count).toBe(2);
  });
});

describe("enforcement_gaps()", () => {
  test("is empty where nothing was switched off", async () => {
    expect(await gaps()).toEqual([]);
  });

  test.each([
    [
      "alter table tallystick.entries disable trigger entries_append_only",
      { relation: "entries", gap: "the trigger entries_append_only is missing, disabled or not ours" },
    ],
    [
      "alter table tallystick.tiles enable trigger tiles_append_only",
      { relation: "tiles", gap: "the trigger tiles_append_only is missing, disabled or not ours" },
    ],
    [
      "drop trigger heads_append_only on tallystick.heads",
      { relation: "heads", gap: "the trigger heads_append_only is missing, disabled or not ours" },
    ],
    [
      "alter table tallystick.openings disable row level security",
      { relation: "openings", gap: "row-level security is off" },
    ],
    [
      "alter table PARTITION disable trigger PARTITION_append_only",
      { relation: "PARTITION", gap: "the trigger PARTITION_append_only is missing, disabled or not ours" },
    ],
    [
      "alter table PARTITION disable trigger PARTITION_append_only_row",
      { relation: "PARTITION", gap: "the trigger PARTITION_append_only_row is missing, disabled or not ours" },
    ],
    [
      "create or replace trigger tiles_append_only before update or delete or truncate on tallystick.tiles for each statement when (false) execute function tallystick.refuse_change(); alter table tallystick.tiles enable always trigger tiles_append_only",
      { relation: "tiles", gap: "the trigger tiles_append_only is missing, disabled or not ours" },
    ],
    [
      "create or replace trigger tiles_append_only before truncate on tallystick.tiles for each statement execute function tallystick.refuse_change(); alter table tallystick.tiles enable always trigger tiles_append_only",
      { relation: "tiles", gap: "the trigger tiles_append_only is missing, disabled or not ours" },
    ],
    [
      "alter table tallystick.publisher_keys disable trigger publisher_keys_only_end",
      {
        relation: "publisher_keys",
        gap: "the trigger publisher_keys_only_end is missing, disabled or not ours",
      },
    ],
    [
      "create or replace function tallystick.only_end_publisher_key() returns trigger language plpgsql as 'begin return new; end'",
      { relation: "only_end_publisher_key()", gap: "the function was replaced" },
    ],
    [
      "drop trigger publisher_keys_append_only on tallystick.publisher_keys",
      { relation: "publisher_keys", gap: "the trigger publisher_keys_append_only is missing, disabled or not ours" },
    ],
    [
      "alter table tallystick.text_segments disable trigger text_segments_append_only",
      {
        relation: "text_segments",
        gap: "the trigger text_segments_append_only is missing, disabled or not ours",
      },
    ],
    [
      "alter table tallystick.text_openings disable trigger text_openings_append_only",
      {
        relation: "text_openings",
        gap: "the trigger text_openings_append_only is missing, disabled or not ours",
      },
    ],
    [
      "create or replace function tallystick.forget_text() returns trigger language plpgsql as 'begin return null; end'",
      { relation: "forget_text()", gap: "the function was replaced" },
    ],
    [
      "alter table OPENINGS disable trigger openings_forget_text",
      { relation: "OPENINGS", gap: "the trigger openings_forget_text is missing, disabled or not ours" },
    ],
    [
      "alter table tallystick.services disable trigger services_append_only",
      { relation: "services", gap: "the trigger services_append_only is missing, disabled or not ours" },
    ],
    [
      "alter table tallystick.client_certificates disable row level security",
      { relation: "client_certificates", gap: "row-level security is off" },
    ],
    [
      "alter table tallystick.tenants disable row level security",
      { relation: "tenants", gap: "row-level security is off" },
    ],
    [
      "drop policy own_tenant on tallystick.api_keys",
      { relation: "api_keys", gap: "no policy says which tenant's rows tallystick_reader sees" },
    ],
    [
      "drop policy own_tenant on PARTITION",
      { relation: "PARTITION", gap: "no policy says which tenant's rows tallystick_reader sees" },
    ],
    [
      "create policy wide on tallystick.openings for select to tallystick_reader using (true)",
      { relation: "openings", gap: "the policy wide shows tallystick_reader rows of any tenant" },
    ],
    [
      "create policy wide on tallystick.tenants using (slug <> '_operator')",
      { relation: "tenants", gap: "the policy wide shows tallystick_reader rows of any tenant" },
    ],
    ["alter table PARTITION disable row level security", { relation: "PARTITION", gap: "row-level security is off" }],
  ])("names what a superuser does: %s", async (statement, expected) => {
    const [partition] = await db.as<{ name: string }>(
      "postgres",
      "select tableoid::regclass::text as name from tallystick.entries limit 1",
    );
    const name = partition!.name.split(".").at(-1)!;
    const named = (text: string) =>
      text.replaceAll("PARTITION", name).replaceAll("OPENINGS", name.replace("entries", "openings"));
    await db.superuser.query("begin");
    await db.superuser.query("set local search_path = tallystick, public");
    await db.superuser.query(named(statement));
    const { rows } = await db.superuser.query("select * from tallystick.enforcement_gaps()");
    await db.superuser.query("rollback");
    expect(rows).toEqual([{ relation: named(expected.relation), gap: named(expected.gap) }]);
  });
});

describe("when credentials were last used", () => {
  test.each([
    ["note_api_keys_used", "api_keys"],
    ["note_certificates_used", "client_certificates"],
  ])("%s takes no time that is yet to come", async (note, table) => {
    const [one] = await db.as<{ id: string }>("postgres", `select id from tallystick.${table} order by id limit 1`);
    const used = async (...times: string[]) => {
      await db.as(
        "tallystick_writer",
        `select tallystick.${note}(array_fill('${one!.id}'::uuid, array[${times.length}]), '{${times.join(",")}}')`,
      );
      const [row] = await db.as<{ at: Date | null; past: boolean }>(
        "postgres",
        `select last_used_at as at, last_used_at <= clock_timestamp() as past from tallystick.${table} where id = '${one!.id}'`,
      );
      return row!;
    };
    expect(await used("infinity")).toEqual({ at: null, past: null });
    expect(await used("2020-01-01T00:00:00Z", "infinity")).toEqual({
      at: new Date("2020-01-01T00:00:00Z"),
      past: true,
    });
    expect(await used("2999-01-01T00:00:00Z")).toMatchObject({ past: true });
    await used("-infinity");
    expect(await used("now")).toMatchObject({ past: true });
  });
});

async function gaps(): Promise<unknown[]> {
  return db.as("tallystick_reader", "select * from tallystick.enforcement_gaps()");
}

/** 42501 is insufficient_privilege: PostgreSQL's own refusal, and our trigger's. */
async function expectRefused(role: TestRole, statements: readonly string[]): Promise<void> {
  const outcome = await db.as(role, ...statements).then(
    () => "done",
    (error: { code?: string; message: string }) => error,
  );
  expect(outcome, `${role}: ${statements.join("; ")}`).toMatchObject({ code: "42501" });
}
