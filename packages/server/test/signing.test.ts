/** What is signed, and what is not: keys, the sign-lock, restored copies, forks, successors. */

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { chmod, copyFile, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openCheckpoint, signCheckpoint } from "@tallystick/core/checkpoint";
import { parseReceipt, verifyReceipt } from "@tallystick/core/receipt";
import { noteSigner, parseVerifierKey } from "@tallystick/core/verifier-key";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { SignLock } from "../src/signing/sign-lock.ts";
import type { Api, Head, List } from "../src/testing/api.ts";
import { checkLog, reportOf, TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";

const LOG = "/v1/tenants/default/log";
const databases: TestDatabase[] = [];

async function newDatabase(): Promise<TestDatabase> {
  const database = await TestDatabase.create();
  databases.push(database);
  return database;
}

async function copyOf(database: TestDatabase): Promise<TestDatabase> {
  const copy = await database.copy();
  databases[databases.indexOf(database)] = copy;
  return copy;
}

afterEach(() => stopTestServers());
afterAll(async () => {
  for (const database of databases) await database.close();
});

const event = (i: number) => ({ action: "order.update", actor: { id: `u-${i}` } });

async function record(api: Api, count: number): Promise<void> {
  await api.recordAll(Array.from({ length: count }, (_, i) => event(i)));
}

async function newestCheckpoint(api: Api, path = LOG) {
  const key = parseVerifierKey((await api.get(`${path}/vkey`)).text.trim());
  return openCheckpoint((await api.get(`${path}/checkpoint`)).text, key, key.name);
}

async function published(server: TestServer, size: number): Promise<void> {
  await until(async () => (await newestCheckpoint(server.api)).size === size, { what: `size ${size} is published` });
}

const SETTINGS = { CHECKPOINT_INTERVAL_MS: "20" };
/** The log key and sign-lock of one database's servers, for those of another. */
const signingOf = ({ signingDirectory }: TestDatabase) => ({
  LOG_KEY_PATH: join(signingDirectory, "log-key.pem"),
  SIGN_LOCK_PATH: join(signingDirectory, "sign-lock.db"),
});

describe("the log key", () => {
  test("is made for its owner alone, and any other key, or none, is refused", async () => {
    const database = await newDatabase();
    const settings = databaseSettings(database);
    const { LOG_KEY_PATH: path } = settings;
    const first = await startTestServer(settings);
    const vkey = (await first.api.get(`${LOG}/vkey`)).text;
    await first.stop();
    expect((await stat(path)).mode & 0o777).toBe(0o600);

    const pem = await readFile(path, "utf8");
    const other = generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" });
    await writeFile(path, other);
    await expect(startTestServer(settings)).rejects.toThrow(
      /is not this database's .*every replica signs with the same/,
    );
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs8", format: "pem" });
    await writeFile(path, rsa);
    await expect(startTestServer(settings)).rejects.toThrow(/holds no Ed25519 private key/);
    await writeFile(path, "rubbish");
    await expect(startTestServer(settings)).rejects.toThrow(/holds no Ed25519 private key/);
    await writeFile(path, pem);
    await chmod(path, 0o644);
    await expect(startTestServer(settings)).rejects.toThrow(/is open to other users \(mode 644\): chmod 600/);
    await rm(path);
    await expect(startTestServer(settings)).rejects.toThrow(/is missing, and this database's checkpoints were signed/);

    await writeFile(path, pem, { mode: 0o600 });
    await chmod(path, 0o600);
    const again = await startTestServer(settings);
    expect((await again.api.get(`${LOG}/vkey`)).text).toBe(vkey);
  });

  test("is one key, whichever of many first starts makes it", async () => {
    const database = await newDatabase();
    const settings = {
      ...databaseSettings(database),
      ADMIN_TOKEN: "admin-token-of-this-test",
      API_KEY: "api-key-of-this-test",
    };
    const servers = await Promise.all([1, 2, 3].map(() => startTestServer(settings)));
    const vkeys = await Promise.all(servers.map(async ({ api }) => (await api.get(`${LOG}/vkey`)).text));
    expect(new Set(vkeys).size).toBe(1);
  });
});

describe("checkpoints", () => {
  test("are published while the log grows, of committed heads only, and kept", async () => {
    const database = await newDatabase();
    const server = await startTestServer({ ...databaseSettings(database), ...SETTINGS });
    await published(server, 0);
    for (const size of [1, 300, 301]) {
      await record(server.api, size - (await newestCheckpoint(server.api)).size);
      await published(server, size);
    }
    const { rows } = await database.superuser.query(
      `select c.size, c.root = h.root as committed from tallystick.checkpoints c left join tallystick.heads h using (log_id, size)
       where c.log_id = (select id from tallystick.logs where slug = 'default') order by size`,
    );
    expect(rows).toEqual(["0", "1", "300", "301"].map((size) => ({ size, committed: true })));
    await expect(
      database.as(
        "tallystick_writer",
        "insert into tallystick.checkpoints (log_id, size, tenant_id, root, note) select log_id, 302, tenant_id, root, note from tallystick.checkpoints limit 1",
        "insert into tallystick.checkpoints (log_id, size, tenant_id, root, note) select id, 302, tenant_id, sha256('x'), 'x' from tallystick.logs",
      ),
    ).rejects.toThrow(/checkpoints_head_fkey/);
    expect(await server.stop()).toBe(0);
    await checkLog(database.database, (await database.tenants.find("default"))!);
  });

  test("are published at once for what a server left behind that died", async () => {
    const database = await newDatabase();
    const settings = databaseSettings(database);
    const server = await startTestServer({ ...settings, CHECKPOINT_INTERVAL_MS: "3600000" });
    await record(server.api, 3);
    await server.kill();
    const next = await startTestServer({ ...settings, CHECKPOINT_INTERVAL_MS: "3600000" }, { dataDir: server.dataDir });
    const sizes = "select max(size) as size from tallystick.checkpoints";
    await until(async () => (await database.superuser.query(sizes)).rows[0].size === "3");
    expect((await next.api.get("/health/ready")).status).toBe(200);
  });

  test("are signed by several servers on one lock, of one history", async () => {
    const database = await newDatabase();
    const settings = { ...databaseSettings(database), ...SETTINGS, ADMIN_TOKEN: "admin-token-of-this-test" };
    const API_KEY = "api-key-of-this-test";
    const servers = await Promise.all([1, 2].map(() => startTestServer({ ...settings, API_KEY })));
    const heads = await Promise.all(
      Array.from({ length: 200 }, (_, i) =>
        servers[i % 2]!.api.post<Head & { receipt: string }>("/v1/logs?receipt=true", event(i)),
      ),
    );
    const logKey = parseVerifierKey((await servers[0]!.api.get(`${LOG}/vkey`)).text.trim());
    for (const { body } of heads) verifyReceipt(body.receipt, { logKey });
    await Promise.all(servers.map((server) => published(server, 200)));
    for (const { body } of heads) {
      const { size } = verifyReceipt(body.receipt, { logKey }).checkpoint;
      expect((await servers[1]!.api.get(`${LOG}/consistency?from=${size}`)).status).toBe(200);
    }
  });
});

describe("verification names a published checkpoint", () => {
  test("that is of another tree, signed by another key, or was put there", async () => {
    const database = await newDatabase();
    const server = await startTestServer({ ...databaseSettings(database), ...SETTINGS });
    await record(server.api, 3);
    await published(server, 3);
    await record(server.api, 2);
    await published(server, 5);
    await server.stop();
    const log = (await database.tenants.find("default"))!;
    expect((await reportOf(database, log)).problems).toEqual([]);
    const forger = noteSigner(log.name, randomBytes(32));
    const root = randomBytes(32);
    const forged = signCheckpoint({ origin: log.name, size: 5, root }, [forger]);
    await database.tamper("update tallystick.checkpoints set root = $1, note = $2 where size = 5", [root, forged]);
    await database.tamper(
      "update tallystick.checkpoints set note = replace(note, E'\\n3\\n', E'\\n4\\n') where size = 3",
    );
    const { rows } = await database.superuser.query(
      "select encode(root, 'hex') as root from tallystick.heads where size = 5",
    );
    expect((await reportOf(database, log)).problems).toMatchObject([
      { seq: 2, kind: "checkpoint", field: "note", detail: expect.stringContaining("not signed by the log's key") },
      { seq: 4, kind: "checkpoint", field: "root", stored: root.toString("hex"), expected: rows[0].root },
      { seq: 4, kind: "checkpoint", field: "note", stored: expect.stringContaining(log.name) },
    ]);
  });
});

describe("the sign-lock", () => {
  test("has what was signed before anyone sees it, wherever the server is killed", async () => {
    const database = await newDatabase();
    const settings = { ...databaseSettings(database), ...SETTINGS };
    const dataDir = join(database.signingDirectory, "data");
    let seen = 0;
    for (const kills of [1, 3, 10, 40, 90]) {
      const server = await startTestServer(settings, { dataDir });
      let answers = 0;
      const killed: Promise<void>[] = [];
      await Promise.allSettled(
        Array.from({ length: 120 }, async (_, i) => {
          const { body } = await server.api.post<{ receipt: string }>("/v1/logs?receipt=true", event(i));
          const logKey = parseReceipt(body.receipt).checkpoint;
          seen = Math.max(seen, Number(logKey.split("\n")[1]));
          answers++;
          if (answers === kills) killed.push(server.kill());
        }),
      );
      await Promise.all(killed);
      const lock = new SignLock(settings.SIGN_LOCK_PATH);
      const last = lock.all().find(({ log }) => log.endsWith("/default"));
      lock.close();
      expect(last!.size).toBeGreaterThanOrEqual(seen);
    }
    const server = await startTestServer(settings, { dataDir });
    expect((await server.api.get("/health/ready")).status).toBe(200);
    await record(server.api, 1);
  });

  test("is asked for where checkpoints were published without it, and made from them when told so", async () => {
    const database = await newDatabase();
    const settings = { ...databaseSettings(database), ...SETTINGS };
    const server = await startTestServer(settings);
    await record(server.api, 5);
    await published(server, 5);
    await server.stop();
    await rename(settings.SIGN_LOCK_PATH, `${settings.SIGN_LOCK_PATH}.away`);
    for (const _ of [1, 2]) {
      await expect(startTestServer(settings)).rejects.toThrow(
        /does not know checkpoints .*\/(_operator at size 0|default at size 5).*SIGN_LOCK_ADOPT=true/,
      );
    }
    const adopting = await startTestServer({ ...settings, SIGN_LOCK_ADOPT: "true" });
    await record(adopting.api, 1);
    await published(adopting, 6);
    await adopting.stop();
    const again = await startTestServer(settings);
    expect((await newestCheckpoint(again.api)).size).toBe(6);
  });

  test("that has gone back is refused: it has everything before it is published", async () => {
    const database = await newDatabase();
    const settings = { ...databaseSettings(database), ...SETTINGS };
    const { dataDir } = await (async () => {
      const server = await startTestServer(settings);
      await record(server.api, 1);
      await published(server, 1);
      await server.stop();
      return server;
    })();
    await copyFile(settings.SIGN_LOCK_PATH, `${settings.SIGN_LOCK_PATH}.old`);
    const server = await startTestServer(settings, { dataDir });
    await record(server.api, 1);
    await published(server, 2);
    await server.stop();
    await rename(`${settings.SIGN_LOCK_PATH}.old`, settings.SIGN_LOCK_PATH);
    await expect(startTestServer(settings, { dataDir })).rejects.toThrow(
      /does not know checkpoints .*default at size 2/,
    );
  });

  test("is never made of what somebody has put into the database", async () => {
    const database = await newDatabase();
    const settings = { ...databaseSettings(database), ...SETTINGS };
    const server = await startTestServer(settings);
    const { dataDir } = server;
    await record(server.api, 1);
    await published(server, 1);
    await record(server.api, 1);
    await published(server, 2);
    await server.stop();
    await rm(settings.SIGN_LOCK_PATH);
    const forged = randomBytes(32);
    await database.tamper("update tallystick.checkpoints set root = $1 where size = 2", [forged]);
    const adopting = await startTestServer({ ...settings, SIGN_LOCK_ADOPT: "true" }, { dataDir });
    expect((await newestCheckpoint(adopting.api)).size).toBe(1); // the newest that the key has signed
    await adopting.stop();
    const lock = new SignLock(settings.SIGN_LOCK_PATH);
    for (const { root } of lock.all()) expect(Buffer.from(root).equals(forged)).toBe(false);
    lock.close();
    expect(adopting.said).toContain("SIGN_LOCK_ADOPT is set");
  });

  test("that is no sign-lock is refused", async () => {
    const database = await newDatabase();
    const settings = databaseSettings(database);
    await writeFile(settings.SIGN_LOCK_PATH, "this is no database, and long enough to be looked at as one".repeat(20));
    await expect(startTestServer(settings)).rejects.toThrow(/the sign-lock .* cannot be opened .*move it away/);
  });

  test("that cannot be written costs receipts and checkpoints, and no entry, until it can", async () => {
    const database = await newDatabase();
    const settings = { ...databaseSettings(database), ...SETTINGS };
    const server = await startTestServer(settings);
    await record(server.api, 1);
    await published(server, 1);
    const slugs = Array.from({ length: 8 }, (_, i) => `away-${i}`);
    for (const slug of slugs) await server.operator.post("/v1/tenants", { slug });
    // Another program holds the file's lock: as good as a disk that does not answer.
    // It waits for its turn: the server may just be writing there.
    const other = new DatabaseSync(settings.SIGN_LOCK_PATH, { timeout: 10_000 });
    other.exec("begin exclusive");
    const { status, body } = await server.api.post<{ seq: number; receipt: null; receipt_problem: { detail: string } }>(
      "/v1/logs?receipt=true",
      event(1),
    );
    expect({ status, body }).toMatchObject({
      status: 201,
      body: { seq: 1, receipt: null, receipt_problem: { status: 503, detail: expect.stringContaining("signed") } },
    });
    // Logs that this server has not committed to before, all in one commit: the lock is not waited for once for each.
    const first = await Promise.all(
      slugs.map((slug) => server.operator.post("/v1/logs", event(1), { "x-tenant-id": slug })),
    );
    expect(first.map((answer) => answer.status)).toEqual(slugs.map(() => 201));
    await until(async () => {
      const ready = await server.api.get<{ checks: { signatures: { status: string } } }>("/health/ready");
      return ready.status === 200 && ready.body.checks.signatures.status === "warning";
    });
    await record(server.api, 1);
    other.exec("rollback");
    other.close();
    await published(server, 3);
    await until(() => server.said.includes("checkpoints cannot be published"));
    expect(server.said.split("\n").filter((line) => line.includes("cannot be published"))).toHaveLength(1);
  });

  test("beside the server's own PostgreSQL is reported as weak", async () => {
    const server = await startTestServer({});
    const { body } = await server.api.get<{ checks: Record<string, unknown> }>("/health/ready");
    expect(body.checks.sign_lock).toMatchObject({
      status: "warning",
      detail: expect.stringContaining("SIGN_LOCK_PATH"),
    });
  });
});

/** That a server neither signs nor records, says so, and still answers reads. */
async function expectRefusal(server: TestServer, why: RegExp, readable: number): Promise<void> {
  const write = await server.api.post("/v1/logs", event(1));
  expect(write).toMatchObject({ status: 503, body: { type: "urn:tallystick:problem:unsignable" } });
  expect(write.body.detail).toMatch(why);
  expect(write.body.detail).toContain("tallystick log succeed --reason");
  const ready = await server.api.get<{ checks: { signatures: { status: string; detail: string } } }>("/health/ready");
  expect(ready.status).toBe(503);
  expect(ready.body.checks.signatures).toMatchObject({ status: "failed", detail: expect.stringMatching(why) });
  expect((await server.api.listAll()).length).toBe(readable);
  expect(server.said.split("\n").filter((line) => why.test(line))).toHaveLength(1);
}

describe("a database that is not what was signed", () => {
  test("a restored backup: nothing is signed or recorded until a successor cites what was signed", async () => {
    const original = await newDatabase();
    const signing = signingOf(original);
    const before = await startTestServer({ ...databaseSettings(original), ...SETTINGS });
    await record(before.api, 4);
    await published(before, 4);
    await before.stop();
    const backup = await copyOf(original);
    const after = await startTestServer({ ...databaseSettings(original), ...SETTINGS }, { dataDir: before.dataDir });
    await record(after.api, 3);
    await published(after, 7);
    const last = (await after.api.get(`${LOG}/checkpoint`)).text;
    await after.stop();

    const restored = await startTestServer(
      { ...databaseSettings(backup), ...signing, ...SETTINGS },
      { dataDir: before.dataDir },
    );
    await expectRefusal(
      restored,
      /was signed at size 7 with root [0-9a-f]{64}, and the database has only 4 entries/,
      4,
    );

    const answer = await restored.operator.post<{ name: string; slug: string; checkpoint: string }>(`${LOG}/succeed`, {
      reason: "the disk failed; restored from last night",
    });
    expect(answer).toMatchObject({ status: 201, body: { slug: "default.2", checkpoint: last } });
    expect(await restored.operator.post(`${LOG}/succeed`, {})).toMatchObject({ status: 400 });
    const [first] = (await restored.api.get<List>("/v1/logs?order=asc")).body.data;
    expect(first).toMatchObject({
      seq: 0,
      service: { id: "tallystick" },
      event: {
        action: "tallystick.log.succeeded",
        reason: "the disk failed; restored from last night",
        metadata: {
          checkpoint: last,
          found: { size: 4 },
          signed: { size: 7 },
          predecessor: expect.stringMatching(/default$/),
        },
      },
    });
    await record(restored.api, 2);
    await published(restored, 3);
    await until(async () => (await restored.api.get("/health/ready")).status === 200);
    // What was in the old log is still there, with its proof.
    expect((await restored.api.listAll({ log: "default" })).map(({ seq }) => seq)).toEqual([3, 2, 1, 0]);
    expect(
      (await restored.api.post<{ ok: boolean; size: number }>("/v1/admin/verify-chain?log=default", undefined)).body,
    ).toMatchObject({ ok: true, size: 4 });
    expect((await restored.api.get("/v1/logs?log=default.9")).body.errors).toMatchObject([{ path: "log" }]);
    const old = await newestCheckpoint(restored.api, "/v1/tenants/default/logs/default");
    expect(old.size).toBe(4);
    await checkLog(backup.database, (await backup.tenants.find("default"))!);
    await restored.stop();
    const again = await startTestServer(
      { ...databaseSettings(backup), ...signing, ...SETTINGS },
      { dataDir: before.dataDir },
    );
    await record(again.api, 1);
    await published(again, 4);
  });

  test("another history of the same size, and one that has grown past it", async () => {
    const original = await newDatabase();
    const signing = signingOf(original);
    const before = await startTestServer({ ...databaseSettings(original), ...SETTINGS });
    await record(before.api, 4);
    await published(before, 4);
    await before.stop();
    const copy = await copyOf(original);
    // Whoever has the key and a lock of their own can sign another history: with the true lock it is found out.
    await copyFile(signing.LOG_KEY_PATH, join(copy.signingDirectory, "log-key.pem"));
    await chmod(join(copy.signingDirectory, "log-key.pem"), 0o600);
    const { dataDir } = before;
    const forger = await startTestServer(
      { ...databaseSettings(copy), ...SETTINGS, SIGN_LOCK_ADOPT: "true" },
      { dataDir },
    );
    await record(forger.api, 2);
    await published(forger, 6);
    await forger.stop();
    const truth = await startTestServer({ ...databaseSettings(original), ...SETTINGS }, { dataDir });
    await record(truth.api, 2);
    await published(truth, 6);
    await truth.stop();

    const same = await startTestServer({ ...databaseSettings(copy), ...signing, ...SETTINGS }, { dataDir });
    await expectRefusal(
      same,
      /was signed at size 6 with root [0-9a-f]{64}, and the database has another root at that size/,
      6,
    );
    await same.stop();
    const grown = await startTestServer({ ...databaseSettings(copy), ...SETTINGS }, { dataDir });
    await record(grown.api, 5);
    await published(grown, 11);
    await grown.stop();
    const larger = await startTestServer({ ...databaseSettings(copy), ...signing, ...SETTINGS }, { dataDir });
    await expectRefusal(
      larger,
      /was signed at size 6 .* (another root at that size|does not begin with the tree that was signed)/,
      11,
    );
  });

  test("a tail that is cut off while the server runs, and put back", async () => {
    const database = await newDatabase();
    const server = await startTestServer({ ...databaseSettings(database), ...SETTINGS });
    await record(server.api, 3);
    await record(server.api, 2);
    await published(server, 5);
    const keep = async (table: string, where: string) => {
      await database.superuser.query(`create table kept_${table} as select * from tallystick.${table} where ${where}`);
      await database.tamper(`delete from tallystick.${table} where ${where}`);
    };
    await keep("checkpoints", "size > 3");
    await keep("heads", "size > 3");
    await keep("service_heads", "seq >= 3");
    await keep("entries", "seq >= 3");
    await expectRefusal(server, /was signed at size 5 .* and the database has only 3 entries/, 3);
    for (const table of ["heads", "service_heads", "entries", "checkpoints"])
      await database.superuser.query(
        `insert into tallystick.${table} select * from kept_${table} on conflict do nothing`,
      );
    await until(async () => (await server.api.get("/health/ready")).status === 200);
    await record(server.api, 1);
    await published(server, 6);
    await checkLog(database.database, (await database.tenants.find("default"))!);
  });

  test("a tail that is cut off is not written on by a server that has never signed the log", async () => {
    const database = await newDatabase();
    const settings = {
      ...databaseSettings(database),
      CHECKPOINT_INTERVAL_MS: "3600000",
      ADMIN_TOKEN: "admin-token-of-this-test",
    };
    const [one, two] = await Promise.all(
      [1, 2].map(() => startTestServer({ ...settings, API_KEY: "tally_key-of-this-test" })),
    );
    await two!.operator.post("/v1/tenants", { slug: "theirs" });
    const theirs = (server: TestServer) => server.operator.with({ "x-tenant-id": "theirs" });
    for (let i = 0; i < 3; i++) await theirs(one!).post("/v1/logs?receipt=true", event(i));
    const { logId } = (await database.tenants.find("theirs"))!;
    for (const [table, where] of [
      ["heads", "size > 1"],
      ["service_heads", "seq >= 1"],
      ["entries", "seq >= 1"],
    ])
      await database.tamper(`delete from tallystick.${table} where log_id = ${logId} and ${where}`);
    expect(await theirs(two!).post("/v1/logs", event(9))).toMatchObject({
      status: 503,
      body: { detail: expect.stringContaining("was signed at size 3") },
    });
    // The other tenants' server stays in service, and says what is wrong.
    expect((await two!.api.post("/v1/logs", event(9))).status).toBe(201);
    await until(async () => {
      const ready = await two!.api.get<{ checks: { signatures: { status: string } } }>("/health/ready");
      return ready.status === 200 && ready.body.checks.signatures.status === "warning";
    });
    const { body } = await theirs(two!).get<{ data: { signed: { size: number }; refused: string }[] }>(
      "/v1/tenants/theirs/logs",
    );
    expect(body.data).toMatchObject([
      { size: 1, signed: { size: 3 }, refused: expect.stringContaining("only 1 entries") },
    ]);
  });

  test("a tenant, or a successor, that a restored database has forgotten: its name is not signed for twice", async () => {
    const original = await newDatabase();
    const signing = signingOf(original);
    const before = await startTestServer({ ...databaseSettings(original), ...SETTINGS });
    const { dataDir } = before;
    await record(before.api, 2);
    await published(before, 2);
    await before.stop();
    const backup = await copyOf(original);
    const after = await startTestServer({ ...databaseSettings(original), ...SETTINGS }, { dataDir });
    await after.operator.post("/v1/tenants", { slug: "acme" });
    await after.operator.with({ "x-tenant-id": "acme" }).post("/v1/logs?receipt=true", event(1));
    await after.operator.post(`${LOG}/succeed`, { reason: "anew", force: true });
    await published(after, 1);
    await after.stop();

    const restored = await startTestServer({ ...databaseSettings(backup), ...signing, ...SETTINGS }, { dataDir });
    expect(await restored.api.post("/v1/logs", event(1))).toMatchObject({
      status: 503,
      body: {
        detail: expect.stringMatching(/its successor .*default\.2 was signed, which the database does not have/),
      },
    });
    const { body } = await restored.operator.post<{ slug: string }>(`${LOG}/succeed`, { reason: "restored" });
    expect(body.slug).toBe("default.3");
    await record(restored.api, 1);
    // A new tenant is an entry of the operator's log, which has been put back as well.
    expect(await restored.operator.post("/v1/tenants", { slug: "acme" })).toMatchObject({
      status: 503,
      body: { detail: expect.stringContaining("/_operator") },
    });
    await restored.operator.post("/v1/tenants/_operator/log/succeed", { reason: "restored" });
    expect((await restored.operator.post("/v1/tenants", { slug: "acme" })).status).toBe(201);
    const acme = restored.operator.with({ "x-tenant-id": "acme" });
    expect(await acme.post("/v1/logs", event(1))).toMatchObject({
      status: 503,
      body: { detail: expect.stringContaining("was signed at size 1") },
    });
    expect((await acme.post<{ slug: string }>("/v1/tenants/acme/log/succeed", { reason: "restored" })).body.slug).toBe(
      "acme.2",
    );
    await acme.record(event(1));
  });

  test("heads that were rewritten together with the entries: the tree does not begin with the one that was signed", async () => {
    const database = await newDatabase();
    const server = await startTestServer({ ...databaseSettings(database), ...SETTINGS });
    await record(server.api, 4);
    await published(server, 4);
    // The head of what was signed stays as it is; only what it is made of changes, and a head on top of that.
    await database.tamper("update tallystick.entries set leaf_hash = sha256('another') where seq = 1");
    const { rows } = await database.superuser.query<{ tenant_id: string }>("select tenant_id from tallystick.logs");
    await database.superuser.query(
      "insert into tallystick.heads (log_id, size, tenant_id, recorded_at, root) values (1, 5, $1, clock_timestamp(), sha256('forged'))",
      [rows[0]!.tenant_id],
    );
    const answer = await server.api.post<Head>("/v1/logs?receipt=true", event(1));
    expect(answer.status).toBe(503);
    expect((await server.operator.get("/v1/tenants/default/logs")).status).toBe(200);
  });
});

describe("log succeed", () => {
  test("closes a log that is well, with everything in it signed, and refuses a second successor of it", async () => {
    const database = await newDatabase();
    const server = await startTestServer({ ...databaseSettings(database), ...SETTINGS });
    const head = await server.api.record(event(1));
    expect(await server.operator.post(`${LOG}/succeed`, { reason: "by mistake" })).toMatchObject({
      status: 409,
      body: { errors: [{ path: "/force" }] },
    });
    const [one, two] = await Promise.all(
      [1, 2].map((n) => server.operator.post<{ slug: string }>(`${LOG}/succeed`, { reason: `try ${n}`, force: true })),
    );
    expect([one!.status, two!.status].sort()).toEqual([201, 409]);
    expect(await server.api.post(`${LOG}/succeed`, { reason: "not the operator" })).toMatchObject({ status: 403 });
    await published(server, 1); // its first entry
    const old = await newestCheckpoint(server.api, "/v1/tenants/default/logs/default");
    expect(old.size).toBe(1);
    // A receipt of an entry of the closed log, and a repeat of what was recorded there.
    const logKey = parseVerifierKey((await server.api.get("/v1/tenants/default/logs/default/vkey")).text.trim());
    const receipt = await server.api.get(`/v1/logs/${head.id}/receipt`);
    expect(verifyReceipt(receipt.text, { logKey })).toMatchObject({ index: 0, checkpoint: { size: 1 } });
    expect((await server.api.get<{ seq: number }>(`/v1/logs/${head.id}`)).body.seq).toBe(0);
  });

  test("gives the first answer, and its receipt, to what was recorded before under the same key", async () => {
    const database = await newDatabase();
    const server = await startTestServer({ ...databaseSettings(database), ...SETTINGS });
    const keyed = { ...event(1), idempotency_key: "order-1" };
    const head = await server.api.record(keyed);
    await server.operator.post(`${LOG}/succeed`, { reason: "anew", force: true });
    const again = await server.api.post<Head & { receipt: string }>("/v1/logs?receipt=true", keyed);
    expect(again.body).toMatchObject({ ...head, duplicate: true });
    const logKey = parseVerifierKey((await server.api.get("/v1/tenants/default/logs/default/vkey")).text.trim());
    verifyReceipt(again.body.receipt, { logKey });
  });
});
