/** Starting, on what other starts left or are doing at the same moment, and what a database that is away looks like. */
import { once } from "node:events";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ApiKeys } from "../src/access/api-keys.ts";
import { IssuedKeys } from "../src/access/issued-keys.ts";
import { keepSecrets, newToken } from "../src/credentials.ts";
import { openDataDir } from "../src/data-dir.ts";
import { isConnectionError, isUnavailable } from "../src/db/unavailable.ts";
import { problemOf } from "../src/http/problem.ts";
import { startMaintenance } from "../src/log/maintenance.ts";
import { readinessOf } from "../src/readiness.ts";
import type { Checkpoints } from "../src/signing/checkpoints.ts";
import type { Publication } from "../src/signing/publication.ts";
import { Api } from "../src/testing/api.ts";
import { TestDatabase, testSequencer } from "../src/testing/log.ts";
import { TcpProxy } from "../src/testing/proxy.ts";
import {
  databaseSettings,
  startTestServer,
  stopTestServers,
  temporaryDirectory,
  until,
} from "../src/testing/server.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await TestDatabase.create();
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

/** What readiness looks at, where nothing was signed. */
const unsigned = {
  signing: {
    checkpoints: { refusals: [] } as unknown as Checkpoints,
    publication: { failure: undefined } as Publication,
    missingLogs: [],
    witnesses: { problems: () => undefined },
  },
  weakLock: false,
};

async function keyCountOf(of: TestDatabase): Promise<number> {
  const { rows } = await of.superuser.query<{ n: number }>("select count(*)::int as n from tallystick.api_keys");
  return rows[0]!.n;
}

/** A port that is taken until `free` is called. */
async function takenPort() {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  return { port: (other.address() as AddressInfo).port, free: () => other.close() };
}

describe("the first API key", () => {
  let database: TestDatabase;
  beforeEach(async () => {
    database = await TestDatabase.create();
  });
  afterEach(() => database.close());
  const keyCount = () => keyCountOf(database);

  test("is made by one server: a further DATA_DIR has none, and says where to get one", async () => {
    const dataDirs = await Promise.all([1, 2, 3].map(async () => join(await temporaryDirectory(), "data")));
    const servers = await Promise.all(
      dataDirs.map((dataDir) => startTestServer(databaseSettings(database), { dataDir })),
    );
    expect(await keyCount()).toBe(1);
    const withKey = servers.filter(({ credentials }) => credentials.api_key !== undefined);
    expect(withKey.length).toBe(1);
    expect((await withKey[0]!.api.get("/v1/logs")).status).toBe(200);

    const dataDir = join(await temporaryDirectory(), "data");
    const later = await startTestServer(databaseSettings(database), { dataDir });
    expect(later.credentials).not.toHaveProperty("api_key");
    expect(JSON.parse(await readFile(join(dataDir, "credentials.json"), "utf8"))).not.toHaveProperty("api_key");
    const made = await later.operator.post("/v1/admin/api-keys", { name: "n", scopes: ["read"] });
    expect(made.status).toBe(201);
    await later.stop();
    // Again on the same DATA_DIR, and with a key of another installation's in it.
    const again = await startTestServer(databaseSettings(database), { dataDir });
    expect(again.credentials).toMatchObject({ admin_token: later.credentials.admin_token });
    await again.stop();
    const credentials = { ...again.credentials, api_key: newToken("tally_") };
    await writeFile(join(dataDir, "credentials.json"), JSON.stringify(credentials));
    const foreign = await startTestServer(databaseSettings(database), { dataDir });
    expect(foreign.said).toContain("the API key in credentials.json is none of this installation's");
    expect(foreign.said).toContain("make another with tallystick api-keys create");
    expect(foreign.credentials).not.toHaveProperty("api_key");
    expect(await keyCount()).toBe(2);
    const { body } = await foreign.operator.get<{ data: unknown[] }>("/v1/logs?action=tallystick.api_key.created");
    expect(body.data.length).toBe(1); // each but the first
    await Promise.all([...servers, foreign].map((server) => server.stop()));
  });

  test("that was revoked stays revoked, and the server starts, and says so", async () => {
    const dataDir = join(await temporaryDirectory(), "data");
    const first = await startTestServer(databaseSettings(database), { dataDir });
    const { data } = (await first.api.get<{ data: { id: string; prefix: string }[] }>("/v1/admin/api-keys")).body;
    const own = data.find(({ prefix }) => first.credentials.api_key.startsWith(prefix))!;
    expect((await first.operator.delete(`/v1/admin/api-keys/${own.id}`)).status).toBe(200);
    await first.stop();

    const keys = await keyCount();
    const second = await startTestServer(databaseSettings(database), { dataDir });
    expect(second.said).toContain(
      "the API key in credentials.json is revoked or expired: make another with tallystick api-keys create",
    );
    expect((await second.api.get("/v1/logs")).status).toBe(401);
    expect((await second.operator.get("/v1/logs")).status).toBe(200);
    expect(await keyCount()).toBe(keys);
    await second.stop();
  });

  test("that is set as API_KEY and has expired is left as it is", async () => {
    const API_KEY = newToken("tally_");
    const first = await startTestServer({ ...databaseSettings(database), API_KEY });
    await first.stop();
    await database.superuser.query(
      "update tallystick.api_keys set expires_at = now() - interval '1 hour' where secret_hash = sha256($1)",
      [Buffer.from(API_KEY)],
    );
    const second = await startTestServer({ ...databaseSettings(database), API_KEY });
    expect(second.said).toContain("the API key in API_KEY is revoked or expired");
    expect((await second.api.get("/v1/logs")).status).toBe(401);
    await second.stop();
  });

  test("is one, whatever number of starts fail before one listens", async () => {
    const dataDir = join(await temporaryDirectory(), "data");
    const { port, free } = await takenPort();
    const keys = await keyCount();
    const settings = { ...databaseSettings(database), PORT: `${port}` };
    for (let start = 0; start < 2; start++) {
      await expect(startTestServer(settings, { dataDir })).rejects.toThrow(/is taken by another program/);
    }
    free();
    const server = await startTestServer({ ...settings, PORT: "0" }, { dataDir });
    expect(await keyCount()).toBe(keys + 1);
    expect((await server.api.get("/v1/logs")).status).toBe(200);
    await server.stop();
  });

  test("is the same for two first starts at once on one DATA_DIR", async () => {
    const dataDir = join(await temporaryDirectory(), "data");
    const keys = await keyCount();
    const servers = await Promise.all([1, 2, 3].map(() => startTestServer(databaseSettings(database), { dataDir })));
    for (const server of servers) {
      const kept = JSON.parse(await readFile(join(dataDir, "credentials.json"), "utf8"));
      const { url: _, ...secrets } = server.credentials;
      expect(kept).toMatchObject(secrets);
      expect((await server.operator.get("/v1/tenants")).status).toBe(200);
    }
    expect(await keyCount()).toBe(keys + 1);
    expect(await readdir(dataDir)).toEqual(["credentials.json"]);
    await Promise.all(servers.map((server) => server.stop()));
  });

  test("keepSecrets() lets one of many win", async () => {
    const directory = await temporaryDirectory();
    const kept = await Promise.all(
      Array.from({ length: 20 }, () =>
        keepSecrets(directory, { tenant: "default", admin_token: newToken("a"), api_key: newToken("k") }),
      ),
    );
    expect(new Set(kept.map((secrets) => JSON.stringify(secrets))).size).toBe(1);
    expect(await readdir(directory)).toEqual(["credentials.json"]);
  });
});

describe("DATA_DIR", () => {
  test("that is no directory, or cannot be made, is refused in words", async () => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, "file"), "");
    for (const [path, why] of [
      [join(directory, "file"), /is a file, or lies below one: name a directory/],
      [join(directory, "file", "data"), /is a file, or lies below one: name a directory/],
      ["/proc/tallystick", /cannot be written to/],
      ["/proc/tallystick/data", /cannot be written to/],
    ] as const) {
      await expect(openDataDir(path)).rejects.toMatchObject({ code: "data_dir", message: expect.stringMatching(why) });
    }
    await expect(startTestServer(databaseSettings(database), { dataDir: "/proc/tallystick" })).rejects.toThrow(
      /StartError: DATA_DIR \/proc\/tallystick cannot be written to/,
    );
  });

  test("is made with all above it, and left empty", async () => {
    const directory = join(await temporaryDirectory(), "a/b/c");
    await Promise.all([openDataDir(directory), openDataDir(directory)]);
    expect(await readdir(directory)).toEqual([]);
    await mkdir(join(directory, "d"));
    await openDataDir(directory);
  });
});

describe("a database that is away", () => {
  test("is told from one that refuses", () => {
    for (const code of [
      "ECONNREFUSED",
      "ENOTFOUND",
      "EAI_AGAIN",
      "EHOSTUNREACH",
      "ENETUNREACH",
      "57P03",
      "08006",
      "25P03",
    ]) {
      expect([code, isConnectionError({ code }), isUnavailable({ code })]).toEqual([code, true, true]);
    }
    for (const code of ["53300", "58030", "25006", "28P01", "3D000", "40001", "40P01", "55P03", "57P05"]) {
      expect([code, isConnectionError({ code }), isUnavailable({ code })]).toEqual([code, false, true]);
      expect(problemOf(Object.assign(new Error("no"), { code }))).toMatchObject({ status: 503, retryAfterSeconds: 1 });
    }
    for (const code of ["23505", "42501", "42P01", "57014", "XX000"]) expect(isUnavailable({ code })).toBe(false);
    expect(isConnectionError({ code: "ENOENT", syscall: "connect" })).toBe(true);
    expect(isUnavailable({ code: "ENOENT", syscall: "open" })).toBe(false);
    expect(isUnavailable(undefined)).toBe(false);
  });

  test("is waited for at the start, and a refused password is not", async () => {
    const proxy = await TcpProxy.to(database.url());
    proxy.set("refuse");
    const starting = startTestServer(databaseSettings(database, (url) => proxy.through(url)));
    await until(() => proxy.refused >= 2); // before the second it has said that it waits
    proxy.set("pass");
    const server = await starting;
    expect(server.said).toContain("waiting for PostgreSQL");
    await server.stop();
    await proxy.close();

    const wrong = new URL(database.url("tallystick_writer"));
    wrong.password = "wrong";
    const startedAt = performance.now();
    await expect(startTestServer({ DATABASE_URL: wrong.href })).rejects.toThrow(/password authentication failed/);
    expect(performance.now() - startedAt).toBeLessThan(20_000);
  });

  test("moveTo() leads new connections to the new address", async () => {
    const before = await TcpProxy.to(database.url());
    const after = await TcpProxy.to(database.url());
    const own = database.connect((url) => before.through(url));
    await own.query("select 1");
    before.set("refuse");
    after.set("pass");
    own.moveTo(after.through(database.url("tallystick_writer")), after.through(database.url("tallystick_reader")));
    const { tenantId } = (await database.tenants.find("default"))!;
    await expect.poll(() => own.query("select 1 as one").catch(() => []), { timeout: 5_000 }).toEqual([{ one: 1 }]);
    await own.read(tenantId, async (client) => client.query("select 1"));
    await own.write(async (transaction) => transaction.commit([]));
    await own.close();
    await Promise.all([before.close(), after.close()]);
  });
});

test("PostgreSQL of our own that comes back on another port is found there, and credentials.json says where", async () => {
  const server = await startTestServer({});
  const { id } = await server.api.record({ action: "before", actor: { id: "alice" } });
  const kept = async () => JSON.parse(await readFile(join(server.dataDir, "credentials.json"), "utf8"));
  const { port } = new URL(server.credentials.database_url);
  const pidFile = join(server.dataDir, "postgres/postmaster.pid");
  // The server sees nothing until another program has the port.
  process.kill(server.pid, "SIGSTOP");
  process.kill(Number.parseInt(await readFile(pidFile, "utf8"), 10), "SIGKILL");
  let other: Server | undefined;
  await until(async () => {
    const attempt = createServer().listen(Number(port), "127.0.0.1");
    const listens = await once(attempt, "listening").then(
      () => true,
      () => false,
    );
    if (listens) other = attempt;
    return listens;
  });
  process.kill(server.pid, "SIGCONT");
  await until(async () => (await server.api.get(`/v1/logs/${id}`)).status === 200);
  await server.api.record({ action: "after", actor: { id: "alice" } });
  expect(new URL((await kept()).database_url).port).not.toBe(port);
  expect(await kept()).toMatchObject({ url: server.url, api_key: server.credentials.api_key });
  other!.close();
  expect(await server.stop()).toBe(0);
});

describe("what anyone may ask", () => {
  test("is not in the way of commits: the writers' pool stays free", async () => {
    const own = database.connect();
    const release: (() => void)[] = [];
    const held = Array.from({ length: 4 }, () =>
      own.write((transaction) => new Promise<void>((resolve) => release.push(() => resolve(transaction.commit([]))))),
    );
    await expect.poll(() => release.length).toBe(4);
    // Every connection of the writers is taken.
    await expect(new ApiKeys(own).authenticate("tally_unknown")).rejects.toMatchObject({ reason: "api_key_unknown" });
    const readiness = readinessOf({ database: own, unmet: [], maxClockSkewSeconds: 60, ...unsigned });
    expect((await readiness()).checks.database).toEqual({ status: "ok" });
    for (const end of release) end();
    await Promise.all(held);
    await own.close();
  });

  test("is asked of the database once: readiness in a second, keys while a look-up is under way and after", async () => {
    let queries = 0;
    const counting = new Proxy(database.database, {
      get(target, name) {
        if (name === "query") queries++;
        const value = Reflect.get(target, name, target) as unknown;
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const readiness = readinessOf({ database: counting, unmet: [], maxClockSkewSeconds: 60, ...unsigned });
    await Promise.all([readiness(), readiness(), readiness()]);
    await readiness();
    expect(queries).toBe(1);

    let now = 1_000_000;
    const keys = new ApiKeys(counting, { now: () => now });
    const unknown = () =>
      expect(keys.authenticate("tally_unknown")).rejects.toMatchObject({ reason: "api_key_unknown" });
    queries = 0;
    await Promise.all(Array.from({ length: 50 }, unknown));
    await unknown();
    expect(queries).toBe(1);
    now += 1_000;
    await unknown();
    expect(queries).toBe(2);
  });

  test("a key that was unknown a moment ago is good once it is made, and bad once it is revoked", async () => {
    const apiKeys = new ApiKeys(database.database, { now: () => 1_000_000 });
    const sequencer = testSequencer(database.database);
    const keys = new IssuedKeys({ database: database.database, sequencer, apiKeys, tenants: database.tenants });
    const log = (await database.tenants.find("default"))!;
    const { tenantId } = log;
    const secret = newToken("tally_");
    await expect(apiKeys.authenticate(secret)).rejects.toMatchObject({ reason: "api_key_unknown" });
    await keys.ensure(tenantId, { name: "own", scopes: ["read"] }, secret);
    expect(await apiKeys.authenticate(secret)).toMatchObject({ tenantId, scopes: ["read"] });
    await keys.ensure(tenantId, { name: "again", scopes: ["write"] }, secret);
    const own = (await keys.list(tenantId)).filter(({ prefix }) => secret.startsWith(prefix));
    expect(own.map(({ name }) => name)).toEqual(["own"]);
    await keys.revoke(log, { actor: { id: "alice" } }, own[0]!.id);
    await expect(apiKeys.authenticate(secret)).rejects.toMatchObject({ reason: "api_key_revoked" });
    await keys.ensure(tenantId, { name: "own", scopes: ["read"] }, secret);
    await expect(apiKeys.authenticate(secret)).rejects.toMatchObject({ reason: "api_key_revoked" });
  });
});

test("maintenance drops old weeks of keys at the start already", async () => {
  await database.superuser.query(
    `create table tallystick.idempotency_keys_2020_01_06 partition of tallystick.idempotency_keys
       for values from ('2020-01-06 00:00:00+00') to ('2020-01-13 00:00:00+00');
     alter table tallystick.idempotency_keys_2020_01_06 owner to tallystick_owner`,
  );
  const said: string[] = [];
  const errors: object[] = [];
  const log = { info: (message: string) => said.push(message), error: (facts: object) => errors.push(facts) };
  const maintenance = await startMaintenance(database.database, 7, log);
  await maintenance.stop();
  expect(errors).toEqual([]);
  expect(said.join("\n")).toContain("dropped idempotency_keys_2020_01_06");
});

test("every parameter with U+0000 is a 400 that names it", async () => {
  const server = await startTestServer(databaseSettings(database));
  for (const api of [server.api, server.operator, new Api(server.url)]) {
    for (const [path, name] of [
      ["/v1/logs?action=%00*", "action"],
      ["/v1/logs?tenant_id=%00", "tenant_id"],
      ["/v1/logs?actor_id=a&actor_id=b%00", "actor_id"],
      ["/v1/tenants/%00", "id"],
      ["/v1/tenants/a%00b", "id"],
      ["/v1/logs/%00", "id"],
      ["/health?x=%00", "x"],
    ] as const) {
      const { status, body } = await api.get(path);
      expect([path, status, body.errors?.map((error) => error.path)]).toEqual([path, 400, [name]]);
    }
  }
  for (const name of ["no such tenant", "A", "a_b", "x".repeat(64), "é"]) {
    expect((await server.operator.get(`/v1/tenants/${encodeURIComponent(name)}`)).status).toBe(404);
  }
  await server.stop();
});
