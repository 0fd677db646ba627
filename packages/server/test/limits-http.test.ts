import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Api, List, Problem } from "../src/testing/api.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";

const EVENT = { action: "order.create", actor: { id: "alice" } };

let database: TestDatabase;
let server: TestServer;
/** Of the same database, without limits of its own. */
let other: TestServer;

beforeAll(async () => {
  database = await TestDatabase.create();
  server = await startTestServer({
    ...databaseSettings(database),
    RATE_LIMIT_REQUESTS: "10",
    REFUSED_CREDENTIALS_LIMIT: "3",
  });
  other = await startTestServer(databaseSettings(database));
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

/** API keys of a tenant of their own, with these settings. */
async function clients(settings: Record<string, number> = {}, count = 1, of?: string): Promise<Api[]> {
  const slug = of ?? (await database.tenant()).slug;
  const operator = other.operator.with({ "x-tenant-id": slug });
  await operator.patch(`/v1/tenants/${slug}`, { settings: { rate_limit_requests: 0, ...settings } });
  const keys = Array.from({ length: count }, async () => {
    const made = await operator.post<{ secret: string }>("/v1/admin/api-keys", {
      name: "test",
      scopes: ["write", "read"],
    });
    return server.api.as({ authorization: `Bearer ${made.body.secret}` });
  });
  return Promise.all(keys);
}

async function client(settings?: Record<string, number>): Promise<Api> {
  return (await clients(settings))[0]!;
}

const bulk = (count: number) => ({ events: Array.from({ length: count }, () => EVENT) });

describe("rate limits", () => {
  test("each answer says what is left, and 429 when to come again", async () => {
    const api = await client({ rate_limit_requests: 3 });
    for (const left of [2, 1, 0]) {
      const { status, headers } = await api.post("/v1/logs", EVENT);
      expect(status).toBe(201);
      expect(headers["ratelimit-policy"]).toBe('"tenant";q=3;w=60');
      expect(headers.ratelimit).toBe(`"tenant";r=${left};t=${(3 - left) * 20}`);
    }
    const refused = await api.get<Problem>("/v1/logs");
    expect(refused.status).toBe(429);
    expect(refused.body.type).toBe("urn:tallystick:problem:too-many-requests");
    expect(refused.body.detail).toContain("3 requests a minute");
    expect(refused.body.detail).toContain('"rate_limit_requests"');
    expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
    expect(Number(refused.headers["retry-after"])).toBeLessThanOrEqual(20);
    expect(refused.headers.ratelimit).toMatch(/^"tenant";r=0;t=\d+$/);
    for (const path of ["/health/live", "/health", "/metrics", "/openapi.json"]) {
      expect((await api.get(path)).status).toBe(200);
    }
  });

  test("each event of a bulk request counts; one that costs more than the limit is taken, and leaves a debt", async () => {
    const api = await client({ rate_limit_requests: 100 });
    const first = await api.post("/v1/logs/bulk", bulk(60));
    expect(first.status).toBe(201);
    expect(first.headers.ratelimit).toMatch(/^"tenant";r=4\d;t=\d+$/);
    const second = await api.post("/v1/logs/bulk", bulk(500));
    expect(second.status).toBe(201);
    expect(second.headers.ratelimit).toMatch(/^"tenant";r=0;t=\d+$/);
    const third = await api.post("/v1/logs/bulk", bulk(2));
    expect(third.status).toBe(429);
    // About 460 to pay back at 100 a minute.
    expect(Number(third.headers["retry-after"])).toBeGreaterThan(240);
  });

  test("a bulk request that finds nothing left once it is read is refused whole", async () => {
    const api = await client({ rate_limit_requests: 1 });
    expect((await api.post("/v1/logs/bulk", bulk(2))).status).toBe(429);
    const { body } = await other.api.as(api.headers).get<List>("/v1/logs?action=order.*");
    expect(body.data).toEqual([]);
  });

  test("a credential has its own limit where it is lower than the tenant's", async () => {
    const [one, two] = await clients({ rate_limit_requests: 100, credential_rate_limit_requests: 2 }, 2);
    const first = await one!.get("/v1/logs");
    expect(first.headers["ratelimit-policy"]).toBe('"tenant";q=100;w=60, "credential";q=2;w=60');
    expect(first.headers.ratelimit).toBe('"tenant";r=99;t=1, "credential";r=1;t=30');
    await one!.get("/v1/logs");
    const refused = await one!.get<Problem>("/v1/logs");
    expect(refused.status).toBe(429);
    expect(refused.body.detail).toContain("This credential may send 2");
    expect((await two!.get("/v1/logs")).status).toBe(200);
  });

  test("the operator sets a tenant's limits, and null takes them back", async () => {
    const { slug } = await database.tenant();
    const set = (settings: unknown) => other.operator.patch<{ settings: object }>(`/v1/tenants/${slug}`, { settings });
    expect((await set({ rate_limit_requests: 5, credential_rate_limit_requests: 2 })).body.settings).toEqual({
      rate_limit_requests: 5,
      credential_rate_limit_requests: 2,
    });
    expect((await set({ rate_limit_requests: null })).body.settings).toEqual({ credential_rate_limit_requests: 2 });
    for (const wrong of [{ rate_limit_requests: -1 }, { rate_limit_requests: "5" }, { rate_limits: 5 }, {}]) {
      expect((await set(wrong)).status).toBe(400);
    }
  });

  test("a tenant in debt lists and revokes its credentials all the same, by a limit apart", async () => {
    const { slug } = await database.tenant();
    const operator = other.operator.with({ "x-tenant-id": slug });
    await operator.patch(`/v1/tenants/${slug}`, { settings: { rate_limit_requests: 10 } });
    const make = async (scopes: string[]) => {
      const { body } = await operator.post<{ id: string; secret: string }>("/v1/admin/api-keys", { name: "n", scopes });
      return { id: body.id, api: server.api.as({ authorization: `Bearer ${body.secret}` }) };
    };
    const [leaked, admin] = [await make(["write"]), await make(["admin"])];
    expect((await leaked.api.post("/v1/logs/bulk", bulk(2_000))).status).toBe(201);
    expect((await leaked.api.post("/v1/logs/bulk", bulk(2_000))).status).toBe(429);
    expect((await admin.api.post("/v1/admin/api-keys", { name: "n", scopes: ["read"] })).status).toBe(429);
    for (const list of ["api-keys", "certificates", "keys"]) {
      expect((await admin.api.get(`/v1/admin/${list}`)).status).toBe(200);
    }
    const revoked = await admin.api.delete<{ revoked_at: string }>(`/v1/admin/api-keys/${leaked.id}`);
    expect([revoked.status, revoked.body.revoked_at]).toEqual([200, expect.any(String)]);
    expect(revoked.headers["ratelimit-policy"]).toBe('"revocations";q=300;w=60');
    expect(revoked.headers.ratelimit).toMatch(/^"revocations";r=29\d;t=1$/);
    // Of what there is not: neither is held up.
    const none = "00000000-0000-7000-8000-000000000000";
    expect((await admin.api.delete(`/v1/admin/certificates/${none}`)).status).toBe(404);
    expect((await admin.api.post(`/v1/admin/keys/${none}/revoke`, {})).status).toBe(404);
    const after = other.api.as(leaked.api.headers);
    await until(async () => (await after.get("/v1/logs")).status === 401, { what: "it is revoked" });
  });

  test("what a credential may not do costs as much as what it may", async () => {
    const api = await client({ rate_limit_requests: 4 });
    expect((await api.post("/v1/admin/verify-chain", undefined)).status).toBe(403);
    expect((await api.get("/v1/logs", { "x-tenant-id": "default" })).status).toBe(403);
    const refused = await api.get("/v1/admin/api-keys"); // of a limit apart
    expect([refused.status, refused.headers["ratelimit-policy"]]).toEqual([403, '"revocations";q=300;w=60']);
    expect((await api.get("/v1/logs")).headers.ratelimit).toMatch(/^"tenant";r=1;/);
    expect((await api.get("/v1/tenants")).status).toBe(403);
    expect((await api.get("/v1/tenants")).status).toBe(429);
  });

  test("entries in tiles cost a request, also where hashes are for everyone", async () => {
    const open = await startTestServer({
      ...databaseSettings(database),
      PUBLIC_LOG: "true",
      RATE_LIMIT_REQUESTS: "10",
    });
    const { slug } = await database.tenant();
    const [known] = await clients({ rate_limit_requests: 2 }, 1, slug);
    const api = open.api.as(known!.headers);
    const { seq } = await api.record(EVENT);
    const tile = (level: string) => `/v1/tenants/${slug}/log/tile/${level}/000.p/${seq + 1}`;
    const entries = await api.get(tile("entries"));
    expect([entries.status, entries.headers.ratelimit]).toEqual([200, expect.stringMatching(/^"tenant";r=0;/)]);
    expect((await api.get(tile("entries"))).status).toBe(429);
    expect((await open.api.as({}).get(tile("entries"))).status).toBe(401);
    const hashes = await open.api.as({}).get(tile("0"));
    expect([hashes.status, hashes.headers.ratelimit]).toEqual([200, undefined]);
    await open.stop();
  });

  test("the operator is limited by the credential, and no tenant pays for the operator", async () => {
    const { headers } = await server.operator.get("/v1/tenants");
    expect(headers["ratelimit-policy"]).toBe('"credential";q=10;w=60');
  });
});

test("servers of one database share limits", async () => {
  const api = await client({ rate_limit_requests: 50 });
  const there = other.api.as(api.headers);
  expect((await api.post("/v1/logs/bulk", bulk(500))).status).toBe(201);
  // Each counts by itself until they have told each other, about once a second.
  const inDebt = async () => Number((await there.get("/v1/logs")).headers["retry-after"]) > 400;
  await until(inDebt, { what: "the other server knows what was used here" });
});

// The last: no new key is taken from this address for a while.
describe("refused credentials", () => {
  test("an address that guesses is not looked up any more; credentials that are known from there go on", async () => {
    const [known, fresh] = await clients({}, 2);
    expect((await known!.get("/v1/logs")).status).toBe(200);
    const guess = (index: number) => server.api.as({ "x-api-key": `tally_${index}`.padEnd(46, "f") }).get("/v1/logs");
    for (let index = 0; index < 3; index++) expect((await guess(index)).status).toBe(401);
    const refused = await guess(3);
    expect(refused.status).toBe(429);
    expect(refused.body.detail).toContain("address");
    expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
    expect((await fresh!.get("/v1/logs")).status).toBe(429);
    expect((await known!.get("/v1/logs")).status).toBe(200);
    expect((await server.operator.get("/v1/tenants")).status).toBe(200);
    // Of the operator's token too, which nothing has to be looked up for.
    expect((await server.api.as({ "x-admin-token": "not-it" }).get("/v1/tenants")).status).toBe(429);
  });
});
