/** Random tenants write random events, and read by every way there is: nobody ever sees anything of another's. */
import { readFileSync } from "node:fs";
import { canonicalize } from "@tallystick/core/canonical";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Api, Head } from "../src/testing/api.ts";
import { checkLog, TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer } from "../src/testing/server.ts";

const SEED = Number(process.env.TALLYSTICK_TEST_SEED ?? Date.now() % 2 ** 31);
const RUNS = Number(process.env.TALLYSTICK_TEST_ISOLATION_RUNS ?? 15);
const SLUGS = ["red", "green", "blue"] as const;

interface TenantOfTest {
  readonly slug: string;
  readonly id: string;
  readonly api: Api;
  /** Stands in everything that the tenant records, and in nothing else. */
  readonly mark: string;
  readonly heads: Head[];
}

let database: TestDatabase;
let server: TestServer;
let tenants: TenantOfTest[];

beforeAll(async () => {
  database = await TestDatabase.create();
  server = await startTestServer({ ...databaseSettings(database), CHECKPOINT_INTERVAL_MS: "20" });
  tenants = await Promise.all(
    SLUGS.map(async (slug) => {
      const { tenantId: id } = await database.tenant(slug);
      const secret = await database.newKey(slug);
      const api = server.api.as({ authorization: `Bearer ${secret}` });
      return { slug, id, api, mark: `mark-of-${slug}`, heads: [] };
    }),
  );
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

/** What every tenant's events share, so that each filter of one would find the others'. */
const shared = fc.record({
  action: fc.constantFrom("user.login", "order.update"),
  actor: fc.constantFrom("alice", "bob"),
  outcome: fc.constantFrom("success", "failure"),
  request_id: fc.constantFrom("r-1", "r-2"),
  ip: fc.constantFrom("192.0.2.1", "2001:db8::1"),
  service_id: fc.constantFrom("orders", "billing"),
});
type Shared = typeof shared extends fc.Arbitrary<infer T> ? T : never;

function eventOf({ mark }: TenantOfTest, { action, actor, outcome, request_id, ip, service_id }: Shared) {
  return {
    action,
    actor: { id: actor, name: `Name ${mark}`, email: `${mark}@example.com`, attributes: { mark } },
    resource: { type: "order", id: "o-17", name: mark },
    outcome,
    reason: mark,
    service_id,
    context: { request_id, ip },
    metadata: { mark },
    changes: { before: { mark }, after: null },
    related: [{ type: mark, id: "1" }],
  };
}

/** Every way of reading, with what it needs of the tenant that it tries to reach. */
const PATHS: readonly ((of: TenantOfTest, like: Shared, n: number) => string)[] = [
  () => "/v1/logs?limit=1000",
  () => "/v1/logs?limit=3&order=asc",
  (_, { actor, outcome }) => `/v1/logs?actor_id=${actor}&outcome=${outcome}`,
  (_, { action, ip }) => `/v1/logs?action=${action.slice(0, 4)}*&ip=${ip}`,
  (_, { request_id }) => `/v1/logs?request_id=${request_id}&resource_type=order&resource_id=o-17`,
  (_, { service_id }) => `/v1/logs?service_id=${service_id}&from=2020-01-01&to=2099-01-01`,
  ({ slug }) => `/v1/logs?log=${slug}`,
  ({ id }) => `/v1/logs?tenant_id=${id}`,
  ({ slug }) => `/v1/logs?tenant_id=${slug}`,
  ({ heads }, _, n) => `/v1/logs/${heads[n % heads.length]?.id ?? "none"}`,
  ({ heads }, _, n) => `/v1/logs/${heads[n % heads.length]?.id ?? "none"}/receipt`,
  (_, { action }) => `/v1/logs/stats?by=resource_type&interval=day&action=${action}`,
  ({ slug }) => `/v1/logs/stats?by=resource_type&log=${slug}`,
  ({ id }) => `/v1/logs/history?resource=order:o-17&field=mark&tenant_id=${id}`,
  () => "/v1/logs/stream?since_seq=0&follow=false",
  ({ slug }) => `/v1/logs/stream?since_seq=0&follow=false&log=${slug}`,
  ({ id }, { actor }) => `/v1/logs/stream?since_seq=0&follow=false&tenant_id=${id}&actor_id=${actor}`,
  () => "/v1/logs/export?format=evidence",
  () => "/v1/logs/export?format=csv",
  ({ slug }) => `/v1/logs/export?format=ndjson&log=${slug}`,
  (_, { actor }) => `/v1/logs/export?format=ndjson&q=actor:${actor}`,
  ({ slug }) => `/v1/logs/export?format=csv&tenant_id=${slug}`,
  ({ slug }) => `/v1/logs/export?format=evidence&log=${slug}`,
  (_, { actor }) => `/v1/logs/export?format=evidence&actor_id=${actor}`,
  ({ slug }) => `/v1/logs/export?format=evidence&tenant_id=${slug}`,
  ...["checkpoint", "vkey", "witnesses", "consistency?from=0", "tile/0/000.p/1", "tile/entries/000.p/1"].flatMap(
    (path) => [
      ({ slug }: TenantOfTest) => `/v1/tenants/${slug}/log/${path}`,
      ({ id }: TenantOfTest) => `/v1/tenants/${id}/log/${path}`,
      ({ slug }: TenantOfTest) => `/v1/tenants/${slug}/logs/${slug}/${path}`,
    ],
  ),
  ({ slug }) => `/v1/tenants/${slug}/logs`,
  ({ id }) => `/v1/tenants/${id}`,
  () => "/v1/tenants",
  () => "/v1/admin/api-keys",
  () => "/v1/admin/keys",
  () => "/v1/admin/services",
  () => "/v1/admin/certificates",
  () => "/v1/admin/verifications",
];

/** Ways that are no entry's, and say the same to everyone or nothing of a tenant. */
const WITHOUT_TENANT = ["/metrics", "/health", "/health/live", "/health/ready", "/v1/admin/verifications/{id}"];

test("every GET of openapi.json is tried", () => {
  const { paths } = JSON.parse(readFileSync(new URL("../../../openapi.json", import.meta.url), "utf8")) as {
    paths: Record<string, Record<string, unknown>>;
  };
  const sample = { slug: "{id}", id: "{id}", heads: [{ id: "{id}" }] } as unknown as TenantOfTest;
  const tried = PATHS.map((path) => path(sample, { action: "" } as unknown as Shared, 0).replace(/\?.*/, "")).map(
    (path) => path.replace(/\/logs\/\{id\}\/(?!receipt)/, "/logs/{log}/").replace(/\/tile\/.*/, "/tile/{*}"),
  );
  const reads = Object.keys(paths).filter((path) => "get" in paths[path]! && !WITHOUT_TENANT.includes(path));
  expect(reads.filter((path) => !tried.includes(path))).toEqual([]);
});

test(`no tenant reads another's entries (seed ${SEED})`, { timeout: 60_000 + RUNS * 5_000 }, async () => {
  const tenant = fc.nat({ max: SLUGS.length - 1 });
  const step = fc.oneof(
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("write" as const),
        tenant,
        like: shared,
        count: fc.integer({ min: 1, max: 5 }),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("read" as const),
        tenant,
        of: tenant,
        like: shared,
        path: fc.nat({ max: PATHS.length - 1 }),
        n: fc.nat({ max: 100 }),
        /** Another credential's tenant may be named by the header as well. */
        header: fc.boolean(),
      }),
    },
  );
  let read = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
      for (const one of steps) {
        const own = tenants[one.tenant]!;
        if (one.kind === "write") {
          const events = Array.from({ length: one.count }, () => eventOf(own, one.like));
          own.heads.push(...(await own.api.recordAll(events)));
          continue;
        }
        const of = tenants[one.of]!;
        const path = PATHS[one.path]!(of, one.like, one.n);
        const answer = await own.api.get(path, one.header ? { "x-tenant-id": of.slug } : {});
        expect(answer.status, `${path}: ${answer.text.slice(0, 300)}`).toBeLessThan(500);
        for (const other of tenants) {
          if (other !== own) expect(answer.text, `${own.slug} asks for ${path}`).not.toContain(other.mark);
        }
        if (of !== own && (one.header || path.includes(of.slug) || path.includes(of.id))) {
          expect([400, 403, 404], `${own.slug} asks for ${path}: ${answer.text.slice(0, 300)}`).toContain(
            answer.status,
          );
        }
        if (answer.text.includes(own.mark)) read++;
      }
    }),
    { seed: SEED, numRuns: RUNS, endOnFailure: true },
  );
  expect(read).toBeGreaterThan(RUNS); // what is asked for is there to be seen
  for (const { slug, mark, heads, api } of tenants) {
    const entries = await api.listAll();
    expect(entries.filter(({ event }) => canonicalize(event as never).includes(mark)).length).toBe(heads.length);
    await checkLog(database.database, (await database.tenants.find(slug))!);
  }
});
