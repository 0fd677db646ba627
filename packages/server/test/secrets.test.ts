/** Credentials, in every place of a request that can hold one: what becomes of them, and that they are nowhere afterwards. */
import { request as sendRequest } from "node:http";
import { Writable } from "node:stream";
import { SignJWT } from "jose";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { redaction, withoutSecrets } from "../src/redaction.ts";
import type { Answer, Problem } from "../src/testing/api.ts";
import { AUDIENCE, ISSUER } from "../src/testing/issuer.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer } from "../src/testing/server.ts";

const JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.c2lnbmF0dXJlLW9mLW5vdGhpbmc";
const JWT_KEY = "chosen-by-the-operator-to-sign-tokens-with";
const CHOSEN_KEY = "chosen-by-the-operator-as-key";
const CHOSEN_TOKEN = "chosen-by-the-operator-as-token";

let db: TestDatabase;
let server: TestServer;
beforeAll(async () => {
  db = await TestDatabase.create();
  server = await startTestServer({
    ...databaseSettings(db),
    LOG_LEVEL: "TRACE",
    API_KEY: CHOSEN_KEY,
    ADMIN_TOKEN: CHOSEN_TOKEN,
    JWT_ISSUER: ISSUER,
    JWT_AUDIENCE: AUDIENCE,
    JWT_SECRET: JWT_KEY,
  });
});
afterAll(async () => {
  await stopTestServers();
  await db.close();
});

/** Good ones, and ones that look good. */
async function credentials(): Promise<string[]> {
  const made = await server.operator.post<{ secret: string }>("/v1/admin/api-keys", { name: "k", scopes: ["read"] });
  const made2 = await server.operator.post<{ secret: string; id: string }>("/v1/admin/api-keys", {
    name: "revoked",
    scopes: ["read"],
  });
  await server.operator.delete(`/v1/admin/api-keys/${made2.body.id}`);
  const token = await new SignJWT({ tenant: "default", scope: "read" })
    .setProtectedHeader({ alg: "HS256" })
    .setIssuer(ISSUER)
    .setAudience(AUDIENCE)
    .setSubject("u")
    .setExpirationTime("1h")
    .sign(Buffer.from(JWT_KEY));
  expect((await server.api.as({ authorization: `Bearer ${token}` }).get("/v1/logs")).status).toBe(200);
  const unknown = `tally_${"5e".repeat(20)}`;
  return [
    CHOSEN_KEY,
    CHOSEN_TOKEN,
    made.body.secret,
    made2.body.secret,
    unknown,
    `tallyadmin_${"ad".repeat(20)}`,
    JWT,
    token,
    JWT_KEY,
  ];
}

/** Where a credential is sent: a request each. */
function places(secret: string): { path: string; headers?: Record<string, string>; method?: string }[] {
  const inHeaders = [
    { authorization: `Bearer ${secret}` },
    { authorization: secret },
    { authorization: `Basic ${Buffer.from(`u:${secret}`).toString("base64")}` },
    { authorization: `Bearer ${secret} ${secret}` },
    { "x-api-key": secret },
    { "x-admin-token": secret },
    { "proxy-authorization": `Bearer ${secret}` },
    { cookie: `session=${secret}` },
    { authorization: `Bearer ${secret}`, "x-admin-token": secret, "x-tenant-id": secret },
    { "x-client-cert": secret, "x-client-verify": "SUCCESS" },
  ];
  const inUrls = ["api_key", "apiKey", "X-API-Key", "token", "access_token", "auth", "jwt", "password", "admin-token"];
  return [
    ...inHeaders.flatMap((headers) => [
      { path: "/v1/logs", headers },
      { path: "/v1/admin/api-keys", headers },
      { path: "/v1/admin/verify-chain", headers, method: "POST" },
      { path: "/nothing", headers },
    ]),
    ...inUrls.map((name) => ({ path: `/v1/logs?${name}=${encodeURIComponent(secret)}` })),
    { path: `/v1/logs/stream?token=${secret}` },
    { path: `/v1/logs?q=1&tenant_id=${secret}`, headers: { "x-admin-token": CHOSEN_TOKEN } },
    { path: `/v1/logs/${secret}`, headers: { "x-api-key": CHOSEN_KEY } },
    { path: `/${secret}/x` },
    { path: `/v1/logs/%zz${secret}` },
    { path: `/v1/tenants/${secret}/log/checkpoint`, headers: { "x-admin-token": CHOSEN_TOKEN } },
    { path: `http://user:${secret}@127.0.0.1/v1/logs` },
    { path: `http://user:${secret}@127.0.0.1/nothing` },
  ];
}

/** As {@link Api.send}, with the path exactly as it is. */
function send({ path, headers = {}, method = "GET" }: ReturnType<typeof places>[number]): Promise<Answer<Problem>> {
  const { hostname, port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    const outgoing = sendRequest({ hostname, port, path, headers, method }, async (incoming) => {
      const text = (await incoming.toArray()).join("");
      resolve({ status: incoming.statusCode!, headers: incoming.headers, text, body: JSON.parse(text || "{}") });
    });
    outgoing.on("error", reject).end();
  });
}

async function dump(): Promise<string> {
  const tables = await db.as<{ name: string }>(
    "postgres",
    `select c.oid::regclass::text as name from pg_class c
     where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition`,
  );
  const texts: string[] = [];
  for (const { name } of tables) {
    const rows = await db.as<{ row: string }>("postgres", `select t::text as row from ${name} t`);
    texts.push(...rows.map(({ row }) => row));
  }
  return texts.join("\n");
}

describe("a credential", () => {
  test("in a URL is a 400 that says where it belongs, good or not", async () => {
    for (const [secret, status] of [
      [CHOSEN_KEY, 400],
      ["wrong", 400],
    ] as const) {
      for (const name of ["api_key", "Api-Key", "token", "access_token", "authorization", "JWT"]) {
        const answer = await server.api.get(`/v1/logs?limit=1&${name}=${secret}`);
        expect([answer.status, answer.body.errors]).toEqual([
          status,
          [{ path: name, message: "is a credential: send it as Authorization: Bearer or X-API-Key" }],
        ]);
      }
    }
    const userinfo = await send({ path: `http://u:${CHOSEN_KEY}@127.0.0.1/v1/logs` });
    expect([userinfo.status, userinfo.body.errors?.map(({ path }) => path)]).toEqual([400, ["URL"]]);
  });

  test("is in no answer, no log line, no entry and no row, wherever it was sent and whatever failed", async () => {
    const all = await credentials();
    for (const secret of all) {
      for (const place of places(secret)) {
        const { status, text } = await send(place);
        expect(status, `${place.method ?? "GET"} ${place.path}`).toBeLessThan(500);
        // What was sent as a tenant's or an entry's name is named in the answer to whoever sent it; as a credential it is not.
        if (!/tenant|\/v1\/logs\/[^s]/.test(JSON.stringify(place))) {
          expect(text.includes(secret), `${JSON.stringify(place)} ${text}`).toBe(false);
        }
      }
    }
    // An error that nobody foresaw, with a credential in hand.
    await db.as("postgres", "alter table tallystick.api_keys rename to away");
    try {
      const { status } = await send({ path: "/v1/logs", headers: { "x-api-key": `tally_${"77".repeat(20)}` } });
      expect(status).toBe(500);
    } finally {
      await db.as("postgres", "alter table tallystick.away rename to api_keys");
    }
    expect(server.said).toContain('relation \\"tallystick.api_keys\\" does not exist');
    // What was refused is recorded once a minute, and when the server stops.
    expect(await server.stop()).toBe(0);
    const rows = await dump();
    expect(rows).toContain("tallystick.access.denied");
    for (const secret of [...all, `tally_${"77".repeat(20)}`]) {
      for (const form of [secret, Buffer.from(secret).toString("base64"), Buffer.from(secret).toString("hex")]) {
        expect(server.said.includes(form), `said ${form}`).toBe(false);
        expect(rows.includes(form), `stored ${form}`).toBe(false);
      }
    }
  });
});

describe("the log", () => {
  function lineOf(facts: object, message: string, secrets: string[] = []): string {
    const lines: string[] = [];
    const stream = new Writable({
      write(line, _encoding, done) {
        lines.push(String(line));
        done();
      },
    });
    pino(redaction(secrets), stream).error(facts, message);
    expect(() => JSON.parse(lines[0]!)).not.toThrow();
    return lines.join("");
  }

  test("hides what it was told is secret, and what looks like it, in whatever it writes", () => {
    const cause = Object.assign(new Error(`connect to postgres://u:p4ssw0rd@h/d failed with ${CHOSEN_KEY}`), {
      detail: "Failing row contains (alice@example.com)",
      headers: { authorization: "Bearer short1" },
    });
    const facts = {
      err: new Error(`no: Bearer ${JWT}`, { cause }),
      url: "/x?api_key=1234&tenant_id=acme",
      pem: "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n",
    };
    const line = lineOf(facts, 'secret "quoted\\secret" here, tally_0123456789', [CHOSEN_KEY, '"quoted\\secret"']);
    for (const hidden of ["p4ssw0rd", CHOSEN_KEY, JWT, "1234&", "MC4CAQ", "quoted", "tally_0123", "short1"]) {
      expect(line).not.toContain(hidden);
    }
    expect(lineOf({ err: cause }, "x")).not.toContain("alice@example.com");
    expect(line).toContain("tenant_id=acme");
    expect(line).toContain("postgres://u:********@h/d");
  });

  test("leaves prose, ids and hashes as they are", () => {
    for (const text of [
      "basic authentication failed; the bearer credential is unknown; token: expired; Authorization is missing",
      "0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee at http://127.0.0.1:8000/v1/logs?actor_id=u@example.com",
      `${"ab".repeat(32)} tally_stick tallystick.entries`,
    ]) {
      expect(withoutSecrets(text)).toBe(text);
    }
  });
});
