/** What a new API key or certificate may be given, and by whom. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Api, List } from "../src/testing/api.ts";
import { TestCa } from "../src/testing/certificates.ts";
import { TestDatabase } from "../src/testing/log.ts";
import {
  databaseSettings,
  startTestServer,
  stopTestServers,
  type TestServer,
  temporaryDirectory,
} from "../src/testing/server.ts";

let db: TestDatabase;
let server: TestServer;
beforeAll(async () => {
  db = await TestDatabase.create();
  // Requests come as from a proxy: X-Client-Cert stands for the connection's certificate.
  server = await startTestServer({ ...databaseSettings(db), TRUSTED_PROXIES: "127.0.0.1" });
});
afterAll(async () => {
  await stopTestServers();
  await db.close();
});

const ROUTES = ["/v1/admin/api-keys", "/v1/admin/certificates"] as const;
const inTenant = (slug: string) => server.operator.with({ "x-tenant-id": slug });

async function keyOf(slug: string, more: Readonly<Record<string, unknown>>): Promise<Api> {
  const body = { name: "own", scopes: ["admin"], ...more };
  const made = await inTenant(slug).post<{ secret: string }>("/v1/admin/api-keys", body);
  expect(made.status, made.text).toBe(201);
  return server.api.as({ "x-api-key": made.body.secret });
}

async function refusal(api: Api, path: string, body: Readonly<Record<string, unknown>>) {
  const answer = await api.post(path, { name: "n", ...body });
  return [answer.status, answer.body.errors?.[0]?.path];
}

describe.each(ROUTES)("%s", (path) => {
  test('an administrator of "_operator" does not make themselves operator', async () => {
    const admin = await keyOf("_operator", { scopes: ["admin", "read"] });
    expect(await refusal(admin, path, { scopes: ["operator"] })).toEqual([403, "/scopes"]);
    const operator = await keyOf("_operator", { scopes: ["operator"] });
    const fingerprint = path.endsWith("certificates") ? { fingerprint: "12".repeat(32) } : {};
    const made = await operator
      .with({ "x-tenant-id": "_operator" })
      .post(path, { name: "n", scopes: ["operator"], ...fingerprint });
    expect(made.status, made.text).toBe(201);
  });

  test("a credential that is bound to a service gives to that service alone", async () => {
    const bound = await keyOf("default", { service_id: "orders" });
    for (const body of [{}, { service_id: "billing" }]) {
      expect(await refusal(bound, path, { scopes: ["write"], ...body })).toEqual([403, "/service_id"]);
    }
    if (path.endsWith("certificates")) return;
    expect((await bound.post(path, { name: "n", scopes: ["write"], service_id: "orders" })).status).toBe(201);
  });

  test("a suspended tenant makes none, and revokes", async () => {
    const slug = `suspended-${path.length}`;
    await server.operator.post("/v1/tenants", { slug });
    const admin = await keyOf(slug, {});
    const fingerprint = path.endsWith("certificates") ? { fingerprint: "cd".repeat(32) } : {};
    const made = await inTenant(slug).post<{ id: string }>(path, { name: "n", scopes: ["read"], ...fingerprint });
    await inTenant(slug).patch(`/v1/tenants/${slug}`, { status: "suspended" });
    for (const api of [admin, inTenant(slug)]) {
      const answer = await api.post(path, { name: "n", scopes: ["read"] });
      expect([answer.status, answer.body.detail]).toEqual([403, expect.stringContaining("is suspended")]);
    }
    expect((await admin.delete(`${path}/${made.body.id}`)).status).toBe(200);
  });
});

test("a certificate that a trusted proxy passes on is one that the request came with", async () => {
  const ca = await TestCa.create(join(await temporaryDirectory(), "ca"));
  const [own, other] = [await ca.issue("own"), await ca.issue("other")];
  const shown = { "x-client-verify": "SUCCESS", "x-client-cert": encodeURIComponent(own.cert) };
  const admin = (await keyOf("default", {})).with(shown);
  const path = "/v1/admin/certificates";
  expect(await refusal(admin, path, { scopes: ["read"], fingerprint: other.fingerprint })).toEqual([
    403,
    "/fingerprint",
  ]);
  expect((await admin.post(path, { name: "n", scopes: ["read"] })).status).toBe(201);
  expect((await server.api.as(shown).get<List>("/v1/logs")).status).toBe(200);
});
