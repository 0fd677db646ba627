/** Client certificates, at the server's own TLS: which are good, for whom, and until when. */
import { X509Certificate } from "node:crypto";
import { copyFile, readFile } from "node:fs/promises";
import { Agent, type AgentOptions } from "node:https";
import { join } from "node:path";
import { connect, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { presented } from "../src/access/certificate.ts";
import { Certificates } from "../src/access/certificates.ts";
import type { Api, List, Problem } from "../src/testing/api.ts";
import { type IssuedCertificate, TestCa } from "../src/testing/certificates.ts";
import { checkLog, TestDatabase } from "../src/testing/log.ts";
import {
  databaseSettings,
  startTestServer,
  stopTestServers,
  type TestServer,
  temporaryDirectory,
  until,
} from "../src/testing/server.ts";

interface Mapped {
  readonly id: string;
  readonly fingerprint: string | null;
  readonly san: string | null;
  readonly revoked_at: string | null;
  readonly last_used_at: string | null;
}

const EVENT = { action: "user.login", actor: { id: "alice" } };

let database: TestDatabase;
let ca: TestCa;
/** Its certificate, which clients know the server by. */
let caPem: string;
let stranger: TestCa;
let host: IssuedCertificate;
let directory: string;
let server: TestServer;
let other: TestServer;
const agents: Agent[] = [];

beforeAll(async () => {
  database = await TestDatabase.create();
  directory = await temporaryDirectory();
  [ca, stranger] = await Promise.all([
    TestCa.create(join(directory, "ca")),
    TestCa.create(join(directory, "stranger"), "another CA"),
  ]);
  caPem = await readFile(ca.certPath, "utf8");
  host = await ca.issue("localhost", { names: ["DNS:localhost", "IP:127.0.0.1"] });
  // Files of the server's own, so that a test can exchange them.
  for (const [from, to] of [
    [host.certPath, "tls.pem"],
    [host.keyPath, "tls.key"],
    [ca.crlPath, "crl.pem"],
  ] as const)
    await copyFile(from, join(directory, to));
  server = await startTestServer({ ...databaseSettings(database), ...tlsSettings() }, { tls: agentOf() });
  const ADMIN_TOKEN = server.credentials.admin_token;
  other = await startTestServer(
    {
      ...databaseSettings(database),
      ...tlsSettings({ TLS_CLIENT_AUTH: "required", TLS_MIN_VERSION: "1.3" }),
      ADMIN_TOKEN,
    },
    { tls: agentOf(host) },
  );
});
afterAll(async () => {
  for (const agent of agents) agent.destroy();
  await stopTestServers();
  await database.close();
});

function tlsSettings(more: Readonly<Record<string, string>> = {}) {
  return {
    TLS_CERT_PATH: join(directory, "tls.pem"),
    TLS_KEY_PATH: join(directory, "tls.key"),
    TLS_CLIENT_CA_PATH: ca.certPath,
    TLS_CLIENT_CRL_PATH: join(directory, "crl.pem"),
    TLS_CLIENT_AUTH: "optional",
    ...more,
  };
}

/** Connections that show this certificate, each request by a new one unless `keepAlive`. */
function agentOf(certificate?: Pick<IssuedCertificate, "cert" | "key">, more: AgentOptions = {}): Agent {
  const agent = new Agent({ ca: caPem, cert: certificate?.cert, key: certificate?.key, maxCachedSessions: 0, ...more });
  agents.push(agent);
  return agent;
}

/** With a certificate and no other credential. */
function by(certificate: Pick<IssuedCertificate, "cert" | "key"> | undefined, on: TestServer = server): Api {
  return on.api.as({}).by(agentOf(certificate));
}

let made = 0;
async function newTenant(): Promise<{ slug: string; admin: Api }> {
  const slug = `tenant-${made++}`;
  expect((await server.operator.post("/v1/tenants", { slug })).status).toBe(201);
  const key = await server.operator.post<{ secret: string }>(
    "/v1/admin/api-keys",
    { name: "admin", scopes: ["admin", "read"] },
    { "x-tenant-id": slug },
  );
  return { slug, admin: server.api.as({ authorization: `Bearer ${key.body.secret}` }) };
}

async function map(api: Api, body: Readonly<Record<string, unknown>>, headers: Readonly<Record<string, string>> = {}) {
  const answer = await api.post<Mapped>(
    "/v1/admin/certificates",
    { name: "test", scopes: ["write", "read"], ...body },
    headers,
  );
  expect(answer.status, answer.text).toBe(201);
  return answer.body;
}

/** Maps a certificate as its holder: by a request with it, beside an administrator's key. */
function mapOwn(admin: Api, certificate: IssuedCertificate, body: Readonly<Record<string, unknown>> = {}) {
  return map(admin.by(agentOf(certificate)), body);
}

async function refused(api: Api): Promise<Problem> {
  const answer = await api.get("/v1/logs");
  expect(answer.status, answer.text).toBe(401);
  return answer.body;
}

describe("a client certificate", () => {
  test("writes and reads for the tenant that its fingerprint is mapped to, bound to its service", async () => {
    const { slug, admin } = await newTenant();
    const orders = await ca.issue("orders");
    const mapped = await mapOwn(admin, orders, { certificate_pem: orders.cert, service_id: "orders" });
    expect(mapped).toMatchObject({ fingerprint: orders.fingerprint, san: null });
    const api = by(orders);
    await api.record(EVENT);
    const { body } = await api.get<List>("/v1/logs");
    expect(body.data[0]).toMatchObject({ service: { id: "orders" }, event: EVENT });
    expect(body.data[1]!.event).toMatchObject({
      action: "tallystick.certificate.created",
      actor: { type: "api_key" },
      resource: { type: "certificate", id: mapped.id },
      metadata: { fingerprint: orders.fingerprint, scopes: ["write", "read"], service_id: "orders" },
    });
    expect((await api.post("/v1/logs", { ...EVENT, service_id: "billing" })).status).toBe(403);
    expect((await api.get("/v1/logs", { "x-tenant-id": "default" })).status).toBe(403);
    expect((await api.get("/v1/admin/certificates")).status).toBe(403);
    await checkLog(database.database, (await database.tenants.find(slug))!);
  });

  test("is known by a subject alternative name, across renewals", async () => {
    const { slug } = await newTenant();
    const first = await ca.issue("billing-1", { names: ["URI:spiffe://acme/billing"] });
    const second = await ca.issue("billing-2", { names: ["DNS:Billing.Acme.example", "URI:spiffe://acme/billing"] });
    await map(server.operator, { san: "URI:spiffe://acme/billing" }, { "x-tenant-id": slug });
    for (const certificate of [first, second]) await by(certificate).record(EVENT);
  });

  test("is not needed where another credential is brought, and does not count then", async () => {
    const { slug, admin } = await newTenant();
    const unmapped = await ca.issue("unmapped");
    const foreign = await stranger.issue("foreign");
    for (const certificate of [unmapped, foreign, undefined]) {
      expect((await admin.by(agentOf(certificate)).get<List>("/v1/logs")).status).toBe(200);
      // The operator goes on naming tenants, whatever certificate the connection has.
      const operator = server.operator.by(agentOf(certificate));
      expect((await operator.get<List>("/v1/logs", { "x-tenant-id": slug })).status).toBe(200);
    }
    const key = server.api.as({ "x-api-key": "wrong-key-of-nobody" }).by(agentOf(await ca.issue("orders-2")));
    expect((await refused(key)).detail).toContain("API key");
  });

  test("is refused without a mapping, of another CA, before and after its time, or revoked by its CA", async () => {
    const { slug } = await newTenant();
    const certificates = {
      expired: await ca.issue("expired", { from: -10, to: -1 }),
      early: await ca.issue("early", { from: 1 }),
      foreign: await stranger.issue("foreign-2"),
      revoked: await ca.issue("revoked"),
    };
    for (const { fingerprint } of Object.values(certificates))
      await map(server.operator, { fingerprint }, { "x-tenant-id": slug });
    const session = await sessionOf(server, certificates.revoked);
    await ca.revoke(certificates.revoked);
    await copyFile(ca.crlPath, join(directory, "crl.pem"));
    await until(async () => (await by(certificates.revoked).get("/v1/logs")).status === 401, {
      what: "the list is read",
    });

    expect((await refused(by(await ca.issue("nobody")))).detail).toContain("mapped to no tenant");
    expect((await refused(by(undefined))).detail).toContain("Send an API key");
    expect((await refused(by(certificates.expired))).detail).toContain("expired");
    expect((await refused(by(certificates.early))).detail).toContain("not valid yet");
    expect((await refused(by(certificates.foreign))).detail).toContain("not of a CA");
    expect((await refused(by(certificates.revoked))).detail).toContain("revoked by its CA");
    // A session from before cannot be resumed: its certificate is looked at again.
    expect(await resume(server, certificates.revoked, session)).toEqual({ reused: false, status: 401 });
  });

  test("of a CA that only bears the name of ours gets no answer that is any good", async () => {
    const { slug } = await newTenant();
    const impostor = await TestCa.create(join(directory, "impostor"));
    const forged = await impostor.issue("orders");
    await map(server.operator, { fingerprint: forged.fingerprint }, { "x-tenant-id": slug });
    for (let i = 0; i < 5; i++) {
      const answer = await by(forged)
        .get("/v1/logs")
        .catch(() => ({ status: "closed" }));
      expect([401, "closed"]).toContain(answer.status);
    }
  });

  test("is worth nothing after its mapping's revocation, on every server and open connection", async () => {
    const { admin } = await newTenant();
    const orders = await ca.issue("orders-3");
    const { id } = await mapOwn(admin, orders);
    const open = [server, other].map((on) => on.api.as({}).by(agentOf(orders, { keepAlive: true, maxSockets: 1 })));
    for (const api of open) await api.record(EVENT);
    const revoked = await admin.delete<Mapped>(`/v1/admin/certificates/${id}`);
    expect(revoked.body.revoked_at).not.toBeNull();
    expect((await refused(open[0]!)).detail).toContain("revoked");
    await until(async () => (await open[1]!.get("/v1/logs")).status === 401, { what: "the other server knows" });
    const again = await admin.delete<Mapped>(`/v1/admin/certificates/${id}`);
    expect(again.body).toEqual(revoked.body);
    const { body } = await admin.get<List>("/v1/logs?action=tallystick.certificate.*");
    expect(body.data.map(({ event }) => event.action)).toEqual([
      "tallystick.certificate.revoked",
      "tallystick.certificate.created",
    ]);
    // Mapped anew, it is good again at once here.
    await mapOwn(admin, orders);
    await by(orders).record(EVENT);
  });

  test("is judged by what was so a second ago at most", async () => {
    const { slug, admin } = await newTenant();
    const orders = await ca.issue("orders-8");
    const { id } = await mapOwn(admin, orders);
    let now = Date.now();
    const certificates = new Certificates(database.database, { now: () => now });
    const certificate = presented(new X509Certificate(orders.cert));
    const { tenantId } = (await database.tenants.find(slug))!;
    expect(await certificates.authenticate(certificate)).toMatchObject({ tenantId, credential: { id } });
    await admin.delete(`/v1/admin/certificates/${id}`);
    now += 999;
    expect(await certificates.authenticate(certificate)).toMatchObject({ credential: { id } });
    now += 1;
    await expect(certificates.authenticate(certificate)).rejects.toMatchObject({ reason: "certificate_revoked" });
    now = certificate.validToMs;
    await expect(certificates.authenticate(certificate)).rejects.toMatchObject({ reason: "certificate_expired" });
  });

  test("stops at its mapping's expiry", async () => {
    const { slug, admin } = await newTenant();
    const orders = await ca.issue("orders-4");
    const { id } = await mapOwn(admin, orders, { expires_at: "2999-01-01T00:00:00Z" });
    await by(orders).record(EVENT);
    await database.as("postgres", `update tallystick.client_certificates set expires_at = now() where id = '${id}'`);
    await until(async () => (await by(orders).get("/v1/logs")).status === 401, { what: `${slug}: it has expired` });
    expect((await refused(by(orders))).detail).toContain("expired");
  });

  test("is resumed with its session, and judged again", async () => {
    const { admin } = await newTenant();
    const orders = await ca.issue("orders-5");
    const { id } = await mapOwn(admin, orders);
    const session = await sessionOf(server, orders);
    expect(await resume(server, orders, session)).toEqual({ reused: true, status: 200 });
    await admin.delete(`/v1/admin/certificates/${id}`);
    expect(await resume(server, orders, session)).toEqual({ reused: true, status: 401 });
  });
});

describe("mapping", () => {
  test("a name is the operator's; a certificate, its holder's and the operator's", async () => {
    const { slug, admin } = await newTenant();
    const san = "URI:spiffe://acme/names";
    const own = await admin.post("/v1/admin/certificates", { name: "n", scopes: ["read"], san });
    expect([own.status, own.body.errors]).toEqual([403, [{ path: "/san", message: "needs the operator" }]]);
    await map(server.operator, { san }, { "x-tenant-id": slug });

    const [held, other] = [await ca.issue("held"), await ca.issue("not-held")];
    const holder = admin.by(agentOf(held));
    for (const [api, body, path] of [
      [admin, { fingerprint: held.fingerprint }, "/fingerprint"],
      [admin, { certificate_pem: held.cert }, "/certificate_pem"],
      [holder, { fingerprint: other.fingerprint }, "/fingerprint"],
      [holder, { certificate_pem: other.cert }, "/certificate_pem"],
    ] as const) {
      const refusal = await api.post("/v1/admin/certificates", { name: "n", scopes: ["read"], ...body });
      expect([refusal.status, refusal.body.errors?.[0]?.path]).toEqual([403, path]);
      expect(refusal.body.detail).toContain("send the request with that certificate");
      expect(refusal.body.detail).toContain("ask the operator");
    }
    // One that our CA has not vouched for shows nothing.
    const foreign = await stranger.issue("foreign-holder");
    const shown = await admin.by(agentOf(foreign)).post("/v1/admin/certificates", { name: "n", scopes: ["read"] });
    expect(shown.status, shown.text).toBe(401);

    expect(await map(holder, {})).toMatchObject({ fingerprint: held.fingerprint });
    await by(held).record(EVENT);
    const operator = server.operator.by(agentOf(other));
    expect(await map(operator, {}, { "x-tenant-id": slug })).toMatchObject({ fingerprint: other.fingerprint });
  });

  test("no tenant draws another's certificate to itself", async () => {
    const [victim, thief] = [await newTenant(), await newTenant()];
    const orders = await ca.issue("victim-orders", { names: ["URI:spiffe://victim/orders"] });
    const san = await map(server.operator, { san: "URI:spiffe://victim/orders" }, { "x-tenant-id": victim.slug });
    const body = { name: "n", scopes: ["write"], fingerprint: orders.fingerprint };
    const attack = await thief.admin.post("/v1/admin/certificates", body);
    expect([attack.status, attack.body.errors?.[0]?.path]).toEqual([403, "/fingerprint"]);
    await server.operator.delete(`/v1/admin/certificates/${san.id}`, { "x-tenant-id": victim.slug });
    expect((await refused(by(orders))).detail).toContain("revoked");
    expect((await thief.admin.post("/v1/admin/certificates", body)).status).toBe(403);
    expect((await thief.admin.get<List>("/v1/logs?action=user.login")).body.data).toEqual([]);

    // Who holds the key as well turns nothing elsewhere while the operator says whose the name is, nor shuts its tenant out.
    const named = await ca.issue("named", { names: ["URI:spiffe://victim/named"] });
    await map(server.operator, { san: "URI:spiffe://victim/named" }, { "x-tenant-id": victim.slug });
    const { id } = await mapOwn(thief.admin, named);
    await by(named).record({ ...EVENT, action: "for.the.victim" });
    expect((await victim.admin.get<List>("/v1/logs?action=for.the.victim")).body.data).toHaveLength(1);
    await thief.admin.delete(`/v1/admin/certificates/${id}`);
    await by(named).record(EVENT);

    // What is mapped stays so until its tenant revokes it; then its holder may map it elsewhere.
    const plain = await ca.issue("plain");
    const mapped = await mapOwn(victim.admin, plain);
    const again = await thief.admin
      .by(agentOf(plain))
      .post("/v1/admin/certificates", { ...body, fingerprint: plain.fingerprint });
    expect([again.status, again.body.errors?.[0]?.path]).toEqual([409, "/fingerprint"]);
    expect((await thief.admin.delete(`/v1/admin/certificates/${mapped.id}`)).status).toBe(404);
    await victim.admin.delete(`/v1/admin/certificates/${mapped.id}`);
    await mapOwn(thief.admin, plain);
    await by(plain).record(EVENT);
    expect((await thief.admin.get<List>("/v1/logs?action=user.login")).body.data).toHaveLength(1);
  });

  test("of many who map one certificate at once, one does", async () => {
    const tenants = await Promise.all([newTenant(), newTenant(), newTenant()]);
    const { fingerprint } = await ca.issue("wanted");
    const body = { name: "n", scopes: ["read"], fingerprint };
    const answers = await Promise.all(
      [...tenants, ...tenants].map(({ slug }) =>
        server.operator.post("/v1/admin/certificates", body, { "x-tenant-id": slug }),
      ),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409, 409, 409]);
    for (const { slug } of tenants) await checkLog(database.database, (await database.tenants.find(slug))!);
  });

  test("a name's mapping that has expired makes no other ambiguous", async () => {
    const { slug } = await newTenant();
    const both = await ca.issue("both-names", { names: ["DNS:old.example", "DNS:new.example"] });
    const operator = { "x-tenant-id": slug };
    const old = await map(server.operator, { san: "DNS:old.example", expires_at: "2999-01-01T00:00:00Z" }, operator);
    const fresh = await map(server.operator, { san: "DNS:new.example" }, operator);
    expect((await refused(by(both))).detail).toContain("different callers");
    const expire = (id: string) =>
      database.as("postgres", `update tallystick.client_certificates set expires_at = now() where id = '${id}'`);
    await expire(old.id);
    await until(async () => (await by(both).get("/v1/logs")).status === 200, { what: "one has expired" });
    await server.operator.delete(`/v1/admin/certificates/${fresh.id}`, operator);
    expect((await refused(by(both))).detail).toContain("expired");
  });

  test("within a tenant a fingerprint counts before a name; two names with different mappings are refused", async () => {
    const { slug, admin } = await newTenant();
    const both = await ca.issue("both", { names: ["DNS:a.example", "DNS:b.example"] });
    const operator = { "x-tenant-id": slug };
    const a = await map(server.operator, { san: "DNS:A.example", scopes: ["read"] }, operator);
    expect(a.san).toBe("DNS:a.example");
    expect((await by(both).post("/v1/logs", EVENT)).status).toBe(403);
    await map(server.operator, { san: "DNS:b.example", scopes: ["write"] }, operator);
    expect((await refused(by(both))).detail).toContain("different callers");
    const exact = await mapOwn(admin, both);
    await by(both).record(EVENT);
    await admin.delete(`/v1/admin/certificates/${exact.id}`);
    expect((await refused(by(both))).detail).toContain("revoked");
  });

  test("a name that holds other names' text is one name", async () => {
    const { slug } = await newTenant();
    await map(server.operator, { san: "DNS:victim.example" }, { "x-tenant-id": slug });
    for (const [i, name] of [
      "URI:http://x/, DNS:victim.example",
      'URI:", DNS:victim.example',
      "DNS:evil.example, DNS:victim.example",
    ].entries()) {
      const sly = await ca.issue(`sly-${i}`, { names: [name] });
      expect((await refused(by(sly))).detail).toContain("mapped to no tenant");
    }
  });

  test("takes what is good and names what is not", async () => {
    const { admin } = await newTenant();
    const orders = await ca.issue("orders-6");
    const colons = orders.fingerprint.toUpperCase().replace(/..(?=.)/g, "$&:");
    expect(await mapOwn(admin, orders, { fingerprint: colons })).toMatchObject({ fingerprint: orders.fingerprint });
    for (const [body, path, status = 400] of [
      [{}, "/certificate_pem"],
      [{ fingerprint: orders.fingerprint, san: "DNS:x" }, "/fingerprint"],
      [{ fingerprint: "ab" }, "/fingerprint"],
      [{ certificate_pem: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----" }, "/certificate_pem"],
      [{ certificate_pem: orders.cert + orders.cert }, "/certificate_pem"],
      [{ certificate_pem: orders.key }, "/certificate_pem"],
      [{ san: "CN:orders" }, "/san"],
      [{ san: "DNS:*.acme.example" }, "/san"],
      [{ san: "DNS:with blank" }, "/san"],
      [{ fingerprint: "ab".repeat(32), scopes: ["everything"] }, "/scopes/0"],
      [{ fingerprint: "ab".repeat(32), service_id: "tallystick" }, "/service_id", 403],
      [{ fingerprint: "ab".repeat(32), scopes: ["operator"] }, "/scopes", 403],
    ] as const) {
      const answer = await admin.post("/v1/admin/certificates", { name: "n", scopes: ["read"], ...body });
      expect([answer.status, answer.body.errors?.[0]?.path], answer.text).toEqual([status, path]);
    }
    const late = { name: "n", scopes: ["read"], expires_at: "2001-01-01T00:00:00Z" };
    const answer = await admin.by(agentOf(orders)).post("/v1/admin/certificates", late);
    expect([answer.status, answer.body.errors?.[0]?.path], answer.text).toEqual([400, "/expires_at"]);
    const { body } = await admin.get<{ data: Mapped[] }>("/v1/admin/certificates");
    expect(body.data).toHaveLength(1);
  });

  test("a certificate of the operator's tenant acts across tenants", async () => {
    const { slug } = await newTenant();
    const operator = await ca.issue("operator");
    await map(
      server.operator,
      { fingerprint: operator.fingerprint, scopes: ["operator"] },
      { "x-tenant-id": "_operator" },
    );
    expect((await by(operator).get("/v1/tenants")).status).toBe(200);
    await by(operator).record(EVENT, { "x-tenant-id": slug });
  });
});

describe("TLS", () => {
  test("where certificates are required, nobody connects without a good one", async () => {
    const { slug, admin } = await newTenant();
    const orders = await ca.issue("orders-7");
    await mapOwn(admin, orders);
    await by(orders, other).record(EVENT);
    const revoked = await ca.issue("revoked-2");
    await ca.revoke(revoked);
    await copyFile(ca.crlPath, join(directory, "crl.pem"));
    await until(
      async () =>
        (await by(revoked, other)
          .get("/health")
          .catch(() => undefined)) === undefined,
    );
    for (const certificate of [
      undefined,
      await stranger.issue("foreign-3"),
      await ca.issue("expired-2", { from: -9, to: -1 }),
      revoked,
    ]) {
      await expect(by(certificate, other).get("/health")).rejects.toThrow();
    }
    // Any of the CA's connects; it is the admin token that counts then.
    expect((await other.operator.get(`/v1/tenants/${slug}`)).status).toBe(200);
  });

  test("speaks no version below TLS_MIN_VERSION, and no plain HTTP", async () => {
    const versions = async (on: TestServer, version: "TLSv1.1" | "TLSv1.2" | "TLSv1.3") => {
      const range = { minVersion: version, maxVersion: version, ciphers: "DEFAULT:@SECLEVEL=0" } as const;
      return (
        await on.api
          .by(agentOf(host, range))
          .get("/health")
          .catch(() => undefined)
      )?.status;
    };
    expect(await versions(server, "TLSv1.1")).toBeUndefined();
    expect(await versions(server, "TLSv1.2")).toBe(200);
    expect(await versions(server, "TLSv1.3")).toBe(200);
    expect(await versions(other, "TLSv1.2")).toBeUndefined();
    expect(await versions(other, "TLSv1.3")).toBe(200);
    await expect(fetch(server.url.replace("https:", "http:"))).rejects.toThrow();
    expect(server.url).toMatch(/^https:/);
    expect(server.credentials.url).toBe(server.url);
  });

  test("uses a renewed certificate without a restart, and keeps the old one beside a broken file", async () => {
    const keeps = server.api.by(agentOf(undefined, { keepAlive: true, maxSockets: 1 }));
    expect((await keeps.get("/health")).status).toBe(200);
    const before = await fingerprintOf(server);
    const renewed = await ca.issue("renewed", { names: ["DNS:localhost", "IP:127.0.0.1"] });
    await copyFile(renewed.certPath, join(directory, "tls.pem")); // its key is still the old one's
    await until(() => server.said.includes("cannot be used together"), { what: "the broken pair is told of" });
    expect(await fingerprintOf(server)).toBe(before);
    await copyFile(renewed.keyPath, join(directory, "tls.key"));
    await until(async () => (await fingerprintOf(server)) === renewed.fingerprint, { what: "the renewed one is used" });
    expect((await keeps.get("/health")).status).toBe(200);
  });

  test("does not start with files that cannot be used", async () => {
    const start = (more: Readonly<Record<string, string>>) =>
      startTestServer({ ...databaseSettings(database), ...tlsSettings(more) });
    await expect(start({ TLS_CERT_PATH: "/nowhere.pem" })).rejects.toThrow(/TLS_CERT_PATH cannot be read/);
    await expect(start({ TLS_KEY_PATH: join(stranger.directory, "ca.key") })).rejects.toThrow(
      /TLS_CERT_PATH: \S+ and TLS_KEY_PATH: \S+ cannot be used together: .* Name the two that were made together/,
    );
    await expect(start({ TLS_KEY_PATH: ca.certPath })).rejects.toThrow(
      /TLS_KEY_PATH: \S+ holds no private key .*: name the one that the certificate was made with/,
    );
    await expect(start({ TLS_CERT_PATH: host.keyPath })).rejects.toThrow(/TLS_CERT_PATH: \S+ holds no certificate/);
    await expect(start({ TLS_CLIENT_CA_PATH: ca.crlPath })).rejects.toThrow(
      /TLS_CLIENT_CA_PATH: \S+ holds no certificate .*: name the certificate of your clients' CA/,
    );
    await expect(start({ TLS_CLIENT_CRL_PATH: ca.certPath })).rejects.toThrow(
      /TLS_CLIENT_CRL_PATH: \S+ holds no revocation list .*: name what the CA publishes/,
    );
    await expect(start({ TLS_CLIENT_CA_PATH: join(directory, "ca", "index.txt") })).rejects.toThrow(
      /TLS_CLIENT_CA_PATH.* is not PEM/,
    );
    await expect(start({ TLS_KEY_PATH: "" })).rejects.toThrow(/TLS_CERT_PATH is set without TLS_KEY_PATH/);
  });
});

async function fingerprintOf(on: TestServer): Promise<string> {
  const socket = await open(on, {});
  const found = socket.getPeerX509Certificate()!.fingerprint256.replaceAll(":", "").toLowerCase();
  socket.destroy();
  return found;
}

async function open(on: TestServer, options: { cert?: string; key?: string; session?: Buffer }): Promise<TLSSocket> {
  const { hostname, port } = new URL(on.url);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), ca: caPem, maxVersion: "TLSv1.2", ...options }, () =>
      resolve(socket),
    );
    socket.once("error", reject);
  });
}

async function ask(socket: TLSSocket): Promise<number> {
  socket.write("GET /v1/logs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return Number(/^HTTP\/1.1 (\d+)/.exec(text)![1]);
}

async function sessionOf(on: TestServer, { cert, key }: IssuedCertificate): Promise<Buffer> {
  const socket = await open(on, { cert, key });
  const session = socket.getSession()!;
  expect(await ask(socket)).toBe(200);
  return session;
}

async function resume(on: TestServer, { cert, key }: IssuedCertificate, session: Buffer) {
  const socket = await open(on, { cert, key, session });
  return { reused: socket.isSessionReused(), status: await ask(socket) };
}
