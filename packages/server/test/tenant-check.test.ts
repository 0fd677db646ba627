/**
 * Row-level security behind the application's own check: with that check taken away, another tenant's rows still do not come back.
 */
import { Masking } from "@tallystick/core/masking";
import type { FastifyInstance } from "fastify";
import { afterAll, beforeAll, expect, test } from "vitest";
import { OPERATOR } from "../src/access/admin-token.ts";
import { ApiKeys } from "../src/access/api-keys.ts";
import { Certificates } from "../src/access/certificates.ts";
import { IssuedCertificates } from "../src/access/issued-certificates.ts";
import { IssuedKeys } from "../src/access/issued-keys.ts";
import { TenantChanges } from "../src/access/tenant-changes.ts";
import { loadConfig } from "../src/config.ts";
import type { Access, Gate } from "../src/http/access.ts";
import { Cursors } from "../src/http/cursor.ts";
import { buildServer } from "../src/http/server.ts";
import { TrustedProxies } from "../src/http/trusted-proxies.ts";
import { Bodies } from "../src/limits/bodies.ts";
import { RateLimits } from "../src/limits/rate-limits.ts";
import { replaySecret } from "../src/log/replay-hash.ts";
import type { TenantLog } from "../src/log/tenants.ts";
import { Metrics } from "../src/metrics.ts";
import { Receipts } from "../src/proof/receipts.ts";
import { PublisherKeys } from "../src/publisher/publisher-keys.ts";
import { Publishers } from "../src/publisher/publishers.ts";
import { openSigning, type Signing } from "../src/signing/signing.ts";
import { Growth } from "../src/stream/growth.ts";
import { Streams } from "../src/stream/streams.ts";
import { append, TestDatabase, testSequencer } from "../src/testing/log.ts";
import { databaseSettings } from "../src/testing/server.ts";
import { Watch } from "../src/watch/watch.ts";

let db: TestDatabase;
let ours: TenantLog;
let theirs: TenantLog;
let signing: Signing;
let app: FastifyInstance;
/** What the gate lets a request work on. */
let given: TenantLog;
/** What only their log has. */
const theirOwn: string[] = [];

beforeAll(async () => {
  db = await TestDatabase.create();
  [ours, theirs] = [await db.tenant("ours"), await db.tenant("theirs")];
  const { database, tenants } = db;
  const sequencer = testSequencer(database);
  const settings = databaseSettings(db);
  signing = await openSigning(database, {
    ...{ keyPath: settings.LOG_KEY_PATH, lockPath: settings.SIGN_LOCK_PATH, adoptLock: false, intervalMs: 60_000 },
    ...{ witnesses: [], witnessTimeoutMs: 1_000, logger: { info() {}, warn() {}, error() {} } },
  });
  for (const log of [ours, theirs]) {
    const events = Array.from({ length: 300 }, (_, i) => ({
      action: "order.create",
      actor: { id: "alice", email: `secret-of-${log.slug}@example.com` },
      resource: { type: "order", id: `order-of-${log.slug}-${i}` },
    }));
    const recorded = await append(sequencer, log, events);
    await signing.checkpoints.publish(log);
    if (log !== theirs) continue;
    theirOwn.push(`order-of-${log.slug}`, `secret-of-${log.slug}`);
    for (const { id, leafHash } of recorded) theirOwn.push(id, Buffer.from(leafHash).toString("hex"));
  }
  const { checkpoints, tiles } = signing;
  const apiKeys = new ApiKeys(database);
  const publishers = new Publishers(database);
  const admit = async (): Promise<Access> => ({
    ...{ log: given, caller: undefined, holder: undefined, serviceId: undefined, tenantBy: "credential" },
    ...{ operator: false, actor: OPERATOR },
  });
  const metrics = new Metrics();
  const limits = loadConfig({ MAX_EVENT_LOOP_DELAY_MS: "0" }, { cwd: db.signingDirectory });
  app = await buildServer(
    {
      ...{ database, tenants, sequencer, signing, publishers },
      gate: { admit, admitPublic: admit, admitFurther: async () => {}, logOf: async () => given } as unknown as Gate,
      rateLimits: new RateLimits({ perTenant: 0, perCredential: 0 }),
      bodies: new Bodies(2 ** 30),
      tenantChanges: new TenantChanges({ sequencer, tenants }),
      issuedKeys: new IssuedKeys({ database, sequencer, apiKeys, tenants }),
      issuedCertificates: new IssuedCertificates({
        ...{ database, sequencer, tenants },
        certificates: new Certificates(database),
      }),
      appendLimits: { idempotencyWindowMs: 60_000, maxClockSkewMs: 60_000, now: Date.now },
      receipts: new Receipts({ database, checkpoints, tiles }),
      publisherKeys: new PublisherKeys({ database, sequencer, publishers }),
      metrics,
      masking: new Masking({ keys: [], cardNumbers: false }),
      watch: new Watch({ sequencer, tenants, intervalMs: 3_600_000, recordReads: false, onError() {} }),
      streams: new Streams({
        ...{ database, limits, metrics, logger: { warn() {} } },
        growth: new Growth({ url: undefined, send: undefined }),
      }),
      replaySecret: replaySecret(signing.key.seed),
      cursors: new Cursors(replaySecret(signing.key.seed)),
      readiness: () => Promise.reject(new Error("not asked for")),
    },
    {
      logger: false,
      requestTimeoutMs: 10_000,
      corsOrigins: [],
      publicLog: true,
      limits,
      proxies: new TrustedProxies([]),
    },
  );
});
afterAll(async () => {
  await app.close();
  await signing.stop();
  await db.close();
});

/** Every way of reading what a tenant has recorded. */
async function readAll(tenant: string): Promise<{ path: string; status: number; body: string }[]> {
  const id = theirOwn.find((one) => /^[0-9a-f-]{36}$/.test(one))!;
  const paths = [
    "/v1/logs?limit=1000",
    "/v1/logs?actor_id=alice&order=asc",
    "/v1/logs?action=order.*",
    `/v1/logs/${id}`,
    `/v1/logs/${id}/receipt`,
    "/v1/logs/export?format=evidence",
    "/v1/logs/export?format=evidence&actor_id=alice",
    "/v1/logs/export?format=evidence&tree_size=300",
    "/v1/logs/stream?since_seq=0&follow=false",
    "/v1/logs/stream?since_seq=0&follow=false&actor_id=alice",
    "/v1/admin/api-keys",
    "/v1/admin/keys",
    "/v1/admin/services",
    "/v1/admin/certificates",
    "/v1/admin/verifications",
    ...["tile/entries/000", "tile/entries/001.p/44", "tile/0/000", "tile/0/001.p/44", "consistency?from=1"].map(
      (path) => `/v1/tenants/${tenant}/log/${path}`,
    ),
  ];
  const answers = [];
  for (const path of paths) {
    const { statusCode, rawPayload } = await app.inject({ url: path, method: "GET" });
    answers.push({ path, status: statusCode, body: `${rawPayload.toString("latin1")}${rawPayload.toString("hex")}` });
  }
  const verified = await app.inject({ url: "/v1/admin/verify-chain", method: "POST" });
  return [...answers, { path: "verify-chain", status: verified.statusCode, body: verified.body }];
}

/** Of which ways the answer has something of theirs; an id that was asked for may be named. */
const leaks = (answers: Awaited<ReturnType<typeof readAll>>) =>
  answers.flatMap(({ path, body }) =>
    theirOwn.some((one) => !path.includes(one) && body.includes(one)) ? [path] : [],
  );

test("what the test looks for is there for whoever may read it", async () => {
  given = theirs;
  const answers = await readAll("theirs");
  expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
  expect(leaks(answers)).toEqual(expect.arrayContaining(["/v1/logs?limit=1000", "/v1/tenants/theirs/log/tile/0/000"]));
  expect(leaks(answers).length).toBeGreaterThan(10);
});

test("a request of one tenant that is let into another's log gets nothing of it, by any route", async () => {
  given = { ...theirs, tenantId: ours.tenantId }; // the transaction's tenant is the credential's, whatever else went wrong
  const answers = await readAll("theirs");
  expect(leaks(answers)).toEqual([]);
  const byId = answers.filter(({ path }) => theirOwn.some((one) => path.includes(one)));
  expect(byId.map(({ status }) => status)).toEqual([404, 404]);
});

test("no table gives a row of another tenant to a query without any condition", async () => {
  const { rows: tables } = await db.superuser.query<{ name: string; column: string }>(
    `select c.oid::regclass::text as name, a.attname as column
     from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = case c.relname when 'tenants' then 'id' else 'tenant_id' end
     where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition`,
  );
  expect(tables.length).toBeGreaterThan(10);
  for (const { name, column } of tables) {
    const tenants = await db.database.read(ours.tenantId, async (client) => {
      const { rows: may } = await client.query<{ may: boolean }>("select has_table_privilege($1, 'select') as may", [
        name,
      ]);
      if (!may[0]!.may) return [];
      const { rows } = await client.query<{ tenant: string }>(`select distinct ${column} as tenant from ${name}`);
      return rows.map(({ tenant }) => tenant);
    });
    expect([name, tenants.filter((tenant) => tenant !== ours.tenantId)]).toEqual([name, []]);
  }
});
