/** The HTTP API, route by route, against a server in a process of its own and a database of its own. */
import { hash } from "node:crypto";
import { readFileSync } from "node:fs";
import { type FilterError, filterOf } from "@tallystick/core/filter-parameters";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NewApiKey } from "../src/access/issued-keys.ts";
import { TENANT_SCOPES } from "../src/access/scopes.ts";
import type { Answer, Api, Head, Headers, List, ListedEntry, Problem } from "../src/testing/api.ts";
import { checkLog, TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";

const UUID = "0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee";

interface Tenant {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly status: string;
  readonly created_at: string;
}

interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly prefix: string;
  readonly service_id: string | null;
  readonly scopes: readonly string[];
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
  readonly secret: string;
}

let database: TestDatabase;
let server: TestServer;
/** A second server on the same database. */
let other: TestServer;

beforeAll(async () => {
  database = await TestDatabase.create();
  server = await startTestServer(databaseSettings(database));
  const ADMIN_TOKEN = server.credentials.admin_token;
  other = await startTestServer({ ...databaseSettings(database), ADMIN_TOKEN });
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

let made = 0;

/** A tenant of its own for a test, with an API key for it. */
async function newTenant(slug = `tenant-${made++}`): Promise<{ tenant: Tenant; api: Api }> {
  const { status, body } = await server.operator.post<Tenant>("/v1/tenants", { slug });
  expect(status).toBe(201);
  return { tenant: body, api: await apiOf(body.slug) };
}

async function newKey(tenant: string, key: Readonly<Record<string, unknown>> = {}): Promise<ApiKey> {
  const body = { name: "test", scopes: TENANT_SCOPES, ...key };
  const answer = await server.operator.post<ApiKey>("/v1/admin/api-keys", body, { "x-tenant-id": tenant });
  expect(answer.status, answer.text).toBe(201);
  return answer.body;
}

/** With a key that no entry tells of. */
async function apiOf(tenant: string, key: Partial<NewApiKey> = {}): Promise<Api> {
  const secret = await database.newKey(tenant, key);
  return server.api.as({ authorization: `Bearer ${secret}` });
}

function event(more: Readonly<Record<string, unknown>> = {}) {
  return { action: "user.login", actor: { id: "alice" }, ...more };
}

async function logSize(api: Api): Promise<number> {
  const { body } = await api.get<List>("/v1/logs?limit=1");
  return body.data.length === 0 ? 0 : body.data[0]!.seq + 1;
}

/** That an answer is a problem of RFC 9457, with what every problem of ours has. */
function expectProblem(answer: Answer<unknown>, status: number, name?: string): Problem {
  const problem = answer.body as Problem;
  expect(answer.status, answer.text).toBe(status);
  expect(answer.headers["content-type"]).toMatch(/^application\/problem\+json/);
  expect(problem.type).toMatch(/^urn:tallystick:problem:[a-z-]+$/);
  if (name !== undefined) expect(problem.type).toBe(`urn:tallystick:problem:${name}`);
  expect(problem.status).toBe(status);
  expect(problem.title).not.toBe("");
  expect(problem.detail).not.toBe("");
  expect(problem.request_id).toBe(answer.headers["x-request-id"]);
  for (const error of problem.errors ?? [])
    expect(error).toEqual({ path: expect.any(String), message: expect.any(String) });
  return problem;
}

function paths(problem: Problem): string[] {
  return (problem.errors ?? []).map(({ path }) => path).sort();
}

describe("POST /v1/logs", () => {
  test("answers the entry's head, which GET finds at Location", async () => {
    const { api } = await newTenant();
    const answer = await api.post<Head>("/v1/logs", event({ context: { ip: "2001:DB8::1" }, metadata: { ü: "ß" } }));
    expect(answer.status).toBe(201);
    expect(answer.body).toEqual({
      id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
      seq: 0,
      recorded_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
      leaf_hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      duplicate: false,
    });
    const found = await api.get<ListedEntry>(answer.headers.location!);
    const { leaf = "", ...entry } = found.body;
    expect(entry).toEqual({
      id: answer.body.id,
      seq: 0,
      recorded_at: answer.body.recorded_at,
      leaf_hash: answer.body.leaf_hash,
      service: { id: "default", seq: 0, prev: "0".repeat(64) },
      event: event({ context: { ip: "2001:db8::1" }, metadata: { ü: "ß" } }),
    });
    expect(hash("sha256", Buffer.concat([Buffer.of(0), Buffer.from(leaf)]), "hex")).toBe(answer.body.leaf_hash);
    expect(leaf).not.toContain("2001:db8"); // personal: committed
    expect(Number.parseInt(answer.body.id.replace("-", "").slice(0, 12), 16)).toBe(Date.parse(entry.recorded_at));
  });

  const aliases = ["/v1/logs", "/v1/logs/", "/api/v1/logs", "/audit-log", "/audit-log/"];
  test.each(aliases)("%s records and lists", async (path) => {
    const { api } = await newTenant();
    const { status, headers, body } = await api.post<Head>(path, event());
    expect([status, headers.location]).toEqual([201, `/v1/logs/${body.id}`]);
    for (const alias of aliases) {
      const list = await api.get<List>(`${alias}?actor_id=alice`);
      expect(list.body.data.map(({ id }) => id)).toEqual([body.id]);
      expect((await api.get<List>(`${alias}?actor_id=bob`)).body.data).toEqual([]);
      expectProblem(await api.get(`${alias}?actor=alice`), 400);
    }
    expect((await api.get<ListedEntry>(`/api/v1/logs/${body.id}`)).body.id).toBe(body.id);
  });

  test("an alias keeps a question mark in a parameter", async () => {
    const { api } = await newTenant();
    const { id } = await api.record(event({ actor: { id: "who?" } }));
    for (const path of ["/v1/logs", "/api/v1/logs", "/audit-log"]) {
      expect((await api.get<List>(`${path}?actor_id=who?`)).body.data.map((entry) => entry.id)).toEqual([id]);
    }
  });

  test("bulk has its alias too", async () => {
    const { api } = await newTenant();
    const { status } = await api.post("/api/v1/logs/bulk", [event()]);
    expect(status).toBe(201);
  });

  interface Accepted {
    readonly name: string;
    readonly input: string;
    readonly canonical: string;
    readonly tenant?: string;
  }
  const accepted: Accepted[] = JSON.parse(
    readFileSync(new URL("../../../vectors/event/accept.json", import.meta.url), "utf8"),
  );
  test("every accepted spelling is recorded as its canonical event (vectors/event/accept.json)", async () => {
    await newTenant("acme");
    for (const [index, { name, input, canonical, tenant }] of accepted.entries()) {
      // Each in a tenant of its own, where its idempotency key is new; by bulk and by the list the same.
      const slug = tenant ?? (await newTenant(`vector-${index}`)).tenant.slug;
      const operator = server.operator.with({ "x-tenant-id": slug });
      const sent = await operator.post<Head>("/v1/logs", input);
      expect(sent.status, `${name}: ${sent.text}`).toBe(201);
      const entry = await operator.get<ListedEntry>(`/v1/logs/${sent.body.id}`);
      expect(entry.body.event, name).toEqual(JSON.parse(canonical));
      const listed = await operator.get<List>("/v1/logs?limit=1");
      expect(listed.body.data[0]!.event, name).toEqual(JSON.parse(canonical));
    }
  });

  test("services have chains of their own, without gaps", async () => {
    const { api } = await newTenant();
    const services = ["orders", "billing", "orders", undefined, "orders", "billing"];
    for (const service_id of services) await api.record(event({ ...(service_id && { service_id }) }));
    const entries = await api.listAll({ order: "asc" });
    const heads = new Map<string, { seq: number; leaf_hash: string }>();
    for (const [index, { service, leaf_hash }] of entries.entries()) {
      expect(service.id).toBe(services[index] ?? "default");
      const last = heads.get(service.id);
      expect(service.seq).toBe(last === undefined ? 0 : last.seq + 1);
      expect(service.prev).toBe(last?.leaf_hash ?? "0".repeat(64));
      heads.set(service.id, { seq: service.seq, leaf_hash });
    }
  });

  test("a leaf that is too large is a 413 that names its size and the limit", async () => {
    const { api } = await newTenant();
    const problem = expectProblem(
      await api.post("/v1/logs", event({ metadata: { x: "y".repeat(66_000) } })),
      413,
      "too-large",
    );
    expect(problem.detail).toMatch(/66,?\d{3}/);
    expect(problem.detail).toMatch(/65,?535/);
    // The largest that fits is recorded and read back.
    let fits = 60_000;
    for (let step = 4_096; step >= 1; step /= 2) {
      const { status } = await api.post("/v1/logs", event({ metadata: { x: "y".repeat(fits + step) } }));
      expect([201, 413]).toContain(status);
      if (status === 201) fits += step;
    }
    const [entry] = await api.listAll({ limit: "1000" });
    const { leaf } = (await api.get<ListedEntry>(`/v1/logs/${entry!.id}`)).body;
    expect(Buffer.byteLength(leaf!)).toBeGreaterThan(65_400);
  });
});

describe("X-Request-Id", () => {
  test("is echoed, or made where it is missing or unusable", async () => {
    for (const path of ["/v1/logs", "/v1/nothing", "/health/live", "/v1/logs?typo=1"]) {
      const echoed = await server.api.get(path, { "x-request-id": "my-id:1/2" });
      expect(echoed.headers["x-request-id"]).toBe("my-id:1/2");
      if (echoed.status >= 400) expect(expectProblem(echoed, echoed.status).request_id).toBe("my-id:1/2");
      for (const unusable of ["with space", "x".repeat(129), "ü"]) {
        const answer = await server.api.get(path, { "x-request-id": unusable });
        expect(answer.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
      }
      const [one, two] = await Promise.all([server.api.get(path), server.api.get(path)]);
      expect(one.headers["x-request-id"]).not.toBe(two.headers["x-request-id"]);
    }
  });
});

describe("problems", () => {
  test("every refusal has the same shape", async () => {
    const { api } = server;
    const none = api.as({});
    expectProblem(await api.get("/v1/nothing"), 404, "not-found");
    expectProblem(await api.delete("/v1/logs"), 405, "method-not-allowed");
    expectProblem(await api.patch("/v1/logs", {}), 405, "method-not-allowed");
    expectProblem(await api.get("/v1/logs/nothing"), 400, "invalid-request");
    expectProblem(await api.get(`/v1/logs/${UUID}`), 404, "not-found");
    expectProblem(await api.get("/v1/logs/%ZZ"), 400, "invalid-request");
    const long = await api.get(`/v1/logs/${"x".repeat(300)}`);
    expect(expectProblem(long, 400, "invalid-request").detail).not.toContain("xxx");
    expectProblem(await none.get("/v1/logs"), 401, "unauthenticated");
    expectProblem(await api.post("/v1/tenants", { slug: "x" }), 403, "forbidden");
    expectProblem(await api.post("/v1/logs", "{"), 400, "invalid-json");
    expectProblem(await api.post("/v1/logs", ""), 400, "invalid-json");
    expectProblem(await api.post("/v1/logs", "{}"), 400, "invalid-event");
    expectProblem(await api.post("/v1/logs", event({ service_id: "tallystick" })), 403, "reserved-name");
    expectProblem(await api.post("/v1/logs", event({ action: "Tallystick.x" })), 403, "reserved-name");
    expectProblem(await api.post("/v1/logs", event(), { "content-type": "text/plain" }), 415, "unsupported-media-type");
    expectProblem(await api.post("/v1/logs", event(), { "content-type": "" }), 415, "unsupported-media-type");
    expectProblem(await api.post("/v1/logs", " ".repeat(1024 * 1024 + 1)), 413, "too-large");
    expectProblem(await server.operator.get("/v1/logs", { "x-tenant-id": "nobody" }), 404, "not-found");
    expectProblem(await server.operator.post("/v1/tenants", { slug: "default" }), 409, "conflict");
    expectProblem(await server.operator.post("/v1/tenants", { slug: "Not A Slug" }), 400);
    expectProblem(await server.operator.get("/v1/tenants/nobody"), 404, "not-found");
    expectProblem(await server.operator.patch("/v1/tenants/default", {}), 400);
    expectProblem(await api.delete(`/v1/admin/api-keys/${UUID}`), 404, "not-found");
  });

  test("405 says what the path takes", async () => {
    const paths = [
      ["DELETE", "/v1/logs", "GET, HEAD, POST"],
      ["PATCH", "/api/v1/admin/verify-chain?x=1", "POST"],
      ["PUT", `/v1/logs/${UUID}`, "GET, HEAD"],
      ["POST", "/v1/tenants/default/", "GET, HEAD, PATCH"],
      ["GET", `/v1/admin/api-keys/${UUID}`, "DELETE"],
      ["DELETE", `/v1/admin/verifications/${UUID}`, "GET, HEAD"],
    ] as const;
    for (const [method, path, allowed] of paths) {
      const answer = await server.operator.send(method, path);
      expectProblem(answer, 405, "method-not-allowed");
      expect([path, answer.headers.allow]).toEqual([path, allowed]);
    }
    expect((await server.operator.send("PUT", "/v1/tenants/a/b")).status).toBe(404);
  });

  test("401 says how to authenticate", async () => {
    for (const headers of [
      {},
      { authorization: "Bearer tally_wrong" },
      { authorization: "Basic dTpw" },
      { authorization: "Bearer" },
      { "x-api-key": "wrong" },
      { "x-admin-token": "wrong" },
      { "x-admin-token": "" },
      { authorization: `Bearer ${server.credentials.api_key}`, "x-admin-token": "wrong" },
    ] satisfies Headers[]) {
      const answer = await server.api.as(headers).get("/v1/logs");
      expectProblem(answer, 401, "unauthenticated");
      expect(answer.headers["www-authenticate"]).toMatch(/^Bearer/);
      expectProblem(await server.api.as(headers).post("/v1/logs", event()), 401, "unauthenticated");
    }
  });

  test("a key is taken as Bearer and as X-API-Key", async () => {
    const { api_key } = server.credentials;
    expect((await server.api.as({ "x-api-key": api_key }).get("/v1/logs")).status).toBe(200);
    expect((await server.api.as({ authorization: `bearer ${api_key}` }).get("/v1/logs")).status).toBe(200);
  });
});

describe("scopes", () => {
  test("each route takes its own scope and no other", async () => {
    const { tenant } = await newTenant();
    const { id } = await (await apiOf(tenant.slug)).record(event());
    const routes: [scope: string, method: string, path: string, body?: unknown][] = [
      ["write", "POST", "/v1/logs", event()],
      ["write", "POST", "/api/v1/logs", event()],
      ["write", "POST", "/audit-log", event()],
      ["write", "POST", "/v1/logs/bulk", [event()]],
      ["read", "GET", "/v1/logs"],
      ["read", "GET", "/api/v1/logs"],
      ["read", "GET", "/audit-log"],
      ["read", "GET", `/v1/logs/${id}`],
      ["verify", "POST", "/v1/admin/verify-chain"],
      ["verify", "GET", "/v1/admin/verifications"],
      ["admin", "GET", "/v1/admin/api-keys"],
      ["admin", "POST", "/v1/admin/api-keys", { name: "x", scopes: ["read"] }],
      ["admin", "DELETE", `/v1/admin/api-keys/${UUID}`],
      ["admin", "GET", "/v1/tenants"],
      ["operator", "POST", "/v1/tenants", { slug: "scope" }],
      ["admin", "GET", `/v1/tenants/${tenant.slug}`],
      ["operator", "PATCH", `/v1/tenants/${tenant.slug}`, { status: "active" }],
    ];
    for (const scope of TENANT_SCOPES) {
      const api = await apiOf(tenant.slug, { scopes: [scope] });
      for (const [needed, method, path, body] of routes) {
        const answer = await api.send<Problem>(method, path, body);
        const what = `${scope} ${method} ${path}: ${answer.text}`;
        if (scope !== needed) {
          expect(answer.status, what).toBe(403);
          expect(expectProblem(answer, 403, "forbidden").detail).toContain(`"${needed}"`);
        } else if (method === "DELETE") {
          expect(answer.status, what).toBe(404);
        } else {
          expect([200, 201], what).toContain(answer.status);
        }
      }
    }
    // The operator may do all of it.
    const operator = server.operator.with({ "x-tenant-id": tenant.slug });
    for (const [, method, path, body] of routes) {
      const answer = await operator.send<Problem>(method, path, body);
      expect([200, 201, 404], `${method} ${path}: ${answer.text}`).toContain(answer.status);
    }
  });

  test("operator is a scope of the operator's own keys only, which act across tenants and write to no log of theirs", async () => {
    const body = { name: "x", scopes: ["operator"] };
    expect(paths(expectProblem(await server.api.post("/v1/admin/api-keys", body), 403))).toEqual(["/scopes"]);
    const { secret } = await newKey("_operator", body);
    const api = server.api.as({ authorization: `Bearer ${secret}` });
    const { tenant } = await newTenant();
    expect((await api.get<{ data: Tenant[] }>("/v1/tenants")).body.data).toContainEqual(tenant);
    await api.record(event(), { "x-tenant-id": tenant.slug });
    expectProblem(await api.post("/v1/logs", event(), { "x-tenant-id": "_operator" }), 403, "forbidden");
    const own = await api.get<List>("/v1/logs?action=tallystick.api_key.created", { "x-tenant-id": "_operator" });
    expect(own.body.data[0]!.event).toMatchObject({ actor: { id: "operator" }, metadata: { scopes: ["operator"] } });
  });
});

describe("API keys", () => {
  test("are made, used, listed without their secret, and revoked on every server within a second", async () => {
    const { tenant } = await newTenant();
    const key = await newKey(tenant.slug, { name: "ci", scopes: ["read", "admin"] });
    expect(key.secret).toMatch(/^tally_[0-9a-f]{40}$/);
    expect(key.secret.startsWith(key.prefix)).toBe(true);
    const api = server.api.as({ authorization: `Bearer ${key.secret}` });
    const elsewhere = other.api.as({ "x-api-key": key.secret });
    expect((await api.get("/v1/logs")).status).toBe(200);
    expect((await elsewhere.get("/v1/logs")).status).toBe(200);
    const listed = await api.get<{ data: ApiKey[] }>("/v1/admin/api-keys");
    expect(listed.text).not.toContain(key.secret);
    const { secret: _, ...shown } = key;
    expect(listed.body.data).toContainEqual(shown);

    const operator = server.operator.with({ "x-tenant-id": tenant.slug });
    const revoked = await operator.delete<ApiKey>(`/v1/admin/api-keys/${key.id}`);
    expect(revoked.body.revoked_at).toEqual(expect.any(String));
    const revokedAt = performance.now();
    expectProblem(await api.get("/v1/logs"), 401);
    await until(async () => (await elsewhere.get("/v1/logs")).status === 401, { deadlineMs: 5_000 });
    expect(performance.now() - revokedAt).toBeLessThan(2_000);
    // For good: a second time changes nothing.
    const again = await operator.delete<ApiKey>(`/v1/admin/api-keys/${key.id}`);
    expect([again.status, again.body.revoked_at]).toEqual([200, revoked.body.revoked_at]);
  });

  test("end when they expire", async () => {
    const expires = Date.now() + 1_500;
    const api = await apiOf("default", { expiresAt: new Date(expires).toISOString() });
    expect((await api.get("/v1/logs")).status).toBe(200);
    await until(async () => (await api.get("/v1/logs")).status === 401, { deadlineMs: 10_000 });
    expect(Date.now()).toBeGreaterThanOrEqual(expires);
  });

  test("refuse what is no key, naming the field", async () => {
    for (const [body, path] of [
      [{ scopes: ["read"] }, "/name"],
      [{ name: "x" }, "/scopes"],
      [{ name: "x", scopes: [] }, "/scopes"],
      [{ name: "x", scopes: ["read", "read"] }, "/scopes"],
      [{ name: "x", scopes: ["root"] }, "/scopes/0"],
      [{ name: "", scopes: ["read"] }, "/name"],
      [{ name: "x", scopes: ["read"], expires_at: "tomorrow" }, "/expires_at"],
      [{ name: "x", scopes: ["read"], expires_at: "2020-01-01T00:00:00Z" }, "/expires_at"],
      [{ name: "x", scopes: ["read"], service_id: "" }, "/service_id"],
      [{ name: "x", scopes: ["read"], service: "orders" }, "/service"],
    ] as const) {
      expect(paths(expectProblem(await server.api.post("/v1/admin/api-keys", body), 400))).toEqual([path]);
    }
    const reserved = { name: "x", scopes: ["read"], service_id: "tallystick-x" };
    expectProblem(await server.api.post("/v1/admin/api-keys", reserved), 403, "reserved-name");
  });

  test("bound to a service write for it and for no other", async () => {
    const { tenant } = await newTenant();
    const api = await apiOf(tenant.slug, { serviceId: "orders" });
    const { id } = await api.record(event());
    await api.record(event({ service_id: "orders" }));
    expect((await api.get<ListedEntry>(`/v1/logs/${id}`)).body.service.id).toBe("orders");
    expect(paths(expectProblem(await api.post("/v1/logs", event({ service_id: "billing" })), 403))).toEqual([
      "/service_id",
    ]);
    const bulk = await api.post("/v1/logs/bulk", [event(), event({ service_id: "billing" })]);
    expect(paths(expectProblem(bulk, 403))).toEqual(["/1/service_id"]);
    expect(await logSize(api)).toBe(2);
  });
});

describe("tenants", () => {
  test("are made, listed, found by id and slug, and renamed", async () => {
    const { tenant } = await newTenant("tenants-1");
    expect(tenant).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      slug: "tenants-1",
      name: "tenants-1",
      status: "active",
      settings: {},
      created_at: expect.stringMatching(/\.\d{6}Z$/),
    });
    const { body } = await server.operator.get<{ data: Tenant[] }>("/v1/tenants");
    expect(body.data).toContainEqual(tenant);
    for (const name of [tenant.id, tenant.slug]) {
      expect((await server.operator.get<Tenant>(`/v1/tenants/${name}`)).body).toEqual(tenant);
    }
    const renamed = await server.operator.patch<Tenant>(`/v1/tenants/${tenant.id}`, { name: "One" });
    expect(renamed.body).toEqual({ ...tenant, name: "One" });
  });

  test("that are suspended or inactive read and do not write, on every server, until they are active again", async () => {
    const { tenant, api } = await newTenant();
    const elsewhere = other.api.as(api.headers);
    await api.record(event());
    await elsewhere.record(event());
    for (const status of ["suspended", "inactive"]) {
      await server.operator.patch(`/v1/tenants/${tenant.slug}`, { status });
      expectProblem(await api.post("/v1/logs", event()), 403, "forbidden");
      expectProblem(await api.post("/v1/logs/bulk", [event()]), 403, "forbidden");
      const operator = server.operator.with({ "x-tenant-id": tenant.slug });
      expectProblem(await operator.post("/v1/logs", event()), 403, "forbidden");
      await until(async () => (await elsewhere.post("/v1/logs", event())).status === 403, { deadlineMs: 5_000 });
      const { body } = await api.get<List>("/v1/logs");
      expect((await api.get(`/v1/logs/${body.data[0]!.id}`)).status).toBe(200);
      await server.operator.patch(`/v1/tenants/${tenant.slug}`, { status: "active" });
      await api.record(event());
      await until(async () => (await elsewhere.post("/v1/logs", event())).status === 201, { deadlineMs: 5_000 });
    }
  });

  test("are the operator's choice by header, parameter and body, else default", async () => {
    const { tenant, api } = await newTenant();
    const { operator } = server;
    const heads = [
      await operator.record(event(), { "x-tenant-id": tenant.slug }),
      await operator.record(event(), { "x-tenant-id": tenant.id }),
      await operator.record(event(), { "x-tenant-id": tenant.id.toUpperCase() }),
      (await operator.post<Head>(`/v1/logs?tenant_id=${tenant.slug}`, event())).body,
      await operator.record(event({ tenant_id: tenant.slug })),
      await operator.record(event({ organizationId: tenant.id })),
      ...(await operator.recordAll([event({ tenant_id: tenant.slug }), event({ tenant_id: tenant.id })])),
    ];
    expect(heads.map(({ seq }) => seq)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const ids = heads.map(({ id }) => id).reverse();
    for (const [path, headers] of [
      [`/v1/logs?tenant_id=${tenant.slug}`, {}],
      ["/v1/logs", { "x-tenant-id": tenant.slug }],
    ] as const) {
      expect((await operator.get<List>(path, headers)).body.data.map(({ id }) => id)).toEqual(ids);
    }
    expect((await api.get<List>("/v1/logs")).body.data.map(({ id }) => id)).toEqual(ids);
    const { id } = await operator.record(event());
    expect((await server.api.get<ListedEntry>(`/v1/logs/${id}`)).status).toBe(200);
    expectProblem(await operator.post("/v1/logs", event({ tenant_id: "nobody" })), 404);
    const two = [event({ tenant_id: tenant.slug }), event({ tenant_id: "default" })];
    expect(paths(expectProblem(await operator.post("/v1/logs/bulk", two), 400))).toEqual(["/1/tenant_id"]);
  });

  test("that the operator names twice have to be the same", async () => {
    const { tenant } = await newTenant();
    const headers = { "x-tenant-id": "default" };
    for (const answer of [
      await server.operator.get(`/v1/logs?tenant_id=${tenant.slug}`, headers),
      await server.operator.post(`/v1/logs?tenant_id=${tenant.slug}`, event(), headers),
      await server.operator.post("/v1/logs", event({ tenant_id: tenant.slug }), headers),
    ]) {
      expect(paths(expectProblem(answer, 400))).toEqual([expect.stringMatching(/tenant_id$/)]);
    }
    const both = { "x-tenant-id": tenant.slug };
    expect((await server.operator.get(`/v1/logs?tenant_id=${tenant.id}`, both)).status).toBe(200);
  });

  test("beside a key the admin token adds rights, and the tenant stays the key's", async () => {
    const { tenant, api } = await newTenant();
    const both = api.with({ "x-admin-token": server.credentials.admin_token });
    const { id } = await both.record(event());
    expect((await api.get(`/v1/logs/${id}`)).status).toBe(200);
    expect((await both.get("/v1/tenants")).status).toBe(200);
    expectProblem(await both.get("/v1/logs", { "x-tenant-id": "default" }), 403);
    for (const named of ["default", (await newTenant()).tenant.id]) {
      expectProblem(await both.post("/v1/logs", event({ tenant_id: named })), 403, "forbidden");
      expectProblem(await both.post("/v1/logs/bulk", [event({ tenant_id: named })]), 403, "forbidden");
    }
    await both.record(event({ tenant_id: tenant.slug }));
    expect((await both.get("/v1/logs", { "x-tenant-id": tenant.slug })).status).toBe(200);
  });

  test("named by someone else's key are a 403, whichever way", async () => {
    const { tenant, api } = await newTenant();
    const foreign = await newTenant();
    for (const named of [foreign.tenant.id, foreign.tenant.slug, "nobody"]) {
      for (const answer of [
        await api.get(`/v1/logs?tenant_id=${named}`),
        await api.get("/v1/logs", { "x-tenant-id": named }),
        await api.get(`/v1/logs?tenant_id=${named}`, { "x-tenant-id": tenant.slug }),
        await api.post(`/v1/logs?tenant_id=${named}`, event()),
        await api.post("/v1/logs", event(), { "x-tenant-id": named }),
        await api.post("/v1/logs", event({ tenant_id: named })),
        await api.post("/v1/logs", event({ organization_id: named })),
        await api.post("/v1/logs/bulk", [event(), event({ tenantId: named })]),
        await api.get(`/v1/admin/api-keys?tenant_id=${named}`),
      ]) {
        expectProblem(answer, 403, "forbidden");
      }
    }
    expect(await logSize(api)).toBe(0);
    expect(await logSize(foreign.api)).toBe(0);
    for (const own of [tenant.id, tenant.slug]) await api.record(event({ tenant_id: own }), { "x-tenant-id": own });
  });

  test("do not see each other on any way of reading", async () => {
    const [one, two] = [await newTenant(), await newTenant()];
    const ours = await one.api.recordAll(Array.from({ length: 5 }, () => event({ context: { ip: "192.0.2.1" } })));
    const theirs = await two.api.recordAll([event({ context: { ip: "192.0.2.1" } })]);
    for (const query of ["", "?actor_id=alice", "?ip=192.0.2.1", "?action=user.*", "?order=asc", "?from=2000-01-01"]) {
      const seen = (await two.api.get<List>(`/v1/logs${query}`)).body.data.map(({ id }) => id);
      expect(seen, query).toEqual(theirs.map(({ id }) => id));
    }
    for (const { id } of ours) expectProblem(await two.api.get(`/v1/logs/${id}`), 404, "not-found");
    const page = await one.api.get<List>("/v1/logs?limit=2");
    expectProblem(await two.api.get(`/v1/logs?limit=2&cursor=${page.body.next_cursor}`), 400, "invalid-cursor");
    const key = await newKey(one.tenant.slug, { name: "only one's" });
    expect((await two.api.get("/v1/admin/api-keys")).text).not.toContain(key.id);
    expectProblem(await two.api.delete(`/v1/admin/api-keys/${key.id}`), 404);
    expect((await server.api.as({ "x-api-key": key.secret }).get("/v1/logs")).status).toBe(200);
    // Idempotency keys, too, are each tenant's own.
    const first = await one.api.record(event({ idempotency_key: "k", reason: "one" }));
    const second = await two.api.record(event({ idempotency_key: "k", reason: "two" }));
    expect([first.duplicate, second.duplicate]).toEqual([false, false]);
  });
});

describe("POST /v1/logs/bulk", () => {
  const lines = (events: readonly unknown[]) => events.map((one) => JSON.stringify(one)).join("\n");

  test("takes an object, an array and NDJSON, and answers in order", async () => {
    const { api } = await newTenant();
    const events = Array.from({ length: 7 }, (_, index) => event({ reason: `${index}` }));
    const ndjson = { "content-type": "application/x-ndjson" };
    const answers = [
      await api.post<{ data: Head[] }>("/v1/logs/bulk", { events }),
      await api.post<{ data: Head[] }>("/v1/logs/bulk", events),
      await api.post<{ data: Head[] }>("/v1/logs/bulk", lines(events), ndjson),
      await api.post<{ data: Head[] }>(
        "/v1/logs/bulk",
        `\r\n${lines(events).replaceAll("\n", "\r\n")}\r\n\r\n`,
        ndjson,
      ),
    ];
    for (const [turn, { status, body }] of answers.entries()) {
      expect(status).toBe(201);
      expect(body.data.map(({ seq }) => seq)).toEqual(events.map((_, index) => turn * 7 + index));
    }
    const entries = await api.listAll({ order: "asc" });
    expect(entries.map((entry) => entry.event)).toEqual([...events, ...events, ...events, ...events]);
    expect(entries.map(({ id }) => id)).toEqual(answers.flatMap(({ body }) => body.data.map(({ id }) => id)));
  });

  test("takes 5,000 events and not 5,001, in any form", async () => {
    const { api } = await newTenant();
    const events = new Array(5_001).fill(event());
    const ndjson = { "content-type": "application/x-ndjson" };
    for (const answer of [
      await api.post("/v1/logs/bulk", { events }),
      await api.post("/v1/logs/bulk?partial=true", events),
      await api.post("/v1/logs/bulk", lines(events), ndjson),
    ]) {
      expect(expectProblem(answer, 413, "too-large").detail).toMatch(/5,?000/);
    }
    expectProblem(await api.post("/v1/logs/bulk", " ".repeat(16 * 1024 * 1024 + 1)), 413, "too-large");
    expect(await logSize(api)).toBe(0);
    expect((await api.post("/v1/logs/bulk", events.slice(1))).status).toBe(201);
    expect(await logSize(api)).toBe(5_000);
  });

  test("stores nothing where one event is refused, and names it", async () => {
    const { api } = await newTenant();
    await api.record(event({ idempotency_key: "used", reason: "first" }));
    const good = event();
    const refused: [unknown, number, string[]][] = [
      [[good, event({ outcome: "maybe" }), good], 400, ["/1/outcome"]],
      [{ events: [good, event({ outcome: "maybe" }), good] }, 400, ["/events/1/outcome"]],
      [[good, good, event({ action: undefined })], 400, ["/2/action"]],
      [[good, 7], 400, ["/1"]],
      [[event({ service_id: "tallystick" }), good], 403, ["/0/service_id"]],
      [[good, event({ metadata: { x: "y".repeat(66_000) } })], 413, ["/1"]],
      [[good, event({ idempotency_key: "used" })], 422, ["/1"]],
      [[event({ idempotency_key: "a" }), good, event({ idempotency_key: "a", reason: "b" })], 422, ["/2"]],
      ['[{"action":"a","actor":{"id":"b"}},{"action":"a","action":"a","actor":{"id":"b"}}]', 400, ["/1/action"]],
      ["[", 400, ["/0"]],
      [[], 400, ["/events"]],
      [{ events: [] }, 400, ["/events"]],
      [{}, 400, [""]],
      [{ event: [good] }, 400, [""]],
      ["null", 400, [""]],
    ];
    for (const [body, status, errors] of refused) {
      const answer = await api.post("/v1/logs/bulk", body);
      expect(paths(expectProblem(answer, status)), answer.text).toEqual(errors);
    }
    expectProblem(await api.post("/v1/logs/bulk", [good], { "idempotency-key": "x" }), 400);
    expectProblem(await api.post("/v1/logs/bulk?partial=yes", [good]), 400);
    expect(await logSize(api)).toBe(1);
  });

  test("with partial=true records the good ones, and answers each in its place", async () => {
    const { api } = await newTenant();
    await api.record(event({ idempotency_key: "used", reason: "first" }));
    const items = [
      JSON.stringify(event({ reason: "0" })),
      "{",
      JSON.stringify(event({ outcome: "maybe" })),
      JSON.stringify(event({ idempotency_key: "used", reason: "first" })),
      JSON.stringify(event({ idempotency_key: "used" })),
      JSON.stringify(event({ metadata: { x: "y".repeat(66_000) } })),
      JSON.stringify(event({ idempotency_key: "new" })),
      JSON.stringify(event({ idempotency_key: "new" })),
      JSON.stringify(event({ service_id: "tallystick" })),
      JSON.stringify(event({ reason: "9" })),
    ];
    type Result = Head | Problem;
    const answer = await api.post<{ data: Result[] }>("/v1/logs/bulk?partial=true", items.join("\n"), {
      "content-type": "application/x-ndjson",
    });
    expect(answer.status).toBe(207);
    const summary = answer.body.data.map((item) =>
      "status" in item ? [item.status, paths(item)[0]] : [item.seq, item.duplicate],
    );
    expect(summary).toEqual([
      [1, false],
      [400, "/1"],
      [400, "/2/outcome"],
      [0, true],
      [422, "/4"],
      [413, "/5"],
      [2, false],
      [2, true],
      [403, "/8/service_id"],
      [3, false],
    ]);
    expect(await logSize(api)).toBe(4);
    const none = await api.post<{ data: Result[] }>("/v1/logs/bulk?partial=true", [1, 2]);
    expect([none.status, none.body.data.length]).toEqual([207, 2]);
  });
});

describe("idempotency", () => {
  test("the same key and body get the first answer, another body a 422", async () => {
    const { api } = await newTenant();
    const personal = event({ actor: { id: "alice", email: "a@example.com" }, context: { ip: "192.0.2.1" } });
    const first = await api.record({ ...personal, idempotency_key: "k1" });
    expect(first.duplicate).toBe(false);
    for (const again of [
      await api.record({ ...personal, idempotency_key: "k1" }),
      await api.record({ idempotencyKey: "k1", ...personal }),
      await api.record({ ...personal, idempotency_key: "k1" }, { "idempotency-key": "k1" }),
      await other.api.as(api.headers).record({ ...personal, idempotency_key: "k1" }),
    ]) {
      expect(again).toEqual({ ...first, duplicate: true });
    }
    const changed = { ...personal, idempotency_key: "k1", reason: "other" };
    expectProblem(await api.post("/v1/logs", changed), 422, "key-reused");
    expect(await logSize(api)).toBe(1);
  });

  test("the header is as good as the body", async () => {
    const { api } = await newTenant();
    const first = await api.record(event(), { "idempotency-key": "k2" });
    expect(await api.record(event(), { "idempotency-key": "k2" })).toEqual({ ...first, duplicate: true });
    expectProblem(await api.post("/v1/logs", event({ reason: "x" }), { "idempotency-key": "k2" }), 422, "key-reused");
    const both = await api.post("/v1/logs", event({ idempotency_key: "k3" }), { "idempotency-key": "k4" });
    expect(paths(expectProblem(both, 400))).toEqual(["/idempotency_key"]);
    expectProblem(await api.post("/v1/logs", event(), { "idempotency-key": "x".repeat(129) }), 400);
    expect(await logSize(api)).toBe(1);
  });

  test("keys are each service's own", async () => {
    const { api } = await newTenant();
    const heads = [
      await api.record(event({ idempotency_key: "k", service_id: "a" })),
      await api.record(event({ idempotency_key: "k", service_id: "b", reason: "x" })),
      await api.record(event({ idempotency_key: "k", reason: "y" })),
    ];
    expect(heads.map(({ seq, duplicate }) => [seq, duplicate])).toEqual([
      [0, false],
      [1, false],
      [2, false],
    ]);
  });

  test("of many at once, on two servers, one is recorded", async () => {
    const { api } = await newTenant();
    const elsewhere = other.api.as(api.headers);
    for (let round = 0; round < 10; round++) {
      const heads = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          (index % 2 === 0 ? api : elsewhere).record(event({ idempotency_key: `round-${round}` })),
        ),
      );
      expect(new Set(heads.map(({ id, seq }) => `${id} ${seq}`)).size).toBe(1);
      expect(heads.filter(({ duplicate }) => !duplicate).length).toBe(1);
    }
    expect(await logSize(api)).toBe(10);
  });
});

describe("X-Admin-Token", () => {
  test("a JSON body without a JSON content type is still read", async () => {
    for (const type of ["", "application/x-www-form-urlencoded", "text/plain"]) {
      await server.operator.record(event(), { "content-type": type });
      expectProblem(await server.api.post("/v1/logs", event(), { "content-type": type }), 415);
      const tenant = { slug: `typed-${made++}` };
      expect((await server.operator.post("/v1/tenants", tenant, { "content-type": type })).status).toBe(201);
    }
  });
});

describe("GET /v1/logs", () => {
  test("refuses what it does not understand, by name", async () => {
    const { api } = server;
    for (const [query, errors] of [
      ["actor=alice", ["actor"]],
      ["actor_id=alice&limt=3", ["limt"]],
      ["limit=0", ["limit"]],
      ["limit=1001", ["limit"]],
      ["limit=-1", ["limit"]],
      ["limit=ten", ["limit"]],
      ["limit=1e2", ["limit"]],
      ["limit=", ["limit"]],
      ["limit=5&limit=6", ["limit"]],
      ["order=up", ["order"]],
      ["outcome=maybe", ["outcome"]],
      ["severity=info", ["severity"]],
      ["operation=READ", ["operation"]],
      ["actor_type=human", ["actor_type"]],
      ["actor_id=", ["actor_id"]],
      ["actor_id=a&actor_id=", ["actor_id"]],
      ["ip=1.2.3", ["ip"]],
      ["ip=192.0.2.1/24", ["ip"]],
      ["ip=192.0.2.0/33", ["ip"]],
      ["q=actor:", ["q"]],
      ["q=a&q=b", ["q"]],
      ["action=**", ["action"]],
      ["from=yesterday", ["from"]],
      ["from=2026-02-30", ["from"]],
      ["to=2026-13-01", ["to"]],
      ["to=2026-01-01T00:00:00", ["to"]],
      ["occurred_from=1", ["occurred_from"]],
      ["occurred_to=x", ["occurred_to"]],
      ["cursor=", ["cursor"]],
      ["cursor=abc", ["cursor"]],
      ["from=x&to=y&ip=z", ["from", "ip", "to"]],
    ] as const) {
      const answer = await api.get(`/v1/logs?${query}`);
      expect([...new Set(paths(expectProblem(answer, 400)))], query).toEqual(errors);
    }
  });

  test("applies defaults when filtering, and fills in nothing when answering", async () => {
    const { api } = await newTenant();
    const plain = await api.record(event());
    const told = await api.record(
      event({
        actor: { id: "alice", type: "user" },
        outcome: "success",
        severity: "INFO",
        occurred_at: "2020-01-01T00:00:00Z",
      }),
    );
    await api.record(event({ actor: { id: "x", type: "service" }, outcome: "failure", severity: "ERROR" }));
    for (const query of ["actor_type=user", "outcome=success", "severity=INFO", "outcome=success&severity=INFO"]) {
      const { body } = await api.get<List>(`/v1/logs?order=asc&${query}`);
      expect(
        body.data.map(({ id }) => id),
        query,
      ).toEqual([plain.id, told.id]);
      expect(body.data[0]!.event).toEqual(event());
    }
    const at = plain.recorded_at;
    const now = await api.get<List>(
      `/v1/logs?order=asc&occurred_from=${at}&occurred_to=${at.replace("Z", "9Z")}&actor_id=alice`,
    );
    expect(now.status, now.text).toBe(200);
    const occurred = await api.get<List>(`/v1/logs?order=asc&occurred_from=${at}`);
    expect(occurred.body.data.map(({ seq }) => seq)).toEqual([0, 2]);
  });

  test("bare dates: from is the day's start, to includes the day", async () => {
    const { api } = await newTenant();
    for (const occurred_at of [
      "2024-02-28T23:59:59.999999Z",
      "2024-02-29T00:00:00Z",
      "2024-02-29T23:59:59.999999Z",
      "2024-03-01T00:00:00Z",
    ]) {
      await api.record(event({ occurred_at }));
    }
    const found = async (query: string) =>
      (await api.listAll({ order: "asc", ...Object.fromEntries(new URLSearchParams(query)) })).map(({ seq }) => seq);
    expect(await found("occurred_from=2024-02-29")).toEqual([1, 2, 3]);
    expect(await found("occurred_to=2024-02-29")).toEqual([0, 1, 2]);
    expect(await found("occurred_from=2024-02-29&occurred_to=2024-02-29")).toEqual([1, 2]);
    expect(await found("occurred_from=2024-02-29T00:00:00Z&occurred_to=2024-02-29T00:00:00Z")).toEqual([]);
    expect(await found("occurred_from=2024-03-01T01:00:00%2B01:00")).toEqual([3]);
    expect(await found("occurred_to=9999-12-31")).toEqual([0, 1, 2, 3]);
    expect(await found("occurred_from=0001-01-01&to=9999-12-31")).toEqual([0, 1, 2, 3]);
    const today = (await api.get<List>("/v1/logs?limit=1")).body.data[0]!.recorded_at.slice(0, 10);
    expect(await found(`from=${today}&to=${today}`)).toEqual([0, 1, 2, 3]);
    expect(await found("to=2020-01-01")).toEqual([]);
    expect(await found("from=2999-01-01")).toEqual([]);
  });

  test("takes every address that is the same address", async () => {
    const { api } = await newTenant();
    await api.recordAll(["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2"].map((ip) => event({ ip })));
    for (const [ip, expected] of [
      ["192.0.2.1", [0, 1]],
      ["::ffff:c000:201", [0, 1]],
      ["2001:DB8:0:0::1", [2]],
      ["2001:0db8:0000:0000:0000:0000:0000:0002", [3]],
      ["::1", []],
    ] as const) {
      const entries = await api.listAll({ ip, order: "asc" });
      expect(entries.map(({ seq }) => seq)).toEqual(expected);
      for (const entry of entries) expect(entry.event.context).toEqual({ ip: expect.stringMatching(/^(192|2001)/) });
    }
  });

  test.each(["asc", "desc"] as const)(
    "pages (%s) skip nothing and repeat nothing while the log grows",
    async (order) => {
      const { api } = await newTenant();
      const record = (count: number) =>
        api.recordAll(Array.from({ length: count }, () => event({ actor: { id: "g" } })));
      await record(50);
      const seen: number[] = [];
      let path: string | undefined = `/v1/logs?order=${order}&limit=7&actor_id=g`;
      let writes = 0;
      while (path !== undefined) {
        const page: Answer<List> = await api.get<List>(path);
        seen.push(...page.body.data.map(({ seq }) => seq));
        if (writes < 10) await record(3);
        writes++;
        const link: string | undefined = page.headers.link as string | undefined;
        expect(link?.includes('rel="next"') ?? false).toBe(page.body.next_cursor !== null);
        path = /<([^>]+)>; rel="next"/.exec(link ?? "")?.[1];
      }
      // Newest first: what there was at the first page. Oldest first: what is recorded meanwhile comes at the end.
      const expected =
        order === "desc" ? Array.from({ length: 50 }, (_, i) => 49 - i) : Array.from({ length: 80 }, (_, i) => i);
      expect(seen).toEqual(expected);
    },
  );

  test("Link leads to the next page with the same filters, and is absent on the last", async () => {
    const { api } = await newTenant();
    await api.recordAll(Array.from({ length: 3 }, () => event({ actor: { id: "a&b=c ü" } })));
    const query = new URLSearchParams({ actor_id: "a&b=c ü", limit: "2" });
    const first = await api.get<List>(`/audit-log?${query}`);
    const next = /^<(.+)>; rel="next"$/.exec(String(first.headers.link))![1]!;
    const second = await api.get<List>(next);
    expect(second.body.data.map(({ seq }) => seq)).toEqual([0]);
    expect(second.body.next_cursor).toBeNull();
    const back = /^<(.+)>; rel="prev"$/.exec(String(second.headers.link))![1]!;
    expect((await api.get<List>(back)).body.data).toEqual(first.body.data);
    // A page that holds all there is has no next one.
    const whole = await api.get<List>("/v1/logs?limit=3");
    expect([whole.headers.link, whole.body.next_cursor, whole.body.prev_cursor]).toEqual([undefined, null, null]);
  });

  test("refuses a cursor that is edited, or another list's", async () => {
    const { api } = await newTenant();
    await api.recordAll(Array.from({ length: 9 }, () => event()));
    const cursor = (await api.get<List>("/v1/logs?limit=2&actor_id=alice")).body.next_cursor!;
    for (const query of [
      "",
      "actor_id=bob",
      "actor_id=alice&order=asc",
      "actor_id=alice&outcome=success",
      "action=user.login",
    ]) {
      const answer = await api.get(`/v1/logs?limit=2&cursor=${cursor}&${query}`);
      expect(paths(expectProblem(answer, 400, "invalid-cursor")), query).toEqual(["cursor"]);
    }
    const text = Buffer.from(cursor, "base64url").toString("latin1");
    for (const edited of [
      `${cursor}=`,
      `${cursor}A`,
      cursor.slice(0, -1),
      `.${cursor}`,
      Buffer.from(`${text}0000000000000000000`).toString("base64url"),
      Buffer.from(`9${text}`).toString("base64url"),
      Buffer.from(text.replace(/\..*\./, ".AAAAAAAAAAAAAAAA.")).toString("base64url"),
      ...["0", "99999", "-1", "1e3", "1; drop table x"].map((seq) =>
        Buffer.from(text.replace(/next\.\d+/, `next.${seq}`)).toString("base64url"),
      ),
      Buffer.from(text.replace("next", "prev")).toString("base64url"),
      "x".repeat(10_000),
    ]) {
      const answer = await api.get(`/v1/logs?limit=2&actor_id=alice&cursor=${edited}`);
      expect(paths(expectProblem(answer, 400)), edited).toEqual(["cursor"]);
    }
  });

  test("pages go forth and back over the same entries, whatever is recorded meanwhile", async () => {
    const { api } = await newTenant();
    await api.recordAll(Array.from({ length: 20 }, () => event()));
    for (const order of ["desc", "asc"]) {
      const pages: List[] = [(await api.get<List>(`/v1/logs?limit=6&order=${order}`)).body];
      for (let cursor = pages[0]!.next_cursor; cursor !== null; cursor = pages.at(-1)!.next_cursor) {
        pages.push((await api.get<List>(`/v1/logs?limit=6&order=${order}&cursor=${cursor}`)).body);
      }
      expect(pages.length).toBe(order === "desc" ? 4 : 5);
      await api.recordAll(Array.from({ length: 5 }, () => event()));
      let page = pages.at(-1)!;
      for (const expected of pages.slice(0, -1).reverse()) {
        page = (await api.get<List>(`/v1/logs?limit=6&order=${order}&cursor=${page.prev_cursor}`)).body;
        expect(page.data).toEqual(expected.data);
        expect(page.next_cursor).not.toBeNull();
      }
      // Newest first, what was recorded meanwhile stands before the first page; oldest first, nothing does.
      expect(page.prev_cursor === null).toBe(order === "asc");
    }
  });

  test("order=rank puts first what has the words in the more telling place, on one page", async () => {
    const { api } = await newTenant();
    await api.recordAll([
      event({ action: "refund.pay" }),
      event({ metadata: { note: "refund" } }),
      event({ description: "a refund" }),
      event(),
    ]);
    const { body } = await api.get<List>("/v1/logs?q=refund&order=rank&limit=2");
    expect(body.data.map(({ seq }) => seq)).toEqual([0, 2]);
    expect([body.next_cursor, body.prev_cursor]).toEqual([null, null]);
    expect(paths(expectProblem(await api.get("/v1/logs?order=rank&actor_id=a"), 400))).toEqual(["order"]);
    const { next_cursor } = (await api.get<List>("/v1/logs?q=refund&limit=1")).body;
    const answer = await api.get(`/v1/logs?q=refund&order=rank&cursor=${next_cursor}`);
    expect(paths(expectProblem(answer, 400))).toEqual(["cursor"]);
  });

  test("POST /v1/logs/search is the same list, and names what is wrong by its place in the body", async () => {
    const { api } = await newTenant();
    await api.recordAll(Array.from({ length: 3 }, (_, i) => event({ actor: { id: `u-${i}` }, reason: `Gold ${i}` })));
    const found = await api.post<List>("/v1/logs/search", {
      search_text: "gold -actor:u-2",
      filters: { actor_id: ["u-1", "u-2", "u-0"], outcome: "success" },
      limit: 1,
    });
    expect(found.status, found.text).toBe(200);
    expect(found.body.data.map(({ seq }) => seq)).toEqual([1]);
    const next = await api.post<List>("/v1/logs/search", {
      search_text: "gold -actor:u-2",
      filters: { actor_id: ["u-1", "u-2", "u-0"], outcome: "success" },
      cursor: found.body.next_cursor,
    });
    expect(next.body.data.map(({ seq }) => seq)).toEqual([0]);
    for (const [body, wrong] of [
      [{ search_text: "actor:" }, "/search_text"],
      [{ filters: { ip: "10.0.0.1/8" } }, "/filters/ip"],
      [{ filters: { actor: "a" } }, "/filters/actor"],
      [{ filters: { q: "a" } }, "/filters/q"],
      [{ filters: { from: "yesterday" } }, "/filters/from"],
      [{ limit: 0 }, "/limit"],
      [{ cursor: "abc" }, "/cursor"],
      [{ order: "up" }, "/order"],
    ] as const) {
      expect(paths(expectProblem(await api.post("/v1/logs/search", body), 400)), wrong).toEqual([wrong]);
    }
  });

  test("one entry is found by its id alone, in either case of letters", async () => {
    const { api } = await newTenant();
    const heads = await api.recordAll(Array.from({ length: 20 }, () => event()));
    for (const { id, seq } of heads) {
      expect((await api.get<ListedEntry>(`/v1/logs/${id.toUpperCase()}`)).body.seq).toBe(seq);
    }
    const near = heads[0]!.id.replace(/.$/, (last) => (last === "0" ? "1" : "0"));
    for (const id of [
      near,
      UUID,
      "00000000-0000-0000-0000-000000000000",
      "ffffffff-ffff-ffff-ffff-ffffffffffff",
      "01a20000-0000-4000-8000-000000000000",
    ]) {
      expectProblem(await api.get(`/v1/logs/${id}`), 404, "not-found");
    }
    for (const id of ["x", "0", "default", `${UUID}0`, `{${UUID}}`, "%00", "..%2f", "x".repeat(300)]) {
      expect([400, 404, 414], id).toContain((await api.get(`/v1/logs/${id}`)).status);
    }
    expectProblem(await api.get(`/v1/logs/${heads[0]!.id}?actor_id=x`), 400);
  });
});

/** What a test recorded, to be filtered without the server. */
interface Known {
  readonly seq: number;
  readonly recorded_at: string;
  readonly event: Sent;
}

interface SentActor {
  readonly id?: string;
  readonly type?: string;
  readonly on_behalf_of?: SentActor;
}

interface SentResource {
  readonly type: string;
  readonly id?: string;
}

interface Sent {
  readonly action: string;
  readonly actor: SentActor;
  readonly resource?: SentResource;
  readonly related?: readonly SentResource[];
  readonly outcome?: string;
  readonly severity?: string;
  readonly operation?: string;
  readonly event_type?: string;
  readonly service_id?: string;
  readonly occurred_at?: string;
  readonly context?: {
    readonly ip?: string;
    readonly request_id?: string;
    readonly session_id?: string;
    readonly trace_id?: string;
  };
}

type Query = Readonly<Record<string, string>>;

const NEXT_DAY: Record<string, string> = { "2024-02-28": "2024-02-29", "2024-02-29": "2024-03-01" };

/** The specification's words on filters, once more and with nothing of the server's. */
function isFound({ event, recorded_at }: Known, query: Query): boolean {
  const { actor, context = {} } = event;
  const principals: (string | undefined)[] = [];
  for (let next = actor.on_behalf_of; next !== undefined; next = next.on_behalf_of) principals.push(next.id);
  const resources = [event.resource, ...(event.related ?? [])].filter((one) => one !== undefined);
  const occurred = event.occurred_at ?? recorded_at;
  const bound = (text: string, end: boolean) => {
    if (text.length > 10) return text;
    return `${end ? (NEXT_DAY[text] ?? "9999") : text}T00:00:00.000000Z`;
  };
  return Object.entries(query).every(([name, value]) => {
    switch (name) {
      case "actor_id":
        return actor.id === value;
      case "actor_type":
        return (actor.type ?? "user") === value;
      case "on_behalf_of_id":
        return principals.includes(value);
      case "action": {
        const pattern = value
          .split("*")
          .map((part) => part.replace(/[^a-z]/g, (sign) => `\\u{${sign.codePointAt(0)!.toString(16)}}`));
        return new RegExp(`^${pattern.join(".*")}$`, "su").test(event.action);
      }
      case "resource_type":
        return resources.some(
          ({ type, id }) => type === value && (query.resource_id === undefined || id === query.resource_id),
        );
      case "resource_id":
        return resources.some(({ id }) => id === value);
      case "outcome":
        return (event.outcome ?? "success") === value;
      case "severity":
        return (event.severity ?? "INFO") === value;
      case "operation":
        return event.operation === value;
      case "event_type":
        return event.event_type === value;
      case "service_id":
        return (event.service_id ?? "default") === value;
      case "request_id":
        return context.request_id === value;
      case "session_id":
        return context.session_id === value;
      case "trace_id":
        return context.trace_id === value;
      case "ip":
        return context.ip === value;
      case "from":
        return recorded_at >= bound(value, false);
      case "to":
        return recorded_at < bound(value, true);
      case "occurred_from":
        return occurred >= bound(value, false);
      case "occurred_to":
        return occurred < bound(value, true);
      default:
        throw new Error(`no filter ${name}`);
    }
  });
}

const IDS = ["alice", "bob", "50%_off", "back\\slash", "O'Neil", "ü ß", "a,b{}", "*"];
const ACTIONS = ["user.login", "user.logout", "user_login", "log", "50%.off", "back\\slash", "Ünï.code", "login.user"];
const TYPES = ["invoice", "order", "user"];
const SERVICES = ["orders", "billing"];
const OUTCOMES = ["success", "failure", "denied"];
const SEVERITIES = ["INFO", "WARNING", "ERROR", "CRITICAL"];
const OPERATIONS = ["CREATE", "UPDATE", "DELETE", "VIEW"];
const ACTOR_TYPES = ["user", "service", "system", "api_key", "agent", "anonymous"];
const ADDRESSES = ["192.0.2.1", "2001:db8::1"];
const OCCURRED = [
  "2024-02-28T23:59:59.999999Z",
  "2024-02-29T00:00:00.000000Z",
  "2024-02-29T23:59:59.999999Z",
  "2024-03-01T00:00:00.000000Z",
];

const oneOf = (values: readonly string[]) => fc.constantFrom(...values);
const reference = fc.record({ type: oneOf(TYPES), id: oneOf(IDS) }, { requiredKeys: ["type"] });
const someActor = fc.record({ id: oneOf(IDS), type: oneOf(ACTOR_TYPES.slice(0, 5)) }, { requiredKeys: ["id"] });
const sentEvent: fc.Arbitrary<Sent> = fc.record(
  {
    action: oneOf(ACTIONS),
    actor: fc.oneof(
      someActor,
      fc.constant({ type: "anonymous" }),
      fc.tuple(someActor, someActor, someActor).map(([one, two, three]) => ({
        ...one,
        on_behalf_of: { ...two, on_behalf_of: three },
      })),
    ),
    resource: reference,
    related: fc.array(fc.record({ type: oneOf(TYPES), id: oneOf(IDS) }), { maxLength: 2 }),
    outcome: oneOf(OUTCOMES),
    severity: oneOf(SEVERITIES),
    operation: oneOf(OPERATIONS),
    event_type: oneOf(TYPES),
    service_id: oneOf(SERVICES),
    occurred_at: oneOf(OCCURRED),
    context: fc.record(
      { ip: oneOf(ADDRESSES), request_id: oneOf(IDS), session_id: oneOf(IDS), trace_id: oneOf(IDS) },
      { requiredKeys: [] },
    ),
  },
  { requiredKeys: ["action", "actor"] },
);
const actionPattern = fc
  .tuple(oneOf(ACTIONS), fc.nat(5), fc.nat(5), fc.constantFrom("", "*"), fc.constantFrom("", "*"))
  .map(([action, start, end, before, after]) => {
    const part = action.slice(
      before === "" ? 0 : start,
      after === "" ? undefined : Math.max(start + 1, action.length - end),
    );
    return `${before}${part === "" ? "l" : part}${after}`;
  });

/** Random filters; the times are among those of the entries, and a microsecond to either side. */
function filters(recorded: readonly string[]): fc.Arbitrary<Query> {
  const instant = fc.tuple(oneOf(recorded), fc.constantFrom(-1, 0, 1)).map(([time, step]) => {
    const micros = BigInt(Date.parse(`${time.slice(0, 19)}Z`)) * 1000n + BigInt(time.slice(20, 26)) + BigInt(step);
    return `${new Date(Number(micros / 1_000_000n) * 1000).toISOString().slice(0, 19)}.${String(micros % 1_000_000n).padStart(6, "0")}Z`;
  });
  const day = oneOf(["2024-02-28", "2024-02-29"]);
  const parts: { readonly [name: string]: fc.Arbitrary<string> } = {
    actor_id: oneOf(IDS),
    actor_type: oneOf(ACTOR_TYPES),
    on_behalf_of_id: oneOf(IDS),
    action: actionPattern,
    resource_type: oneOf(TYPES),
    resource_id: oneOf(IDS),
    outcome: oneOf(OUTCOMES),
    severity: oneOf(SEVERITIES),
    operation: oneOf(OPERATIONS),
    event_type: oneOf(TYPES),
    service_id: oneOf(["default", ...SERVICES]),
    request_id: oneOf(IDS),
    session_id: oneOf(IDS),
    trace_id: oneOf(IDS),
    ip: oneOf(ADDRESSES),
    from: fc.oneof(instant, day),
    to: fc.oneof(instant, fc.constant("2024-02-29")),
    occurred_from: fc.oneof(instant, day, oneOf(OCCURRED)),
    occurred_to: fc.oneof(instant, day, oneOf(OCCURRED)),
  };
  // Each alone, and up to four together.
  return fc
    .subarray(Object.keys(parts), { minLength: 1, maxLength: 4 })
    .chain((names) => fc.record(Object.fromEntries(names.map((name) => [name, parts[name]!]))));
}

describe("GET /v1/logs finds what a plain filter finds", () => {
  test("for random events, random filters, both orders, every page", async () => {
    const { tenant, api } = await newTenant();
    const [events] = fc.sample(fc.array(sentEvent, { minLength: 600, maxLength: 600 }), {
      numRuns: 1,
      seed: 20_260_102,
    });
    const known: Known[] = [];
    for (let start = 0; start < events!.length; start += 20) {
      const batch = events!.slice(start, start + 20);
      const heads = await api.recordAll(batch);
      known.push(...heads.map(({ seq, recorded_at }, index) => ({ seq, recorded_at, event: batch[index]! })));
    }
    const recorded = [...new Set(known.map(({ recorded_at }) => recorded_at))];
    expect(recorded.length).toBe(30);
    const check = async (query: Query, order: string, limit: number) => {
      const refused: FilterError[] = [];
      filterOf(query, refused);
      if (refused.length > 0) {
        // A range that ends before it begins: never an empty list.
        expectProblem(await api.get(`/v1/logs?${new URLSearchParams(query)}`), 400);
        return;
      }
      const expected = known.filter((one) => isFound(one, query)).map(({ seq }) => seq);
      if (order === "desc") expected.reverse();
      const found = await api.listAll({ ...query, order, limit: String(limit) });
      expect(
        found.map(({ seq }) => seq),
        JSON.stringify(query),
      ).toEqual(expected);
      for (const { seq, event: read } of found.slice(0, 3)) expect(read).toEqual(known[seq]!.event);
    };
    await fc.assert(
      fc.asyncProperty(filters(recorded), oneOf(["asc", "desc"]), fc.integer({ min: 7, max: 60 }), check),
      { numRuns: 250 },
    );
    await checkLog(database.database, (await database.tenants.find(tenant.slug))!);
  });

  test("in a log of more than one block of search terms", async () => {
    const { api } = await newTenant();
    const size = 70_000; // terms change every 65,536 entries
    const known: Known[] = [];
    for (let start = 0; start < size; start += 5_000) {
      const batch = Array.from({ length: 5_000 }, (_, index): Sent => {
        const seq = start + index;
        return {
          action: seq % 9_973 === 7 ? "rare.thing" : "user.login",
          actor: { id: seq % 3 === 0 ? "alice" : "bob" },
          ...(seq % 31_000 === 5 && { outcome: "denied" }),
          ...(seq % 20_011 === 3 && { context: { request_id: "r" } }),
        };
      });
      const heads = await api.recordAll(batch);
      known.push(...heads.map(({ seq, recorded_at }, index) => ({ seq, recorded_at, event: batch[index]! })));
    }
    const middle = known[40_000]!.recorded_at;
    for (const query of [
      {},
      { actor_id: "alice" },
      { request_id: "r" },
      { action: "rare.thing" },
      { action: "rare.*" },
      { action: "*thing", actor_id: "bob" },
      { outcome: "denied" },
      { outcome: "denied", actor_id: "alice" },
      { action: "rare.thing", actor_id: "alice" },
      { action: "rare.thing", from: middle },
      { action: "rare.thing", to: middle },
      { request_id: "r", occurred_from: middle },
      { request_id: "nothing" },
      { severity: "CRITICAL" },
    ] satisfies Query[]) {
      for (const order of ["asc", "desc"]) {
        const expected = known.filter((one) => isFound(one, query)).map(({ seq }) => seq);
        if (order === "desc") expected.reverse();
        for (const limit of [2, 1_000]) {
          const maxPages = limit === 2 ? 8 : 4;
          const found = await api.listAll({ ...query, order, limit: String(limit) }, maxPages);
          expect(
            found.map(({ seq }) => seq),
            JSON.stringify(query),
          ).toEqual(expected.slice(0, limit * maxPages));
        }
      }
    }
  });
});
