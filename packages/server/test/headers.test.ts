/** What answers tell browsers: security headers, and which other sites' pages may use the API. */
import { readFile } from "node:fs/promises";
import { Agent } from "node:https";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { startBrowser } from "@tallystick/core/testing/browser";
import Fastify from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isForeignSocket, setSecurityHeaders } from "../src/http/security-headers.ts";
import type { Answer, Api } from "../src/testing/api.ts";
import { TestCa } from "../src/testing/certificates.ts";
import { TestDatabase } from "../src/testing/log.ts";
import {
  databaseSettings,
  startTestServer,
  stopTestServers,
  type TestServer,
  temporaryDirectory,
} from "../src/testing/server.ts";

const ORIGIN = "https://app.example.com";

const change = (api: Api, site: string) =>
  api.post("/v1/admin/api-keys", { name: "x", scopes: ["read"] }, { "sec-fetch-site": site });

let db: TestDatabase;
let server: TestServer;
/** Pages of {@link ORIGIN} may use it. */
let open: TestServer;
/** Any page may use it. */
let toAll: TestServer;
beforeAll(async () => {
  db = await TestDatabase.create();
  const settings = { ...databaseSettings(db), ADMIN_TOKEN: "the-admin-token-of-all", PUBLIC_LOG: "true" };
  server = await startTestServer(settings);
  open = await startTestServer({ ...settings, CORS_ORIGINS: `http://localhost:5173, ${ORIGIN}` });
  toAll = await startTestServer({ ...settings, CORS_ORIGINS: "*" });
});
afterAll(async () => {
  await stopTestServers();
  await db.close();
});

const EVERYWHERE = {
  "x-content-type-options": "nosniff",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "x-frame-options": "DENY",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
};

describe("security headers", () => {
  test("are on every kind of answer", async () => {
    const { id } = await server.api.record({ action: "a.b", actor: { id: "u" } });
    const anyone = server.api.as({});
    const answers: [number, Answer<unknown>][] = [
      [200, await server.api.get(`/v1/logs/${id}`)],
      [201, await server.api.post("/v1/logs", { action: "a.b", actor: { id: "u" } })],
      [400, await server.api.get("/v1/logs?nonsense=1")],
      [400, await server.api.get("/v1/logs/%zz")],
      [401, await anyone.get("/v1/logs")],
      [404, await anyone.get("/nothing")],
      [405, await server.api.delete("/v1/logs")],
      [415, await server.api.post("/v1/logs", "x", { "content-type": "text/html" })],
      [200, await anyone.get("/health")],
      [200, await anyone.get("/metrics")],
      [200, await anyone.get("/openapi.json")],
    ];
    for (const [status, { status: found, headers, text: body }] of answers) {
      expect(found, body).toBe(status);
      expect(headers).toMatchObject({ ...EVERYWHERE, "cache-control": "no-store" });
      expect(headers).not.toHaveProperty("strict-transport-security"); // plain HTTP
      expect(headers).not.toHaveProperty("access-control-allow-origin");
      expect(headers).not.toHaveProperty("server");
    }
  });

  test("are on what the HTTP parser refuses", async () => {
    const { port } = new URL(server.url);
    const socket = connect(Number(port), "127.0.0.1", () => socket.write("nonsense\r\n\r\n"));
    const answer = await text(socket);
    expect(answer).toMatch(/^HTTP\/1.1 400 /);
    for (const [name, value] of Object.entries(EVERYWHERE)) expect(answer).toContain(`${name}: ${value}\r\n`);
  });

  test("include HSTS where the client's side of the connection is TLS", async () => {
    const app = Fastify({ trustProxy: "127.0.0.1" });
    setSecurityHeaders(app);
    app.get("/", async () => "");
    const hstsOf = async (protocol: string, remoteAddress: string) => {
      const answer = await app.inject({ path: "/", remoteAddress, headers: { "x-forwarded-proto": protocol } });
      return answer.headers["strict-transport-security"];
    };
    expect(await hstsOf("https", "127.0.0.1")).toBe("max-age=31536000");
    expect(await hstsOf("http", "127.0.0.1")).toBeUndefined();
    expect(await hstsOf("https", "192.0.2.1")).toBeUndefined(); // whoever is no trusted proxy says so of itself
  });

  test("leave to a public checkpoint and tile how long they may be kept", async () => {
    const { headers } = await server.api.as({}).get("/v1/tenants/default/log/checkpoint");
    expect(headers).toMatchObject({ ...EVERYWHERE, "cache-control": expect.stringMatching(/^public, max-age=/) });
  });

  test("let /docs show the API, from here alone", async () => {
    const browser = await startBrowser();
    try {
      const page = await browser.newPage();
      const troubles: string[] = [];
      page.on("pageerror", (error) => troubles.push(String(error)));
      page.on("console", (message) => message.type() === "error" && troubles.push(message.text()));
      page.on("request", (request) => {
        if (!request.url().startsWith(server.url) && !request.url().startsWith("data:")) troubles.push(request.url());
      });
      const response = await page.goto(`${server.url}/docs`);
      expect(response!.headers()).toMatchObject({
        "content-security-policy": expect.stringMatching(/default-src 'self'.*frame-ancestors 'none'/),
        "x-frame-options": "DENY",
      });
      await page.getByText("Record an event", { exact: true }).waitFor();
      await page.getByText("Record an event", { exact: true }).click();
      await page.getByRole("button", { name: "Try it out" }).waitFor();
      expect(troubles).toEqual([]);
    } finally {
      await browser.close();
    }
  });
});

describe("a server of TLS", () => {
  test("has HSTS on its answers, and takes no change by a certificate alone from another site's page", async () => {
    const directory = await temporaryDirectory();
    const ca = await TestCa.create(join(directory, "ca"));
    const host = await ca.issue("localhost", { names: ["DNS:localhost", "IP:127.0.0.1"] });
    const client = await ca.issue("client");
    const agent = new Agent({ ca: await readFile(ca.certPath, "utf8"), cert: client.cert, key: client.key });
    const settings = {
      TLS_CERT_PATH: host.certPath,
      TLS_KEY_PATH: host.keyPath,
      TLS_CLIENT_CA_PATH: ca.certPath,
      TLS_CLIENT_AUTH: "optional",
      ADMIN_TOKEN: "the-admin-token-of-all",
    };
    const tls = await startTestServer({ ...databaseSettings(db), ...settings }, { tls: agent });
    const mapping = { name: "page", fingerprint: client.fingerprint, scopes: ["admin", "read", "write"] };
    expect((await tls.operator.post("/v1/admin/certificates", mapping)).status).toBe(201);
    const byCertificate = tls.api.as({});
    const read = await byCertificate.get("/v1/logs");
    expect([read.status, read.headers["strict-transport-security"]]).toEqual([200, "max-age=31536000"]);
    expect((await byCertificate.get("/nothing")).headers["strict-transport-security"]).toBe("max-age=31536000");
    for (const site of ["cross-site", "same-site"]) expect((await change(byCertificate, site)).status).toBe(403);
    for (const site of ["same-origin", "none"]) expect((await change(byCertificate, site)).status).toBe(201);
    agent.destroy();
  });
});

describe("CORS_ORIGINS", () => {
  const ask = (of: TestServer, origin: string, method = "POST") =>
    of.api.as({}).send<undefined>("OPTIONS", "/v1/logs", undefined, {
      origin,
      "access-control-request-method": method,
      "access-control-request-headers": "authorization,content-type",
    });

  test("lets the pages of these origins ask and read, without cookies", async () => {
    for (const origin of [ORIGIN, "http://localhost:5173"]) {
      const { status, headers } = await ask(open, origin);
      expect(status).toBe(204);
      expect(headers).toMatchObject({
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, HEAD, POST, PATCH, DELETE",
        "access-control-max-age": "600",
        vary: "Origin",
      });
      const allowed = headers["access-control-allow-headers"]!.toLowerCase().split(", ");
      expect(allowed).toEqual(expect.arrayContaining(["authorization", "x-api-key", "idempotency-key", "prefer"]));
      expect(allowed).not.toContain("x-admin-token");
      expect(headers).not.toHaveProperty("access-control-allow-credentials");
    }
    for (const answer of [
      await open.api.get("/v1/logs", { origin: ORIGIN }),
      await open.api.as({ origin: ORIGIN }).get("/v1/logs"),
    ]) {
      expect(answer.headers).toMatchObject({ ...EVERYWHERE, "access-control-allow-origin": ORIGIN });
      const exposed = answer.headers["access-control-expose-headers"]!.split(", ");
      expect(exposed).toEqual(expect.arrayContaining(["RateLimit", "Link", "Location", "X-Request-Id", "Retry-After"]));
    }
  });

  test("tells pages of other origins nothing", async () => {
    for (const origin of [
      "https://evil.example",
      "https://app.example.com.evil.example",
      "null",
      "http://app.example.com",
    ]) {
      for (const answer of [await ask(open, origin), await open.api.get("/v1/logs", { origin })]) {
        expect(answer.headers).not.toHaveProperty("access-control-allow-origin");
      }
    }
  });

  test("with * lets any page, still without what a browser sends by itself", async () => {
    const { headers } = await ask(toAll, "https://anyone.example");
    expect(headers["access-control-allow-origin"]).toBe("*");
    expect(headers).not.toHaveProperty("access-control-allow-credentials");
  });

  test("left out, allows none: OPTIONS is no method", async () => {
    const { status, headers } = await ask(server, ORIGIN);
    expect([status, headers.allow]).toEqual([405, "GET, HEAD, POST"]);
  });
});

describe("a page of another site", () => {
  test("changes nothing by what a browser sends by itself", async () => {
    for (const of of [server, toAll]) {
      for (const site of ["cross-site", "same-site"]) expect((await change(of.api.as({}), site)).status).toBe(403);
      for (const site of ["same-origin", "none"]) expect((await change(of.api.as({}), site)).status).toBe(401);
      expect((await change(of.api, "cross-site")).status).toBe(201); // who has a credential says so in a header
    }
  });
});

describe("isForeignSocket() compares a page's origin with the server's", () => {
  const PROXY = "10.0.0.7";
  test.each([
    // Host, Origin, whether it is foreign
    ["audit.example", "https://audit.example", false],
    ["audit.example", "http://audit.example", false],
    ["AUDIT.example", "http://audit.example", false],
    ["audit.example:8080", "http://audit.example:8080", false],
    ["[::1]:8080", "http://[::1]:8080", false],
    ["audit.example:443", "https://audit.example", false],
    ["audit.example:80", "http://audit.example", false],
    ["audit.example", "http://audit.example:9999", true],
    ["audit.example:8443", "https://audit.example", true],
    ["audit.example:443", "http://audit.example", true],
    ["audit.example", "https://evil.example", true],
    ["audit.example", "null", true],
    ["", "http://audit.example", true],
    // Named
    ["audit.example", "https://app.example", false],
    ["audit.example", "https://app.example:8443", true],
    // The scheme that a trusted proxy says, and what another says
    ["audit.example", "https://audit.example", false, { proto: "https" }],
    ["audit.example", "https://audit.example", false, { proto: "wss" }],
    ["audit.example", "http://audit.example", true, { proto: "https" }],
    ["audit.example", "https://audit.example", true, { proto: "http" }],
    ["audit.example", "https://audit.example", false, { proto: "http", from: "192.0.2.1" }],
    ["inside:8080", "https://audit.example", false, { proto: "https", host: "audit.example" }],
    ["inside:8080", "https://audit.example", true, { proto: "https", host: "audit.example", from: "192.0.2.1" }],
  ] as [string, string, boolean, { proto?: string; host?: string; from?: string }?][])(
    "Host %s, Origin %s: %s %j",
    async (host, origin, isForeign, said = {}) => {
      const has = (address: string | undefined) => address === PROXY;
      const app = Fastify({ trustProxy: has });
      const options = { corsOrigins: ["https://app.example"], proxies: { has } };
      app.get("/", async (request) => isForeignSocket(request, options));
      const headers = {
        ...{ host, origin, upgrade: "websocket" },
        ...(said.proto !== undefined && { "x-forwarded-proto": said.proto }),
        ...(said.host !== undefined && { "x-forwarded-host": said.host }),
      };
      const { body } = await app.inject({ path: "/", remoteAddress: said.from ?? PROXY, headers });
      expect(JSON.parse(body)).toBe(isForeign);
    },
  );
});
