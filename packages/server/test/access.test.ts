/** Who may do what: every route of openapi.json, by both aliases too, with every kind of credential. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SCOPES, TENANT_SCOPES } from "../src/access/scopes.ts";
import type { Answer, Api, Headers, Problem } from "../src/testing/api.ts";
import { TestCa } from "../src/testing/certificates.ts";
import { AUDIENCE, ISSUER, TestIssuer } from "../src/testing/issuer.ts";
import { TestDatabase } from "../src/testing/log.ts";
import {
  databaseSettings,
  startTestServer,
  stopTestServers,
  type TestServer,
  temporaryDirectory,
} from "../src/testing/server.ts";

/**
 * What each operation asks for, as the specification has it (section 5): written out here once more, so that a route that asks for
 * less is seen. `any`: every credential of the tenant. `none`: open to all.
 */
const REQUIRED: Readonly<Record<string, string>> = {
  "POST /v1/logs": "write",
  "POST /v1/logs/bulk": "write",
  "GET /v1/logs": "read",
  "POST /v1/logs/search": "read",
  "GET /v1/logs/{id}": "read",
  "GET /v1/logs/{id}/receipt": "read",
  "GET /v1/logs/export": "export",
  "GET /v1/logs/stats": "read",
  "GET /v1/logs/history": "read",
  "GET /v1/logs/stream": "stream",
  "GET /v1/tenants/{id}/log/checkpoint": "any",
  "GET /v1/tenants/{id}/log/witnesses": "any",
  "GET /v1/tenants/{id}/log/vkey": "any",
  "GET /v1/tenants/{id}/log/consistency": "any",
  "GET /v1/tenants/{id}/log/tile/{*}": "any",
  "GET /v1/tenants/{id}/logs/{log}/checkpoint": "any",
  "GET /v1/tenants/{id}/logs/{log}/witnesses": "any",
  "GET /v1/tenants/{id}/logs/{log}/vkey": "any",
  "GET /v1/tenants/{id}/logs/{log}/consistency": "any",
  "GET /v1/tenants/{id}/logs/{log}/tile/{*}": "any",
  "GET /v1/tenants/{id}/logs": "any",
  "POST /v1/tenants/{id}/log/succeed": "operator",
  "POST /v1/admin/verify-chain": "verify",
  "GET /v1/admin/verifications": "verify",
  "GET /v1/admin/verifications/{id}": "verify",
  "GET /v1/tenants": "admin",
  "POST /v1/tenants": "operator",
  "GET /v1/tenants/{id}": "admin",
  "PATCH /v1/tenants/{id}": "operator",
  "GET /v1/admin/api-keys": "admin",
  "POST /v1/admin/api-keys": "admin",
  "DELETE /v1/admin/api-keys/{id}": "admin",
  "GET /v1/admin/keys": "admin",
  "POST /v1/admin/keys": "admin",
  "POST /v1/admin/keys/rotate": "admin",
  "POST /v1/admin/keys/{id}/revoke": "admin",
  "GET /v1/admin/services": "admin",
  "PATCH /v1/admin/services/{service_id}": "admin",
  "GET /v1/admin/certificates": "admin",
  "POST /v1/admin/certificates": "admin",
  "DELETE /v1/admin/certificates/{id}": "admin",
  "GET /metrics": "none",
  "GET /health": "none",
  "GET /health/live": "none",
  "GET /health/ready": "none",
};
/** Entries themselves, where the rest of a log's files is any credential's. */
const ENTRY_TILE = "/tile/entries/000.p/1";

interface Operation {
  readonly method: string;
  /** As in openapi.json. */
  readonly path: string;
  readonly required: string;
}

/** A credential, what it may do, and of which tenant it is; no scopes: it is refused. */
interface Credential {
  readonly name: string;
  readonly headers: Headers;
  readonly scopes: readonly string[] | undefined;
  /** Undefined: the operator's, who names a tenant. */
  readonly tenant?: string;
}

const OWN = "own";
const OTHER = "other";
const API_KEY = "api-key-of-this-test";

const { paths } = JSON.parse(readFileSync(new URL("../../../openapi.json", import.meta.url), "utf8")) as {
  paths: Record<string, Record<string, { security?: Record<string, string[]>[] }>>;
};
const OPERATIONS: Operation[] = Object.entries(paths).flatMap(([path, methods]) =>
  Object.keys(methods).map((method) => {
    const what = `${method.toUpperCase()} ${path}`;
    return { method: method.toUpperCase(), path, required: REQUIRED[what] ?? `nothing is said of ${what}` };
  }),
);

let database: TestDatabase;
let server: TestServer;
let issuer: TestIssuer;
let nobody: Api;
let credentials: Credential[];

beforeAll(async () => {
  database = await TestDatabase.create();
  issuer = await TestIssuer.start();
  server = await startTestServer({
    ...databaseSettings(database),
    API_KEY,
    JWT_ISSUER: ISSUER,
    JWT_AUDIENCE: AUDIENCE,
    JWT_JWKS_URL: issuer.url,
    TRUSTED_PROXIES: "127.0.0.1", // this test is the proxy that has looked at clients' certificates
  });
  nobody = server.api.as({});
  for (const slug of [OWN, OTHER]) await database.tenant(slug);
  credentials = [...(await apiKeys()), ...(await tokens()), ...(await certificates()), ...adminTokens()];
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
  await issuer.close();
});

async function apiKeys(): Promise<Credential[]> {
  const key = async (tenant: string, more: Parameters<TestDatabase["newKey"]>[1]) => database.newKey(tenant, more);
  const past = new Date(Date.now() - 60_000).toISOString();
  const all = TENANT_SCOPES;
  const revoked = await key(OWN, { name: "revoked", scopes: all });
  await database.superuser.query("update tallystick.api_keys set revoked_at = now() where name = 'revoked'");
  const bearer = (secret: string) => ({ authorization: `Bearer ${secret}` });
  return [
    { name: "no credential", headers: {}, scopes: undefined },
    { name: "an empty Authorization", headers: { authorization: " " }, scopes: undefined },
    { name: "Basic", headers: { authorization: "Basic dXNlcjpwYXNz" }, scopes: undefined },
    { name: "an unknown key", headers: bearer(`tally_${"0".repeat(40)}`), scopes: undefined },
    { name: "an unknown key in X-API-Key", headers: { "x-api-key": "nothing" }, scopes: undefined },
    { name: "an expired key", headers: bearer(await key(OWN, { scopes: all, expiresAt: past })), scopes: undefined },
    { name: "a revoked key", headers: bearer(revoked), scopes: undefined },
    ...(await Promise.all(
      TENANT_SCOPES.map(async (scope) => ({
        name: `a key with ${scope}`,
        headers: bearer(await key(OWN, { scopes: [scope] })),
        scopes: [scope],
        tenant: OWN,
      })),
    )),
    { name: "a key with all", headers: { "x-api-key": await key(OWN, {}) }, scopes: all, tenant: OWN },
    { name: "another tenant's key", headers: bearer(await key(OTHER, {})), scopes: all, tenant: OTHER },
    { name: "an operator's key", headers: bearer(await key("_operator", { scopes: ["operator"] })), scopes: SCOPES },
    {
      name: "a key of the operator's tenant that only reads",
      headers: bearer(await key("_operator", { scopes: ["read"] })),
      scopes: ["read"],
      tenant: "_operator",
    },
  ];
}

async function tokens(): Promise<Credential[]> {
  const all = TENANT_SCOPES.join(" ");
  const past = Math.floor(Date.now() / 1_000) - 3_600;
  const token = async (name: string, scopes: readonly string[] | undefined, claims: object, tenant?: string) => ({
    name,
    headers: { authorization: `Bearer ${await issuer.token({ tenant: OWN, scope: all, ...claims })}` },
    scopes,
    ...(tenant !== undefined && { tenant }),
  });
  const forged = await new SignJWT({ tenant: OWN, scope: all, sub: "mallory" })
    .setProtectedHeader({ alg: "HS256", kid: issuer.keys[0]!.kid })
    .setIssuer(ISSUER)
    .setAudience(AUDIENCE)
    .setExpirationTime("1h")
    .sign(issuer.keys[0]!.publicKey.export({ type: "spki", format: "der" }));
  return Promise.all([
    ...TENANT_SCOPES.map((scope) => token(`a token with ${scope}`, [scope], { scope }, OWN)),
    token("a token without a scope of ours", [], { scope: "openid profile" }, OWN),
    token("another tenant's token", TENANT_SCOPES, { tenant: OTHER }, OTHER),
    token("an operator's token", SCOPES, { tenant: "_operator", scope: "operator" }),
    token("a tenant's token that says operator", TENANT_SCOPES, { scope: `${all} operator` }, OWN),
    token("an expired token", undefined, { exp: past }),
    token("a token of another issuer", undefined, { iss: "https://elsewhere.example/" }),
    token("a token for another audience", undefined, { aud: "https://elsewhere.example" }),
    token("a token of a tenant that there is not", undefined, { tenant: "nobody" }),
    token("a token without a tenant", undefined, { tenant: undefined }),
    { name: "a token signed with the public key", headers: { authorization: `Bearer ${forged}` }, scopes: undefined },
  ]);
}

async function certificates(): Promise<Credential[]> {
  const ca = await TestCa.create(join(await temporaryDirectory(), "ca"));
  const shown = async (name: string, days: { from?: number; to?: number } = {}) => {
    const { cert, fingerprint } = await ca.issue(name, days);
    return { fingerprint, headers: { "x-client-verify": "SUCCESS", "x-client-cert": encodeURIComponent(cert) } };
  };
  const map = async (tenant: string, fingerprint: string, scopes: readonly string[], more: object = {}) => {
    const answer = await server.operator.post<{ id: string }>(
      "/v1/admin/certificates",
      { name: "test", fingerprint, scopes, ...more },
      { "x-tenant-id": tenant },
    );
    expect(answer.status, answer.text).toBe(201);
    return answer.body.id;
  };
  const all = TENANT_SCOPES;
  // One after another: openssl's authority keeps its books in files.
  const reader = await shown("reader");
  const writer = await shown("writer");
  const other = await shown("other");
  const unknown = await shown("unknown");
  const revoked = await shown("revoked");
  const expired = await shown("expired", { from: -9, to: -2 });
  const operator = await shown("operator");
  await map(OWN, reader.fingerprint, ["read"]);
  await map(OWN, writer.fingerprint, ["write"]);
  await map(OTHER, other.fingerprint, all);
  await map(OWN, expired.fingerprint, all);
  await map("_operator", operator.fingerprint, ["operator"]);
  const id = await map(OWN, revoked.fingerprint, all);
  await server.operator.delete(`/v1/admin/certificates/${id}`, { "x-tenant-id": OWN });
  return [
    { name: "a certificate that reads", headers: reader.headers, scopes: ["read"], tenant: OWN },
    { name: "a certificate that writes", headers: writer.headers, scopes: ["write"], tenant: OWN },
    { name: "another tenant's certificate", headers: other.headers, scopes: all, tenant: OTHER },
    { name: "an operator's certificate", headers: operator.headers, scopes: SCOPES },
    { name: "a certificate that nobody has mapped", headers: unknown.headers, scopes: undefined },
    { name: "a certificate whose mapping is revoked", headers: revoked.headers, scopes: undefined },
    { name: "an expired certificate", headers: expired.headers, scopes: undefined },
    {
      name: "a certificate that the proxy has not verified",
      headers: { ...writer.headers, "x-client-verify": "FAILED:certificate has expired" },
      scopes: undefined,
    },
  ];
}

function adminTokens(): Credential[] {
  const token = server.credentials.admin_token;
  return [
    { name: "the admin token", headers: { "x-admin-token": token }, scopes: SCOPES },
    { name: "a wrong admin token", headers: { "x-admin-token": `${token.slice(0, -1)}!` }, scopes: undefined },
    { name: "the admin token as a key", headers: { authorization: `Bearer ${token}` }, scopes: undefined },
    {
      name: "a wrong admin token beside a good key",
      headers: { "x-admin-token": "no", "x-api-key": API_KEY },
      scopes: undefined,
    },
    {
      name: "the admin token beside a key that is none",
      headers: { "x-admin-token": token, "x-api-key": "nothing" },
      scopes: undefined,
    },
  ];
}

/** The operation's path for tenant `own`, with names of things that are not there. */
function urlOf(path: string, { slug = OWN } = {}): string {
  return path
    .replace("/v1/logs/stream", "/v1/logs/stream?follow=false") // which has an end
    .replace("{*}", "0/000.p/1")
    .replace("{log}", slug)
    .replace("{service_id}", "orders")
    .replace("/v1/tenants/{id}", `/v1/tenants/${slug}`)
    .replace("{id}", randomUUID());
}

async function ask(operation: Operation, url: string, headers: Headers): Promise<Answer<Problem>> {
  // An empty body is refused by whoever may send one, and changes nothing.
  const body = operation.method === "GET" || operation.method === "DELETE" ? undefined : "{}";
  return nobody.send<Problem>(operation.method, url, body, headers);
}

/** What a credential should meet: 401, 403, or to be let in. */
function expected({ scopes, tenant }: Credential, required: string, named: string | undefined): number | "let in" {
  if (required === "none") return "let in";
  if (scopes === undefined) return 401;
  if (required !== "any" && !scopes.includes(required)) return 403;
  return tenant === undefined || named === undefined || tenant === named ? "let in" : 403;
}

function meets(answer: Answer<Problem>): number | "let in" {
  return answer.status === 401 || answer.status === 403 ? answer.status : "let in";
}

test("every operation of openapi.json is said something of here, and says the same there", () => {
  for (const { method, path, required } of OPERATIONS) {
    const said = paths[path]![method.toLowerCase()]!.security!;
    if (required === "none") expect(said, path).toEqual([]);
    else expect(said[0], `${method} ${path}`).toEqual({ apiKey: required === "any" ? [] : [required] });
  }
  expect(Object.keys(REQUIRED).sort()).toEqual(OPERATIONS.map(({ method, path }) => `${method} ${path}`).sort());
});

describe("each credential is let in where it may, and nowhere else", () => {
  test.each(OPERATIONS)("$method $path", async (operation) => {
    const { path, required, method } = operation;
    const inPath = path.startsWith("/v1/tenants/{id}");
    const prefixes = path.startsWith("/v1/") ? ["", "/api"] : [""];
    for (const credential of credentials) {
      for (const prefix of prefixes) {
        const url = `${prefix}${urlOf(path)}`;
        const answer = await ask(operation, url, credential.headers);
        const what = `${method} ${url} with ${credential.name}: ${answer.text.slice(0, 300)}`;
        expect(meets(answer), what).toBe(expected(credential, required, inPath ? OWN : undefined));
        expect(answer.status, what).toBeLessThan(500);
      }
      if (required === "none") continue;
      for (const named of [OWN, OTHER]) {
        const slug = inPath ? OWN : named;
        const answer = await ask(operation, urlOf(path, { slug }), { ...credential.headers, "x-tenant-id": slug });
        const what = `${method} ${path} in ${slug} with ${credential.name}: ${answer.text.slice(0, 300)}`;
        expect(meets(answer), what).toBe(expected(credential, required, slug));
      }
    }
  });

  test.each(["GET", "POST"])("%s /audit-log", async (method) => {
    const operation = { method, path: "/audit-log", required: method === "GET" ? "read" : "write" };
    for (const credential of credentials) {
      for (const url of ["/audit-log", "/audit-log/", `/audit-log?tenant_id=${OWN}`]) {
        const answer = await ask(operation, url, credential.headers);
        const named = url.includes("?") ? OWN : undefined;
        // A tenant that is named twice, or by a write's parameter that it does not take, is no question of credentials.
        const what = `${method} ${url} with ${credential.name}: ${answer.text.slice(0, 300)}`;
        expect(meets(answer), what).toBe(expected(credential, operation.required, named));
      }
    }
  });

  test("tiles of entries are for readers, those of hashes for any credential of the tenant", async () => {
    await server.operator.record({ action: "a", actor: { id: "alice" } }, { "x-tenant-id": OWN });
    const operation = { method: "GET", path: "", required: "read" };
    for (const credential of credentials) {
      for (const url of [`/v1/tenants/${OWN}/log${ENTRY_TILE}`, `/v1/tenants/${OWN}/logs/${OWN}${ENTRY_TILE}`]) {
        const answer = await ask(operation, url, credential.headers);
        expect(meets(answer), `${url} with ${credential.name}`).toBe(expected(credential, "read", OWN));
      }
    }
  });
});

test("a refusal names no secret, and says by which scheme to come", async () => {
  for (const { headers, scopes } of credentials) {
    if (scopes !== undefined) continue;
    const answer = await nobody.get("/v1/logs", headers);
    expect(answer.status).toBe(401);
    expect(answer.headers["www-authenticate"]).toContain('realm="tallystick"');
    expect(answer.body.type).toBe("urn:tallystick:problem:unauthenticated");
    for (const secret of Object.values(headers)) {
      if (secret.trim().length > 4) expect(answer.text).not.toContain(secret.replace(/^Bearer /, ""));
    }
  }
});
