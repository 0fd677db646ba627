/** What the server's own log is told: once, and by nothing that a client could repeat at will. */
import type { FastifyBaseLogger, FastifyRequest } from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Limited } from "../src/http/limited.ts";
import { Problem as ServerProblem } from "../src/http/problem.ts";
import { TrustedProxies } from "../src/http/trusted-proxies.ts";
import { UntrustedForwarding } from "../src/http/untrusted-forwarding.ts";
import type { Problem } from "../src/testing/api.ts";
import { AUDIENCE, ISSUER, newSigningKey, TestIssuer } from "../src/testing/issuer.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await TestDatabase.create();
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

const serve = (settings: Readonly<Record<string, string>> = {}) =>
  startTestServer({ ...databaseSettings(database), ...settings });

function timesSaid(server: TestServer, words: string): number {
  return server.said.split(words).length - 1;
}

/** Lines of the level `error`. */
function errorsOf(server: TestServer): string[] {
  return server.said.split("\n").filter((line) => line.includes('"level":50'));
}

describe("a token issuer that is away", () => {
  test("is told of once, whoever sends tokens by keys that are not known; these count as guesses", async () => {
    const issuer = await TestIssuer.start();
    const url = issuer.url;
    await issuer.close();
    const server = await serve({
      ...{ JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE, JWT_JWKS_URL: url },
      REFUSED_CREDENTIALS_LIMIT: "5",
    });
    await until(() => timesSaid(server, "keys of the token issuer cannot be fetched") === 1);
    const answers: number[] = [];
    for (let i = 0; i < 8; i++) {
      const token = await issuer.token({ sub: `stranger-${i}` }, { key: newSigningKey() });
      answers.push((await server.api.as({ authorization: `Bearer ${token}` }).get<Problem>("/v1/logs")).status);
    }
    expect(answers).toEqual([503, 503, 503, 503, 503, 429, 429, 429]);
    expect((await server.api.get("/v1/logs")).status).toBe(200); // a good credential of the same address
    expect(errorsOf(server).length).toBe(1);
    await server.stop();
  });
});

describe("a refusal", () => {
  test("of a change is the client's to hear, and no failed commit", async () => {
    const server = await serve();
    const fingerprint = "ab".repeat(32);
    const map = () => server.operator.post("/v1/admin/certificates", { name: "n", scopes: ["read"], fingerprint });
    expect((await map()).status).toBe(201);
    expect((await map()).status).toBe(409);
    expect(server.said).not.toContain("a commit failed");
    expect(errorsOf(server)).toEqual([]);
    await server.stop();
  });
});

describe("X-Forwarded-For", () => {
  test("from an address that is not trusted is told of once", async () => {
    for (const [TRUSTED_PROXIES, times] of [
      ["10.9.8.7", 1],
      ["127.0.0.1", 0],
    ] as const) {
      const server = await serve({ TRUSTED_PROXIES });
      for (let i = 0; i < 3; i++) await server.api.get("/v1/logs", { "x-forwarded-for": `192.0.2.${i}` });
      expect(timesSaid(server, "X-Forwarded-For from 127.0.0.1 is not believed")).toBe(times);
      expect(timesSaid(server, "add it to TRUSTED_PROXIES")).toBe(times);
      await server.stop();
    }
  });

  test("from any number of addresses makes ten lines", () => {
    const said: string[] = [];
    const logger = { warn: (message: string) => said.push(message) } as unknown as FastifyBaseLogger;
    const untrusted = new UntrustedForwarding(new TrustedProxies([]), logger);
    for (let i = 0; i < 100; i++) {
      const socket = { remoteAddress: `192.0.2.${i}` } as FastifyRequest["socket"];
      untrusted.note({ headers: { "x-forwarded-for": "x" }, socket });
    }
    expect(said.length).toBe(10);
  });
});

describe("a limit that is reached", () => {
  test("is told of once a minute for each tenant, with its name and how to raise it, and counted", async () => {
    const server = await serve({ REFUSED_CREDENTIALS_LIMIT: "2" });
    const { slug } = await database.tenant();
    const made = await server.operator.post<{ secret: string }>(
      "/v1/admin/api-keys",
      { name: "n", scopes: ["read"] },
      { "x-tenant-id": slug },
    );
    const api = server.api.as({ authorization: `Bearer ${made.body.secret}` });
    const ask = async (count: number) => {
      const answers = Array.from({ length: count }, async () => (await api.get("/v1/logs")).status);
      return (await Promise.all(answers)).filter((status) => status === 429).length;
    };
    const limit = (settings: object) => server.operator.patch(`/v1/tenants/${slug}`, { settings });
    await limit({ rate_limit_requests: 1 });
    const refused = await ask(5);
    expect(refused).toBe(4);
    const command = `tallystick tenants limit ${slug} --requests 2`;
    expect(timesSaid(server, command)).toBe(1);
    expect(server.said).toContain(`requests of tenant ${slug} are answered 429: 1 a minute`);

    await limit({ rate_limit_requests: 100, credential_rate_limit_requests: 1 });
    const refusedOne = await ask(5);
    expect(refusedOne).toBeGreaterThan(2);
    expect(timesSaid(server, `tallystick tenants limit ${slug} --credential-requests 2`)).toBe(1);
    expect(timesSaid(server, command)).toBe(1);

    for (let i = 0; i < 5; i++) await server.api.as({ "x-api-key": `guess-${i}` }).get("/v1/logs");
    expect(timesSaid(server, "REFUSED_CREDENTIALS_LIMIT")).toBe(1);
    const lines = (await server.api.get("/metrics")).text.split("\n");
    expect(lines).toContain(`audit_requests_limited_total{limit="tenant"} ${refused}`);
    expect(lines).toContain(`audit_requests_limited_total{limit="credential"} ${refusedOne}`);
    expect(lines).toContain('audit_requests_limited_total{limit="refused_credentials"} 3');
    expect(errorsOf(server)).toEqual([]);
    await server.stop();
  });

  test("is told of again after a minute", () => {
    const said: string[] = [];
    let now = 0;
    const limited = new Limited({
      metrics: { limited: () => {} },
      logger: { warn: (_facts: object, message: string) => said.push(message) } as unknown as FastifyBaseLogger,
      now: () => now,
    });
    const problem = new ServerProblem(429, "too-many-requests", "x", { reason: "refused_too_often" });
    for (now = 0; now < 150_000; now += 1_000) limited.note({ ip: "192.0.2.1" } as FastifyRequest, problem);
    expect(said.length).toBe(3);
  });
});
