/** What the server's own log is told: once, and by nothing that a client could repeat at will. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
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
