/**
 * Logs for tests: a database of their own, tenants, entries by the real sequencer, and the verification of all of it.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseEvent } from "@tallystick/core/event";
import pg from "pg";
import { ApiKeys, SECRET_PREFIX } from "../access/api-keys.ts";
import { IssuedKeys, type NewApiKey } from "../access/issued-keys.ts";
import { TENANT_SCOPES } from "../access/scopes.ts";
import { newToken } from "../credentials.ts";
import { Database } from "../db/database.ts";
import { knownMigrations, migrateUp } from "../db/migrate.ts";
import { SERVER_ROLES } from "../db/prepare.ts";
import type { AppendOutcome, AppendRequest, Recorded } from "../log/append.ts";
import { AppendError } from "../log/errors.ts";
import { openInstallation } from "../log/installation.ts";
import { prepareEvent } from "../log/prepare.ts";
import { replaySecret } from "../log/replay-hash.ts";
import { Sequencer, type SequencerOptions } from "../log/sequencer.ts";
import { type TenantLog, Tenants } from "../log/tenants.ts";
import { verifyDatabase } from "../verify/database.ts";
import { verifyLog } from "../verify/log.ts";
import type { VerifyReport } from "../verify/report.ts";
import { adminUrl } from "./postgres.ts";

export const TEST_ORIGIN = "test.example/tallystick";

/** Roles that a test may log in as; `postgres` is the superuser. */
export type TestRole = (typeof SERVER_ROLES)[number] | "postgres";

/** An event as a client sends it. */
export type TestEvent = Parameters<typeof parseEvent>[0];

/** A migrated database with an installation and the tenant `default`. Close it when the tests of the file are done. */
export class TestDatabase {
  readonly name: string;
  readonly database: Database;
  readonly tenants: Tenants;
  /** The superuser, for what no role of the product may do. */
  readonly superuser: pg.Client;
  /** Where servers of this database keep their log key and sign-lock: apart from the database, and shared. */
  readonly signingDirectory: string;
  readonly #base: URL;

  private constructor(name: string, base: URL, superuser: pg.Client, signingDirectory: string) {
    this.name = name;
    this.signingDirectory = signingDirectory;
    this.#base = base;
    this.superuser = superuser;
    this.database = this.connect();
    this.tenants = new Tenants(this.database);
  }

  /** Makes the database, as a copy of one that was migrated once for all tests. */
  static async create(): Promise<TestDatabase> {
    const base = new URL(adminUrl());
    const name = `log_${randomBytes(6).toString("hex")}`;
    await withClient(base.href, async (client) => {
      // Roles are the cluster's: test files that migrate at the same time would meet there.
      await client.query("select pg_advisory_lock(hashtextextended('tallystick.tests', 0))");
      const template = `template_${createHash("sha256").update(JSON.stringify(knownMigrations())).digest("hex").slice(0, 16)}`;
      const { rows } = await client.query("select from pg_database where datname = $1", [template]);
      if (rows.length === 0) {
        await client.query(`create database ${template}_new`);
        await migrateUp(
          withPath(base, `${template}_new`),
          Object.fromEntries(SERVER_ROLES.map((role) => [role, passwordOf(role)])),
        );
        await client.query(`alter database ${template}_new rename to ${template}`);
      }
      await client.query(`create database ${name} template ${template}`);
    });
    const superuser = new pg.Client(withPath(base, name));
    await superuser.connect();
    const signingDirectory = await mkdtemp(join(tmpdir(), "tallystick-signing-"));
    const test = new TestDatabase(name, base, superuser, signingDirectory);
    await test.database.query("select tallystick.make_partitions(1)");
    await openInstallation(test.database, test.tenants, { origin: TEST_ORIGIN, defaultTenant: "default" });
    return test;
  }

  url(role: TestRole = "postgres"): string {
    const url = new URL(withPath(this.#base, this.name));
    if (role !== "postgres") {
      url.username = role;
      url.password = passwordOf(role);
    }
    return url.href;
  }

  /** Another set of connections, as another server has them; by way of a proxy where `through` leads there. */
  connect(through: (url: string) => string = (url) => url): Database {
    return new Database({
      url: through(this.url("tallystick_writer")),
      readerUrl: through(this.url("tallystick_reader")),
      poolSize: 4,
      onIdleError: () => {},
    });
  }

  /** A new tenant and its log. */
  async tenant(slug = `t-${randomBytes(5).toString("hex")}`): Promise<TenantLog> {
    await this.tenants.ensure(slug, slug);
    return (await this.tenants.find(slug))!;
  }

  /** The secret of a new API key of a tenant: made beside the server's ways, so that no entry tells of it. */
  async newKey(slug: string, key: Partial<NewApiKey> = {}): Promise<string> {
    const { tenantId } = (await this.tenants.find(slug))!;
    const { database, tenants } = this;
    const keys = new IssuedKeys({
      ...{ database, tenants },
      sequencer: testSequencer(database),
      apiKeys: new ApiKeys(database),
    });
    const secret = newToken(SECRET_PREFIX);
    await keys.ensure(tenantId, { name: "test", scopes: TENANT_SCOPES, ...key }, secret);
    return secret;
  }

  /** Runs statements as a role, and gives the rows of the last. */
  async as<Row extends pg.QueryResultRow>(role: TestRole, ...statements: string[]): Promise<Row[]> {
    return withClient(this.url(role), async (client) => {
      let rows: Row[] = [];
      for (const statement of statements) ({ rows } = await client.query<Row>(statement));
      return rows;
    });
  }

  /** Changes the first table that a statement names, as only a superuser who has switched its triggers off can. */
  async tamper(statement: string, values: unknown[] = []): Promise<number> {
    const { rows } = await this.superuser.query<{ disable: string; enable: string }>(
      `select format('alter table %s disable trigger %I', tgrelid::regclass, tgname) as disable,
         format('alter table %s enable always trigger %I', tgrelid::regclass, tgname) as enable
       from pg_trigger where not tgisinternal and tgrelid in (
         select $1::text::regclass union all select relid from pg_partition_tree($1::text::regclass))`,
      [/tallystick\.\w+/.exec(statement)?.[0]],
    );
    await this.superuser.query("begin");
    try {
      await this.superuser.query("set local session_replication_role = replica"); // foreign keys are triggers as well
      await this.superuser.query(rows.map(({ disable }) => disable).join(";"));
      const { rowCount } = await this.superuser.query(statement, values);
      await this.superuser.query(rows.map(({ enable }) => enable).join(";"));
      await this.superuser.query("commit");
      return rowCount ?? 0;
    } catch (error) {
      await this.superuser.query("rollback");
      throw error;
    }
  }

  /**
   * A backup: another database that holds what this one holds now, its servers with a log key and sign-lock of their own unless
   * they are given others. Ends every connection to this one, which {@link reopen} opens again; servers may be started on it.
   */
  async copy(): Promise<TestDatabase> {
    await this.database.close();
    await this.superuser.end();
    const name = `log_${randomBytes(6).toString("hex")}`;
    await withClient(adminUrl(), async (client) => {
      await client.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", [this.name]);
      await client.query(`create database ${name} template ${this.name}`);
    });
    const superuser = new pg.Client(withPath(this.#base, name));
    await superuser.connect();
    const signingDirectory = await mkdtemp(join(tmpdir(), "tallystick-signing-"));
    return new TestDatabase(name, this.#base, superuser, signingDirectory);
  }

  /** This database again, after {@link copy}. */
  async reopen(): Promise<TestDatabase> {
    const superuser = new pg.Client(withPath(this.#base, this.name));
    await superuser.connect();
    return new TestDatabase(this.name, this.#base, superuser, this.signingDirectory);
  }

  async close(): Promise<void> {
    await this.database.close();
    await this.superuser.end();
    await rm(this.signingDirectory, { recursive: true, force: true });
  }
}

/** A sequencer with generous limits; failures are counted in `errors`. */
export function testSequencer(
  database: Database,
  options: Partial<SequencerOptions> = {},
): Sequencer & { errors: unknown[] } {
  const errors: unknown[] = [];
  const sequencer = new Sequencer(database, {
    maxBatchEvents: 10_000,
    maxQueuedEvents: 100_000,
    maxQueuedBytes: 2 ** 30,
    idempotencyWindowMs: 7 * 86_400_000,
    maxClockSkewMs: 60_000,
    now: Date.now,
    pause: () => Promise.resolve(),
    onError: (error) => errors.push(error),
    ...options,
  });
  return Object.assign(sequencer, { errors });
}

const SECRET = replaySecret(Buffer.alloc(32, "test"));

/** A request as the routes make it. An event's `service_id` and `idempotency_key` count. */
export function requestOf(log: TenantLog, events: readonly TestEvent[], partial = false): AppendRequest {
  return {
    logId: log.logId,
    partial,
    events: events.map((input) => {
      const { event } = parseEvent(input);
      return prepareEvent(log, event, event.service_id ?? "default", { secret: SECRET, key: event.idempotency_key });
    }),
  };
}

/** Records events in one request; fails where one of them is not recorded. */
export async function append(sequencer: Sequencer, log: TenantLog, events: readonly TestEvent[]): Promise<Recorded[]> {
  return recordedIn(await sequencer.append(requestOf(log, events)));
}

/** The entries of an outcome; throws what was refused. */
export function recordedIn(outcome: AppendOutcome): Recorded[] {
  if (outcome instanceof AppendError) throw outcome;
  return outcome.map((one) => {
    if (one instanceof AppendError) throw one;
    return one;
  });
}

/** Verifies the whole log as the server does, and throws with what is wrong. Returns the report. */
export async function checkLog(database: Database, log: TenantLog): Promise<VerifyReport> {
  const report = await verifyLog((work) => database.read(log.tenantId, work), log);
  if (!report.ok)
    throw new Error(
      `${log.name} does not verify:\n${report.problems.map((problem) => JSON.stringify(problem)).join("\n")}`,
    );
  return report;
}

/** The report of one tenant's log, as the command line makes it. */
export async function reportOf(test: TestDatabase, log: TenantLog, role: TestRole = "postgres"): Promise<VerifyReport> {
  for await (const report of verifyDatabase(test.url(role), { tenant: log.slug })) return report;
  throw new Error(`${log.slug} has no log`);
}

function passwordOf(role: string): string {
  return `password of ${role}`;
}

function withPath(base: URL, database: string): string {
  const url = new URL(base);
  url.pathname = `/${database}`;
  return url.href;
}

async function withClient<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}
