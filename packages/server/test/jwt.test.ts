/** JSON Web Tokens: which are good, whose they are, and what becomes of them while their issuer is away. */
import { createHmac, generateKeyPairSync, randomBytes } from "node:crypto";
import { SignJWT } from "jose";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type TokenKeys, type TokenSettings, Tokens } from "../src/access/jwt.ts";
import { OPERATOR_TENANT, type TenantLog } from "../src/log/tenants.ts";
import type { List, Problem } from "../src/testing/api.ts";
import { AUDIENCE, ISSUER, newSigningKey, type SigningKey, TestIssuer } from "../src/testing/issuer.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer } from "../src/testing/server.ts";

const MINUTE = 60_000;
const EVENT = { action: "user.login", actor: { id: "alice" } };

const TENANT: TenantLog = {
  tenantId: "0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee",
  slug: "default",
  status: "active",
  logId: 1,
  settings: {},
  name: "x/default",
};
const OPERATOR: TenantLog = { ...TENANT, tenantId: "0190aaaa-bbbb-7ccc-8ddd-000000000000", slug: OPERATOR_TENANT };

let issuer: TestIssuer;
let now: number;
beforeEach(async () => {
  issuer = await TestIssuer.start();
  now = Date.now();
});
afterEach(() => issuer.close());

function tokensOf(keys: TokenKeys = { kind: "jwks", url: issuer.url }, more: Partial<TokenSettings> = {}): Tokens {
  const settings: TokenSettings = {
    keys,
    issuer: ISSUER,
    audience: AUDIENCE,
    tenantClaim: "tenant",
    scopesClaim: "scope",
    scopePrefix: undefined,
    serviceClaim: undefined,
    actorClaim: "sub",
    clockToleranceSeconds: 5,
    ...more,
  };
  const tenants = [TENANT, OPERATOR];
  const findTenant = async (name: string) => tenants.find(({ tenantId, slug }) => name === tenantId || name === slug);
  return new Tokens(settings, { findTenant, now: () => now });
}

/** Why a token is refused: the reason, or what is no denial. */
async function reasonOf(tokens: Tokens, token: string): Promise<string> {
  return tokens.authenticate(token).then(
    () => "accepted",
    (error: { reason?: string; name: string }) => error.reason ?? error.name,
  );
}

function pem(key: SigningKey): string {
  return key.publicKey.export({ type: "spki", format: "pem" }).toString();
}

const seconds = (ms: number) => Math.floor(ms / 1_000);

describe("a token", () => {
  test("of each algorithm says who brings it", async () => {
    for (const alg of ["EdDSA", "RS256", "ES256"] as const) {
      const key = newSigningKey(alg);
      issuer.keys = [newSigningKey(alg), key, newSigningKey()];
      const token = await issuer.token({ sub: "alice", scope: "openid write read admin writes" }, { key });
      const expected = {
        credential: { kind: "jwt", id: "alice" },
        tenantId: TENANT.tenantId,
        serviceId: undefined,
        scopes: ["write", "read", "admin"],
        actor: { type: "user", id: "alice" },
      };
      expect(await tokensOf().authenticate(token)).toEqual(expected);
      expect(await tokensOf({ kind: "public_key", pem: pem(key) }).authenticate(token)).toEqual(expected);
    }
  });

  test("of another issuer, for another audience, before or after its time, or without an end is refused", async () => {
    const tokens = tokensOf();
    const reason = async (claims: Record<string, unknown>) => reasonOf(tokens, await issuer.token(claims));
    expect(await reason({})).toBe("accepted");
    for (const claims of [
      { iss: "https://evil.example/" },
      { iss: ISSUER.slice(0, -1) },
      { iss: undefined },
      { aud: "https://other.example.com" },
      { aud: [] },
      { aud: undefined },
      { exp: undefined },
      { exp: "2999-01-01" },
      { nbf: seconds(now) + 60 },
      { sub: undefined },
      { sub: 7 },
      { sub: "" },
      { sub: "a\u0000b" },
      { sub: "\ud800" },
      { sub: "x".repeat(257) },
      { scope: { write: true } },
    ]) {
      expect([claims, await reason(claims)]).toEqual([claims, "jwt_invalid"]);
    }
    expect(await reason({ exp: seconds(now) - 60 })).toBe("jwt_expired");
    expect(await reason({ aud: ["https://other.example.com", AUDIENCE] })).toBe("accepted");
    // Within the tolerance.
    expect(await reason({ exp: seconds(now) - 2 })).toBe("accepted");
    expect(await reason({ nbf: seconds(now) + 3 })).toBe("accepted");
  });

  test("that names no tenant there is is refused", async () => {
    const tokens = tokensOf();
    for (const tenant of [undefined, null, 7, "", "nobody", "_Operator ", "%"]) {
      expect([tenant, await reasonOf(tokens, await issuer.token({ tenant }))]).toEqual([tenant, "jwt_tenant_unknown"]);
    }
    for (const tenant of ["default", "DEFAULT", TENANT.tenantId.toUpperCase()]) {
      expect((await tokens.authenticate(await issuer.token({ tenant }))).tenantId).toBe(TENANT.tenantId);
    }
  });

  test("acts across tenants only where it is the operator's", async () => {
    const tokens = tokensOf();
    const scopes = async (tenant: string) =>
      (await tokens.authenticate(await issuer.token({ tenant, scope: "operator read" }))).scopes;
    expect(await scopes("default")).toEqual(["read"]);
    expect(await scopes(OPERATOR_TENANT)).toEqual(["read", "operator"]);
  });

  test("is refused whose signature, algorithm or form is not right", async () => {
    const [key] = issuer.keys;
    const rsa = newSigningKey("RS256");
    issuer.keys = [key!, rsa];
    const good = await issuer.token();
    const [header, payload, signature] = good.split(".") as [string, string, string];
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const hmac = (head: string, secret: string) =>
      `${head}.${payload}.${createHmac("sha256", secret).update(`${head}.${payload}`).digest("base64url")}`;
    const forged = await issuer.token({}, { key: { ...newSigningKey(), kid: key!.kid } });
    const spki = rsa.publicKey.export({ type: "spki", format: "pem" }).toString();
    const bad = {
      "another key by this name": forged,
      "a changed claim": `${header}.${part({ ...JSON.parse(Buffer.from(payload, "base64url").toString()), scope: "admin" })}.${signature}`,
      "no signature": `${header}.${payload}.`,
      "alg none": `${part({ alg: "none" })}.${payload}.`,
      "alg NONE with a signature": `${part({ alg: "NONE", kid: key!.kid })}.${payload}.${signature}`,
      "HS256 by a public key's PEM": hmac(part({ alg: "HS256", kid: rsa.kid }), spki),
      "HS256 by a public key's PEM, without kid": hmac(part({ alg: "HS256" }), spki),
      "HS256 by nothing": hmac(part({ alg: "HS256", kid: key!.kid }), ""),
      "another algorithm of the family": await new SignJWT({})
        .setProtectedHeader({ alg: "PS256", kid: rsa.kid })
        .sign(rsa.privateKey),
      "RS256 by the name of an Ed25519 key": await issuer.token({}, { key: { ...rsa, kid: key!.kid } }),
      "a key in its header": await issuer.token(
        {},
        { key: newSigningKey(), header: { kid: undefined, jwk: key!.publicKey.export({ format: "jwk" }) } },
      ),
      "a critical header that is not known": `${part({ alg: "EdDSA", kid: key!.kid, crit: ["x"], x: 1 })}.${payload}.${signature}`,
      "a signature with a bit changed": `${header}.${payload}.${signature.startsWith("A") ? "B" : "A"}${signature.slice(1)}`,
      "a list of claims": `${header}.${part([1])}.${signature}`,
      "an unknown kid": await issuer.token({}, { key: newSigningKey() }),
    };
    for (const keys of [
      { kind: "jwks", url: issuer.url },
      { kind: "public_key", pem: pem(key!) },
    ] as const) {
      const tokens = tokensOf(keys);
      expect(await reasonOf(tokens, good)).toBe("accepted");
      for (const [what, token] of Object.entries(bad)) {
        expect([keys.kind, what, await reasonOf(tokens, token)]).toEqual([keys.kind, what, "jwt_invalid"]);
      }
    }
    // Nor does a public RSA key verify what was made by taking it for a secret.
    expect(await reasonOf(tokensOf({ kind: "public_key", pem: spki }), bad["HS256 by a public key's PEM"])).toBe(
      "jwt_invalid",
    );
  });

  test("by a secret is good where one is set, and then no other", async () => {
    const secret = randomBytes(32).toString("hex");
    const tokens = tokensOf({ kind: "secret", secret });
    const sign = (by: string, alg = "HS256") =>
      new SignJWT({ tenant: "default", scope: "write" })
        .setProtectedHeader({ alg })
        .setIssuer(ISSUER)
        .setAudience(AUDIENCE)
        .setSubject("alice")
        .setExpirationTime("5 minutes")
        .sign(Buffer.from(by));
    expect(await reasonOf(tokens, await sign(secret))).toBe("accepted");
    expect(await reasonOf(tokens, await sign(`${secret} `))).toBe("jwt_invalid");
    expect(await reasonOf(tokens, await sign(secret.repeat(2), "HS512"))).toBe("jwt_invalid");
    expect(await reasonOf(tokens, await issuer.token())).toBe("jwt_invalid");
    expect(await reasonOf(tokensOf(), await sign(secret))).toBe("jwt_invalid");
  });

  test("is read by the claims that settings name", async () => {
    const tokens = tokensOf(undefined, {
      tenantClaim: "https://example.com/tenant",
      scopesClaim: "realm_access.roles",
      scopePrefix: "tallystick:",
      serviceClaim: "azp",
      actorClaim: "profile.login",
    });
    const claims = {
      tenant: "nobody",
      scope: "admin",
      "https://example.com/tenant": "default",
      realm_access: { roles: ["tallystick:write", "read", "tallystick:nothing", 7] },
      azp: "orders",
      profile: { login: "alice@example.com" },
    };
    expect(await tokens.authenticate(await issuer.token(claims))).toMatchObject({
      credential: { id: "alice" },
      scopes: ["write"],
      serviceId: "orders",
      actor: { id: "alice@example.com" },
    });
    for (const bad of [
      { azp: "tallystick" },
      { azp: 7 },
      { azp: "x".repeat(129) },
      { profile: "x" },
      { profile: { __proto__: 1 } },
    ]) {
      expect([bad, await reasonOf(tokens, await issuer.token({ ...claims, ...bad }))]).toEqual([bad, "jwt_invalid"]);
    }
    const reaching = tokensOf(undefined, { actorClaim: "constructor.name" });
    expect(await reasonOf(reaching, await issuer.token())).toBe("jwt_invalid");
  });

  test("that was verified is not verified again for some seconds, and never outlives its end", async () => {
    const tokens = tokensOf(undefined, { clockToleranceSeconds: 0 });
    const token = await issuer.token({ exp: seconds(now) + 3 });
    expect(await reasonOf(tokens, token)).toBe("accepted");
    now += 3_000;
    expect(await reasonOf(tokens, token)).toBe("jwt_expired");
  });
});

describe("the issuer's keys", () => {
  test("are fetched once, however many ask at once, and before anyone asks", async () => {
    const tokens = tokensOf();
    void tokens.prefetch();
    const some = await Promise.all(Array.from({ length: 20 }, (_, i) => issuer.token({ sub: `user-${i}` })));
    await Promise.all(some.map((token) => tokens.authenticate(token)));
    expect(issuer.asked).toBe(1);
  });

  test("are asked for again by the name of a new one, and no more often than every ten seconds", async () => {
    const tokens = tokensOf();
    await tokens.authenticate(await issuer.token());
    const next = newSigningKey("ES256");
    issuer.keys.push(next);
    now += 10_000;
    expect(await reasonOf(tokens, await issuer.token({}, { key: next }))).toBe("accepted");
    expect(issuer.asked).toBe(2);
    for (let i = 0; i < 20; i++) {
      expect(await reasonOf(tokens, await issuer.token({}, { key: newSigningKey() }))).toBe("jwt_invalid");
    }
    expect(issuer.asked).toBe(2);
    expect(await reasonOf(tokens, await issuer.token())).toBe("accepted");
  });

  test("that were withdrawn are worth nothing once the set is renewed", async () => {
    const tokens = tokensOf();
    const old = await issuer.token();
    expect(await reasonOf(tokens, old)).toBe("accepted");
    issuer.keys = [newSigningKey()];
    now += 10_000;
    // Whoever brings a token by the new key renews the set.
    expect(await reasonOf(tokens, await issuer.token())).toBe("accepted");
    expect(await reasonOf(tokens, old)).toBe("jwt_invalid");
  });

  test("are renewed beside the requests", async () => {
    const tokens = tokensOf();
    await tokens.authenticate(await issuer.token());
    now += 5 * MINUTE;
    expect(await reasonOf(tokens, await issuer.token({ exp: seconds(now) + 60 }))).toBe("accepted");
    await expect.poll(() => issuer.asked).toBe(2);
  });

  test("go on while the issuer is away, for an hour; what cannot be judged is an error of the server's", async () => {
    const tokens = tokensOf();
    const later = () => issuer.token({ exp: seconds(now) + 60 });
    const token = await issuer.token();
    const unknown = await issuer.token({}, { key: newSigningKey() });
    await issuer.close();
    expect(await reasonOf(tokens, token)).toBe("KeysUnavailableError");
    await issuer.listen();
    now += 10_000;
    expect(await reasonOf(tokens, token)).toBe("accepted");

    await issuer.close();
    now += 10_000;
    // The key may be one that the issuer has made meanwhile.
    expect(await reasonOf(tokens, unknown)).toBe("KeysUnavailableError");
    expect(await reasonOf(tokens, unknown)).toBe("KeysUnavailableError");
    expect(await reasonOf(tokens, await later())).toBe("accepted");
    now += 59 * MINUTE;
    expect(await reasonOf(tokens, await later())).toBe("accepted");
    now += MINUTE;
    expect(await reasonOf(tokens, await later())).toBe("KeysUnavailableError");
    await issuer.listen();
    now += 10_000;
    expect(await reasonOf(tokens, await later())).toBe("accepted");
  });

  test("are not what an answer is that has none", async () => {
    for (const fault of [
      { status: 500, body: "" },
      { status: 302, body: "" },
      { status: 200, body: "<html>" },
      { status: 200, body: "{}" },
      { status: 200, body: `{"keys":7}` },
      { status: 200, body: `"${"x".repeat(1_100_000)}"` },
    ]) {
      issuer.fault = fault;
      expect(await reasonOf(tokensOf(), await issuer.token())).toBe("KeysUnavailableError");
    }
    issuer.fault = { status: 200, body: `{"keys":[]}` };
    expect(await reasonOf(tokensOf(), await issuer.token())).toBe("jwt_invalid");
    // A key that is too short, or a secret among the public ones, verifies nothing.
    const short = generateKeyPairSync("rsa", { modulusLength: 1024 });
    for (const jwk of [
      short.publicKey.export({ format: "jwk" }),
      { kty: "oct", k: Buffer.from("a secret that anyone can read here").toString("base64url") },
    ]) {
      issuer.fault = { status: 200, body: JSON.stringify({ keys: [{ ...jwk, kid: "k" }] }) };
      const head = (alg: string) => Buffer.from(JSON.stringify({ alg, kid: "k" })).toString("base64url");
      const body = (await issuer.token()).split(".")[1]!;
      for (const alg of ["RS256", "HS256"]) {
        expect(await reasonOf(tokensOf(), `${head(alg)}.${body}.AAAA`)).toBe("jwt_invalid");
      }
    }
  });
});

describe("over HTTP", () => {
  let database: TestDatabase;
  let server: TestServer;
  let login: TestIssuer;
  beforeAll(async () => {
    database = await TestDatabase.create();
    login = await TestIssuer.start();
    server = await startTestServer({
      ...databaseSettings(database),
      JWT_ISSUER: ISSUER,
      JWT_AUDIENCE: AUDIENCE,
      JWT_JWKS_URL: login.url,
    });
  });
  afterAll(async () => {
    await stopTestServers();
    await login.close();
    await database.close();
  });

  const bearer = (token: string) => server.api.as({ authorization: `Bearer ${token}` });

  test("a token writes and reads as far as its scopes reach, for its tenant", async () => {
    const api = bearer(await login.token({ scope: "write read" }));
    await api.record(EVENT);
    expect((await api.get<List>("/v1/logs?limit=1")).body.data[0]?.event).toMatchObject(EVENT);
    expect((await api.get("/v1/admin/api-keys")).status).toBe(403);
    expect((await api.get("/v1/tenants")).status).toBe(403);
    expect((await bearer(await login.token({ scope: "" })).get("/v1/logs")).status).toBe(403);
    expect((await server.operator.post("/v1/tenants", { slug: "other" })).status).toBe(201);
    expect((await api.get("/v1/logs", { "x-tenant-id": "other" })).status).toBe(403);
    expect((await bearer(await login.token({ tenant: "other" })).get<List>("/v1/logs")).body.data).toEqual([]);
  });

  test("what an administrator does by a token is told of its actor", async () => {
    const api = bearer(await login.token({ scope: "admin read", sub: "carol" }));
    const made = await api.post<{ secret: string }>("/v1/admin/api-keys", { name: "k", scopes: ["read"] });
    expect(made.status).toBe(201);
    const { body } = await api.get<List>("/v1/logs?action=tallystick.api_key.created");
    expect(body.data[0]!.event).toMatchObject({ actor: { type: "user", id: "carol" } });
    // API keys are what they were beside tokens.
    expect((await bearer(made.body.secret).get("/v1/logs")).status).toBe(200);
  });

  test("guesses of a neighbour hold up no token whose key is known", async () => {
    const limited = await startTestServer({
      ...databaseSettings(database),
      ...{ JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE, JWT_JWKS_URL: login.url, REFUSED_CREDENTIALS_LIMIT: "3" },
    });
    const by = (token: string) => limited.api.as({ authorization: `Bearer ${token}` }).get("/v1/logs");
    expect((await by(await login.token({ scope: "read" }))).status).toBe(200); // the keys are there
    const forged = () => login.token({}, { key: { ...newSigningKey(), kid: login.keys[0]!.kid } });
    for (let i = 0; i < 5; i++) expect((await by(await forged())).status).toBe(401); // a refusal of its own each time
    expect((await by(await login.token({ scope: "read", sub: "new" }))).status).toBe(200);
    // What must be looked up is not.
    expect((await by("tally_1")).status).toBe(429);
    expect((await by(await login.token({}, { key: newSigningKey() }))).status).toBe(429);
  });

  test("refusals are 401 that say why and repeat nothing; an issuer that is away is 503", async () => {
    const forged = await login.token({}, { key: { ...newSigningKey(), kid: login.keys[0]!.kid } });
    for (const [token, words] of [
      [forged, "signature does not verify"],
      [await login.token({ aud: "other" }), 'claim "aud"'],
      [await login.token({ exp: 1 }), "expired"],
      [await login.token({ tenant: "nobody" }), "no tenant"],
      ["eyJhbGciOiJub25lIn0.e30.", "algorithm"],
    ] as const) {
      const answer = await bearer(token).get<Problem>("/v1/logs");
      expect([answer.status, answer.headers["www-authenticate"]]).toEqual([401, 'Bearer realm="tallystick"']);
      expect(answer.body.detail).toContain(words);
      expect(answer.text).not.toContain(token.slice(0, 20));
    }
    expect(server.said).not.toContain("eyJ");
    // X-API-Key is for API keys.
    expect((await server.api.as({ "x-api-key": await login.token() }).get("/v1/logs")).status).toBe(401);

    const without = await startTestServer(databaseSettings(database));
    const taken = await without.api.as({ authorization: `Bearer ${await login.token()}` }).get<Problem>("/v1/logs");
    expect([taken.status, taken.body.detail]).toEqual([
      401,
      expect.stringContaining("this installation takes no tokens: JWT_ISSUER is not set"),
    ]);
    const unknown = await without.api.as({ authorization: "Bearer a.b.c" }).get<Problem>("/v1/logs");
    expect(unknown.body.detail).not.toContain("JWT_ISSUER");
    await without.stop();

    const away = await TestIssuer.start();
    await away.close();
    const other = await startTestServer({
      ...databaseSettings(database),
      ADMIN_TOKEN: server.credentials.admin_token,
      JWT_ISSUER: ISSUER,
      JWT_AUDIENCE: AUDIENCE,
      JWT_JWKS_URL: away.url,
    });
    const answer = await other.api.as({ authorization: `Bearer ${await login.token()}` }).get<Problem>("/v1/logs");
    expect([answer.status, answer.headers["retry-after"], answer.body.type]).toEqual([
      503,
      "10",
      "urn:tallystick:problem:unavailable",
    ]);
    // Everything else goes on.
    expect((await other.operator.get("/v1/logs")).status).toBe(200);
  });
});
