/**
 * Behind a proxy: whose word is taken for an address and a certificate, and deploy/nginx with a real nginx. Where this machine has no
 * nginx, deploy/nginx/get-nginx.sh unpacks one.
 */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { Agent } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Api, type Headers, type List, type Problem } from "../src/testing/api.ts";
import { type IssuedCertificate, TestCa } from "../src/testing/certificates.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { skipWithout } from "../src/testing/needed.ts";
import { findNginx, Nginx } from "../src/testing/nginx.ts";
import {
  databaseSettings,
  startTestServer,
  stopTestServers,
  type TestServer,
  temporaryDirectory,
} from "../src/testing/server.ts";
import { StreamClient } from "../src/testing/stream.ts";

const EVENT = { action: "user.login", actor: { id: "alice" } };

let database: TestDatabase;
let directory: string;
let ca: TestCa;
let stranger: TestCa;
let host: IssuedCertificate;
let orders: IssuedCertificate;
/** Trusts this machine's address. */
let behind: TestServer;
/** Trusts another. */
let open: TestServer;

beforeAll(async () => {
  database = await TestDatabase.create();
  directory = await temporaryDirectory();
  [ca, stranger] = await Promise.all([
    TestCa.create(join(directory, "ca")),
    TestCa.create(join(directory, "other"), "another CA"),
  ]);
  host = await ca.issue("localhost", { names: ["DNS:localhost", "IP:127.0.0.1"] });
  orders = await ca.issue("orders", { names: ["URI:spiffe://acme/orders"] });
  behind = await startTestServer({ ...databaseSettings(database), TRUSTED_PROXIES: "127.0.0.1, ::1" });
  const ADMIN_TOKEN = behind.credentials.admin_token;
  open = await startTestServer({ ...databaseSettings(database), ADMIN_TOKEN, TRUSTED_PROXIES: "10.9.8.7" });
  expect((await map({ san: "URI:spiffe://acme/orders" })).status).toBe(201);
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

function map(body: Readonly<Record<string, unknown>>) {
  return behind.operator.post<{ id: string }>("/v1/admin/certificates", {
    name: "n",
    scopes: ["write", "read"],
    ...body,
  });
}

function passedOn({ cert }: Pick<IssuedCertificate, "cert">, verify = "SUCCESS"): Headers {
  return { "x-client-cert": encodeURIComponent(cert), "x-client-verify": verify };
}

describe("headers of a proxy", () => {
  test("that is trusted say whose certificate it has verified", async () => {
    await behind.api.as(passedOn(orders)).record(EVENT);
    const refused = async (headers: Headers) => {
      const { status, body } = await behind.api.as(headers).get<Problem>("/v1/logs");
      return [status, body.detail];
    };
    expect(await refused({ "x-client-verify": "NONE" })).toEqual([401, expect.stringContaining("Send an API key")]);
    const unmapped = await ca.issue("unmapped");
    expect(await refused(passedOn(unmapped))).toEqual([401, expect.stringContaining("mapped to no tenant")]);
    const expired = await ca.issue("expired", { names: ["URI:spiffe://acme/orders"], from: -9, to: -1 });
    expect(await refused(passedOn(expired))).toEqual([401, expect.stringContaining("use one that is valid now")]);
    for (const [verify, words] of [
      ["FAILED:certificate has expired", "has expired"],
      ["FAILED:certificate revoked", "revoked by its CA"],
      ["FAILED:unable to verify the first certificate", "not of a CA"],
      ["SUCCESS, SUCCESS", "not of a CA"],
      ["", "without X-Client-Verify"],
    ]) {
      expect(await refused(passedOn(orders, verify))).toEqual([401, expect.stringContaining(words!)]);
    }
    for (const text of ["", "abc", "%", "-----BEGIN CERTIFICATE-----", encodeURIComponent(orders.key)]) {
      const headers = { "x-client-cert": `${text} `, "x-client-verify": "SUCCESS" };
      expect(await refused(headers)).toEqual([401, expect.stringContaining("holds no certificate")]);
    }
  });

  test("that is not trusted are refused, whatever else is brought", async () => {
    for (const credential of [{}, open.api.headers, open.operator.headers]) {
      for (const headers of [passedOn(orders), { "x-client-verify": "NONE" }, { "x-client-cert": "x" }] as Headers[]) {
        const { status, body } = await open.api.as({ ...credential, ...headers }).get<Problem>("/v1/logs");
        expect([status, body.detail]).toEqual([401, expect.stringContaining("TRUSTED_PROXIES")]);
      }
    }
    expect((await open.api.get("/v1/logs")).status).toBe(200);
  });

  test("that is trusted say where a request comes from, and others do not", async () => {
    const ADMIN_TOKEN = behind.credentials.admin_token;
    for (const [TRUSTED_PROXIES, ...forwarded] of [
      ["127.0.0.1", "198.51.100.7", "203.0.113.1, 198.51.100.8"],
      ["10.9.8.7", "203.0.113.2"],
    ] as const) {
      const server = await startTestServer({ ...databaseSettings(database), ADMIN_TOKEN, TRUSTED_PROXIES });
      for (const address of forwarded) {
        const headers = { "x-api-key": "a-key-of-nobody", "x-forwarded-for": address };
        expect((await server.api.as(headers).get("/v1/logs")).status).toBe(401);
      }
      await server.stop(); // its refusals are recorded by then
    }
    const path = "/v1/logs?action=tallystick.access.denied&limit=1000";
    const { body } = await behind.operator.get<List>(path, { "x-tenant-id": "_operator" });
    const addresses = new Set(body.data.map(({ event }) => (event.context as { ip?: string } | undefined)?.ip));
    expect([...addresses].sort()).toEqual(["127.0.0.1", "198.51.100.7", "198.51.100.8"]);
  });
});

const nginx = findNginx();

describe.skipIf(skipWithout("nginx (deploy/nginx/get-nginx.sh)", nginx))("nginx", () => {
  let proxy: Nginx;
  const started: Nginx[] = [];
  const agents: Agent[] = [];
  beforeAll(async () => {
    proxy = await start("site", new URL(behind.url).host);
  });
  afterAll(async () => {
    for (const agent of agents) agent.destroy();
    for (const one of started) await one.stop();
  });

  async function start(
    name: string,
    upstream: string,
    exchange: Readonly<Record<string, string>> = {},
  ): Promise<Nginx> {
    const files = { cert: host.certPath, key: host.keyPath, ca: ca.certPath };
    const one = await Nginx.start(nginx!, { directory: join(directory, name), upstream, files, exchange });
    started.push(one);
    return one;
  }

  test.each(["sse", "websocket"] as const)("a stream by %s comes at once, and so does a refusal", async (carrier) => {
    const agent = new Agent({ rejectUnauthorized: false }); // its own CA is checked by the tests of the server's TLS
    agents.push(agent);
    const { headers } = behind.api;
    const client = await StreamClient.open({ carrier, url: proxy.url, headers, agent });
    await client.until(({ said }) => said.length > 0);
    const { seq } = await behind.api.record(EVENT);
    await client.until(({ entries }) => entries.some((entry) => entry.seq === seq));
    const query = { since_seq: "1000000" };
    const refused = await StreamClient.open({ carrier, url: proxy.url, headers, agent, query }).catch((error) => error);
    expect(refused).toMatchObject({ status: 400, problem: { errors: [{ path: "since_seq" }] } });
    client.close();
  });

  function by(certificate?: IssuedCertificate, headers: Headers = {}, on: Nginx = proxy): Api {
    const agent = new Agent({ ca: [host.cert], cert: certificate?.cert, key: certificate?.key, maxCachedSessions: 0 });
    agent.options.rejectUnauthorized = false; // its own CA is checked by the tests of the server's TLS
    agents.push(agent);
    return new Api(on.url, headers, agent);
  }

  const status = async (api: Api) => (await api.get<Problem>("/v1/logs")).status;

  test("passes a client's certificate on, and nobody else's", async () => {
    await by(orders).record(EVENT);
    expect((await by(orders).get<List>("/v1/logs?limit=1")).body.data[0]!.event).toMatchObject(EVENT);
    expect(await status(by())).toBe(401);
    expect(await status(by(await ca.issue("nobody")))).toBe(401);
    expect(await status(by(undefined, behind.api.headers))).toBe(200);
    // What the client itself writes into these headers does not arrive.
    for (const forged of [passedOn(orders), { ...passedOn(orders), "x-forwarded-for": "127.0.0.1" }]) {
      const { status, body } = await by(undefined, forged).get<Problem>("/v1/logs");
      expect([status, body.detail]).toEqual([401, expect.stringContaining("Send an API key")]);
    }
    expect(await status(by(await ca.issue("nobody-2"), passedOn(orders)))).toBe(401);
  });

  test("refuses a certificate of another CA, or one that has expired, in the server's form", async () => {
    const expired = await ca.issue("expired-2", { names: ["URI:spiffe://acme/orders"], from: -9, to: -1 });
    const foreign = await stranger.issue("orders", { names: ["URI:spiffe://acme/orders"] });
    for (const certificate of [expired, foreign]) {
      const answer = await by(certificate, behind.api.headers).get<Problem>("/v1/logs");
      expect(answer.status).toBe(401);
      expect(answer.headers["content-type"]).toBe("application/problem+json");
      expect(answer.body).toMatchObject({ type: "urn:tallystick:problem:unauthenticated", status: 401 });
    }
  });

  test("a revoked mapping is refused within a second", async () => {
    const billing = await ca.issue("billing");
    const mapped = await map({ fingerprint: billing.fingerprint });
    await by(billing).record(EVENT);
    await behind.operator.delete(`/v1/admin/certificates/${mapped.body.id}`);
    expect(await status(by(billing))).toBe(401);
  });

  test("speaks TLS 1.2 and 1.3 and nothing older", async () => {
    const protocol = (version: "TLSv1.1" | "TLSv1.2" | "TLSv1.3") =>
      new Promise<string | null>((resolve) => {
        const { port } = new URL(proxy.url);
        const socket = connect(
          {
            port: Number(port),
            host: "127.0.0.1",
            rejectUnauthorized: false,
            minVersion: version,
            maxVersion: version,
            ciphers: "DEFAULT:@SECLEVEL=0",
          },
          () => {
            resolve(socket.getProtocol());
            socket.destroy();
          },
        ).on("error", () => resolve(null));
      });
    expect(await Promise.all([protocol("TLSv1.1"), protocol("TLSv1.2"), protocol("TLSv1.3")])).toEqual([
      null,
      "TLSv1.2",
      "TLSv1.3",
    ]);
  });

  test("limits a client's requests, and says so in the server's form; metrics stay inside", async () => {
    const strict = await start("strict", new URL(behind.url).host, {
      "rate=200r/s": "rate=1r/m",
      "burst=400": "burst=5",
    });
    const api = by(undefined, behind.api.headers, strict);
    const answers = await Promise.all(Array.from({ length: 10 }, () => api.get<Problem>("/v1/logs")));
    expect(answers.map(({ status }) => status).sort()).toEqual([...Array(6).fill(200), ...Array(4).fill(429)]);
    const refused = answers.find(({ status }) => status === 429)!;
    expect([refused.headers["retry-after"], refused.body.type]).toEqual([
      "1",
      "urn:tallystick:problem:too-many-requests",
    ]);
    const inside = ["/metrics", "/health", "/health/ready"];
    const spelled = (path: string) => [
      path,
      `${path}/`,
      `${path}//`,
      `${path}?a=b`,
      `${path}/?a=b`,
      `/${path}`,
      `${path}%2F`,
    ];
    for (const path of [...inside.flatMap(spelled), "/%6Detrics/", "/x/../metrics/"]) {
      const { status, text } = await by(undefined, {}).get(path);
      expect([path, status]).toEqual([path, 404]);
      expect(text).not.toContain("checks");
    }
    expect((await by(undefined, {}).get("/health/live")).status).toBe(200);
    // The server itself has them, with a slash at the end too.
    for (const path of inside) expect((await behind.api.get(`${path}/`)).status).toBe(200);
  });

  test("a body as large as the server takes goes through; of a larger one its client is told", async () => {
    const api = by(undefined, behind.api.headers);
    const events = Array.from({ length: 300 }, (_, i) => ({ ...EVENT, metadata: { i, text: "x".repeat(50_000) } }));
    expect((await api.post("/v1/logs/bulk", { events })).status).toBe(201);
    const answer = await api.post<Problem>("/v1/logs/bulk", Buffer.alloc(18 * 1024 ** 2, " "));
    expect([answer.status, answer.body.type]).toEqual([413, "urn:tallystick:problem:too-large"]);
  });

  test("a server that is away is 503", async () => {
    const lost = await start("lost", "127.0.0.1:1");
    const answer = await by(undefined, {}, lost).get<Problem>("/v1/logs");
    expect([answer.status, answer.headers["retry-after"], answer.body.type]).toEqual([
      503,
      "1",
      "urn:tallystick:problem:unavailable",
    ]);
  });

  describe("in front of what shows what arrives", () => {
    let echo: Server;
    let site: Nginx;
    beforeAll(async () => {
      echo = createServer((request, response) => response.end(JSON.stringify(request.headers)));
      echo.on("upgrade", (request, socket) => {
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${request.headers.upgrade}\r\nConnection: Upgrade\r\n\r\n`,
        );
        socket.pipe(socket);
      });
      echo.listen(0, "127.0.0.1");
      await once(echo, "listening");
      site = await start("echo", `127.0.0.1:${(echo.address() as AddressInfo).port}`);
    });
    afterAll(() => void echo.close());

    test("sets every header that the server believes", async () => {
      const forged = {
        "x-forwarded-for": "6.6.6.6",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "http",
        forwarded: "for=6.6.6.6",
        "x-client-verify": "SUCCESS",
        "x-client-cert": "forged",
      };
      const { text } = await by(undefined, forged, site).get("/");
      expect(JSON.parse(text)).toMatchObject({
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "https",
        "x-client-verify": "NONE",
      });
      expect(text).not.toMatch(/6\.6\.6\.6|evil|forged/);
    });

    test("a WebSocket is passed on, in both directions", async () => {
      const { port } = new URL(site.url);
      const socket = connect({ port: Number(port), host: "127.0.0.1", rejectUnauthorized: false });
      socket.write(
        "GET /v1/logs/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
      );
      let text = "";
      let sent = false;
      for await (const chunk of socket) {
        text += String(chunk);
        if (!sent && text.includes("\r\n\r\n")) {
          sent = true;
          socket.write("what is sent comes back");
        }
        if (text.endsWith("comes back")) break;
      }
      expect(text).toMatch(/^HTTP\/1.1 101 .*Upgrade: websocket.*what is sent comes back$/s);
      socket.destroy();
    });
  });
});
