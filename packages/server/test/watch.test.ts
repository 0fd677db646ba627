import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Tenant } from "../src/log/tenants.ts";
import { Api, type Head, type ListedEntry, type Problem } from "../src/testing/api.ts";
import { checkLog, TestDatabase, testSequencer } from "../src/testing/log.ts";
import { TestPublisher } from "../src/testing/publisher.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";
import type { VerifyReport } from "../src/verify/report.ts";
import { Watch } from "../src/watch/watch.ts";

let db: TestDatabase;
let server: TestServer;
beforeAll(async () => {
  db = await TestDatabase.create();
  server = await startTestServer({ ...databaseSettings(db), WATCH_INTERVAL_MS: "200" });
});
afterAll(async () => {
  for (const slug of ["default", "_operator"]) await checkLog(db.database, (await db.tenants.find(slug))!);
  await stopTestServers();
  await db.close();
});

const event = (n = 0) => ({ action: "order.create", actor: { id: "alice" }, resource: { type: "order", id: `${n}` } });

interface Told {
  readonly action: string;
  readonly actor: unknown;
  readonly outcome?: string;
  readonly reason?: string;
  readonly severity?: string;
  readonly context?: { readonly ip?: string; readonly request_id?: string; readonly http?: unknown };
  readonly resource?: unknown;
  readonly related?: readonly { readonly type: string; readonly id: string }[];
  readonly changes?: unknown;
  readonly metadata: Readonly<Record<string, unknown>>;
}
const told = ({ event }: ListedEntry) => event as unknown as Told;

/** The server's own entries of an action in a tenant's log, oldest first. */
async function entries(by: Api, action: string): Promise<Told[]> {
  return (await by.listAll({ action, order: "asc" })).map(told);
}
const inTenant = (tenant: string) => server.operator.with({ "x-tenant-id": tenant });
const operators = () => inTenant("_operator");

let tenants = 0;
async function newTenant(): Promise<{ slug: string; id: string; by: Api }> {
  const slug = `watched-${++tenants}`;
  const { body } = await server.operator.post<Tenant>("/v1/tenants", { slug });
  return { slug, id: body.id, by: inTenant(slug) };
}

async function newKey(tenant: string, scopes: string[]): Promise<{ id: string; api: Api }> {
  const { body } = await inTenant(tenant).post<{ id: string; secret: string }>("/v1/admin/api-keys", {
    name: "own",
    scopes,
  });
  return { id: body.id, api: new Api(server.url, { "x-api-key": body.secret }) };
}

describe("tenants", () => {
  test("a new one is an entry of the operator's log; one whose slug is taken is none", async () => {
    const { slug, id } = await newTenant();
    expect((await server.operator.post("/v1/tenants", { slug })).status).toBe(409);
    const made = (await entries(operators(), "tallystick.tenant.created")).filter(
      ({ metadata }) => metadata.slug === slug,
    );
    expect(made).toEqual([
      expect.objectContaining({
        actor: { type: "user", id: "operator" },
        resource: { type: "tenant", id },
        metadata: { slug, name: slug },
      }),
    ]);
  });

  test("the operator's own stays active, and is renamed and limited as any", async () => {
    const change = (body: object) => server.operator.patch<Problem>("/v1/tenants/_operator", body);
    for (const status of ["suspended", "inactive"]) {
      const { status: code, body } = await change({ status, name: "Ops" });
      expect([code, body.type]).toEqual([409, "urn:tallystick:problem:conflict"]);
      expect(body.detail).toMatch(/"_operator" stays active: .* revoke the credential/);
    }
    expect((await server.operator.get<Tenant>("/v1/tenants/_operator")).body).toMatchObject({ status: "active" });
    expect((await change({ status: "active", name: "Operator" })).status).toBe(200);
  });

  test("one that is suspended reads and does not write, its own entries go on, and each change is one of them", async () => {
    const { slug, by } = await newTenant();
    const key = await newKey(slug, ["write", "read", "verify"]);
    const spare = await newKey(slug, ["read"]);
    await key.api.record(event());
    const patch = (change: object) => server.operator.patch<Tenant>(`/v1/tenants/${slug}`, change);
    expect((await patch({ status: "suspended" })).body.status).toBe("suspended");
    expect((await patch({ status: "suspended" })).status).toBe(200); // which changes nothing, and is no entry
    await until(async () => (await key.api.post("/v1/logs", event())).status === 403);
    expect((await key.api.listAll({ action: "order.*" })).length).toBeGreaterThan(0);
    expect((await key.api.post<VerifyReport>("/v1/admin/verify-chain", undefined)).body.ok).toBe(true);
    expect((await by.delete(`/v1/admin/api-keys/${spare.id}`)).status).toBe(200);
    expect((await patch({ status: "active", name: "Watched Ltd" })).body).toMatchObject({ status: "active" });
    await until(async () => (await key.api.post("/v1/logs", event())).status === 201);
    expect((await entries(by, "tallystick.tenant.changed")).map(({ changes }) => changes)).toEqual([
      { before: { status: "active" }, after: { status: "suspended" } },
      { before: { status: "suspended", name: slug }, after: { status: "active", name: "Watched Ltd" } },
    ]);
    expect((await entries(by, "tallystick.log.verified")).length).toBe(1);
    expect((await entries(by, "tallystick.api_key.revoked")).length).toBe(1);
    await checkLog(db.database, (await db.tenants.find(slug))!);
  });

  test("none is ever deleted", async () => {
    const { slug } = await newTenant();
    const answer = await server.operator.delete(`/v1/tenants/${slug}`);
    expect([answer.status, answer.headers.allow]).toEqual([405, "GET, HEAD, PATCH"]);
  });
});

describe("verifications", () => {
  test("describe the log as it was, and are entries behind that", async () => {
    const { slug, by } = await newTenant();
    const key = await newKey(slug, ["verify"]);
    const sizes: number[] = [];
    for (const prefer of ["", "wait=30"]) {
      const { body } = await key.api.post<VerifyReport>("/v1/admin/verify-chain", undefined, { prefer });
      expect(body.ok).toBe(true);
      sizes.push(body.size);
    }
    expect(sizes).toEqual([1, 2]);
    const [first, second] = await entries(by, "tallystick.log.verified");
    expect(first).toMatchObject({
      actor: { type: "api_key", id: key.id },
      related: [{ type: "api_key", id: key.id, role: "credential" }],
      outcome: "success",
      context: { ip: "127.0.0.1" },
      metadata: { ok: true, size: 1, checked: 1 },
    });
    expect(second!.metadata).toMatchObject({ ok: true, size: 2 });
  });

  test("a log that takes no entries is verified all the same: the operator's log tells of it", async () => {
    const { slug, by } = await newTenant();
    await by.record(event());
    // Hashes that give another root than the head's: nothing is put on top of them.
    await db.tamper(
      `update tallystick.entries set leaf_hash = sha256('x') where log_id = (select id from tallystick.logs where slug = '${slug}')`,
    );
    const other = await startTestServer({ ...databaseSettings(db), WATCH_INTERVAL_MS: "200" }); // remembers no tree
    const mine = other.operator.with({ "x-tenant-id": slug });
    expect((await mine.post("/v1/logs", event())).status).toBe(503);
    const { body } = await mine.post<VerifyReport>("/v1/admin/verify-chain", undefined);
    expect(body.ok).toBe(false);
    const verified = (await entries(operators(), "tallystick.log.verified")).at(-1)!;
    expect(verified).toMatchObject({
      outcome: "failure",
      severity: "CRITICAL",
      resource: { type: "log", id: body.log },
    });
    expect(verified.metadata).toMatchObject({
      ok: false,
      in_place_of: { log: body.log, refused: expect.stringMatching(/^(inconsistent|unsignable)$/) },
    });
    expect(verified.related).toContainEqual({
      type: "tenant",
      id: (await db.tenants.find(slug))!.tenantId,
      name: slug,
    });
  });

  test("and its keys can be revoked, and it can be suspended", async () => {
    const { slug, by, id } = await newTenant();
    const key = await newKey(slug, ["write"]);
    const certificate = { name: "own", fingerprint: "cd".repeat(32), scopes: ["read"] };
    expect((await by.post("/v1/admin/certificates", certificate)).status).toBe(201);
    await by.record(event());
    await db.tamper(
      `update tallystick.entries set leaf_hash = sha256('x') where log_id = (select id from tallystick.logs where slug = '${slug}')`,
    );
    const other = await startTestServer(databaseSettings(db));
    const mine = other.operator.with({ "x-tenant-id": slug });
    expect((await mine.delete<{ revoked_at: string }>(`/v1/admin/api-keys/${key.id}`)).body.revoked_at).toBeTruthy();
    const certificates = (await mine.get<{ data: { id: string }[] }>("/v1/admin/certificates")).body.data;
    const { body } = await mine.delete<{ revoked_at: string }>(`/v1/admin/certificates/${certificates[0]!.id}`);
    expect(body.revoked_at).toBeTruthy();
    expect((await mine.post("/v1/admin/api-keys", { name: "new", scopes: ["read"] })).status).toBe(503); // can wait
    expect((await mine.patch<Tenant>(`/v1/tenants/${slug}`, { status: "suspended" })).body.status).toBe("suspended");
    const related = expect.arrayContaining([{ type: "tenant", id, name: slug }]);
    const revoked = (await entries(operators(), "tallystick.api_key.revoked")).at(-1)!;
    expect(revoked).toMatchObject({ resource: { type: "api_key", id: key.id }, related });
    expect((await entries(operators(), "tallystick.tenant.changed")).at(-1)).toMatchObject({ related });
  });
});

describe("every act of an administrator", () => {
  test("tells who it was, by which credential, from where and in which request", async () => {
    const { slug, by } = await newTenant();
    const admin = await newKey(slug, ["admin"]);
    const publisher = new TestPublisher();
    const id = (n: number) => ({ "x-request-id": `act-${slug}-${n}` });
    const made = await admin.api.post<{ id: string }>("/v1/admin/api-keys", { name: "x", scopes: ["read"] }, id(1));
    await admin.api.delete(`/v1/admin/api-keys/${made.body.id}`, id(2));
    const key = { service_id: "orders", algorithm: "ed25519", public_key_pem: publisher.pem };
    const registered = await admin.api.post<{ key_id: string }>("/v1/admin/keys", key, id(3));
    await admin.api.post(`/v1/admin/keys/${registered.body.key_id}/revoke`, {}, id(4));
    await admin.api.patch("/v1/admin/services/orders", { signed_only: true }, id(5));
    const acts = (await by.listAll({ action: "tallystick.*", order: "asc" })).filter(
      ({ event }) => (event as { actor?: { id?: string } }).actor?.id === admin.id,
    );
    expect(acts.map(({ event }) => event)).toEqual(
      [
        "tallystick.api_key.created",
        "tallystick.api_key.revoked",
        "tallystick.publisher_key.registered",
        "tallystick.publisher_key.revoked",
        "tallystick.service.changed",
      ].map((action, index) =>
        expect.objectContaining({
          action,
          actor: { type: "api_key", id: admin.id },
          related: [{ type: "api_key", id: admin.id, role: "credential" }],
          context: { ip: "127.0.0.1", request_id: `act-${slug}-${index + 1}` },
        }),
      ),
    );
    // The admin token beside a key: the operator has done it, and the key is not forgotten.
    const token = { "x-admin-token": server.credentials.admin_token };
    await admin.api.patch(`/v1/tenants/${slug}`, { name: "renamed" }, token);
    expect((await entries(by, "tallystick.tenant.changed")).at(-1)).toMatchObject({
      actor: { id: "operator" },
      related: [{ type: "api_key", id: admin.id, role: "credential" }],
    });
    await checkLog(db.database, (await db.tenants.find(slug))!);
  });
});

describe("exports", () => {
  const EXPORT = "/v1/logs/export?format=evidence";

  test("are entries before the first byte, with what was asked for, and without what is personal of it", async () => {
    const { slug, by } = await newTenant();
    const key = await newKey(slug, ["export"]);
    await by.record({ ...event(), ip: "192.0.2.7" });
    // Neither sends an entry.
    expect((await key.api.send("HEAD", EXPORT)).status).toBe(200);
    expect((await key.api.get(`${EXPORT}&actor_id=nobody`)).status).toBe(404);
    const file = await key.api.get(`${EXPORT}&actor_id=alice&ip=192.0.2.7`, { "x-request-id": "why-1" });
    expect(file.status, file.text).toBe(200);
    expect(file.text).not.toContain("tallystick.log.exported");
    const exported = await by.listAll({ action: "tallystick.log.exported" });
    expect(exported.map(told)).toEqual([
      expect.objectContaining({
        actor: { type: "api_key", id: key.id },
        context: { ip: "127.0.0.1", request_id: "why-1" },
        metadata: {
          format: "evidence",
          filter: { actor_id: "alice", ip: "(not kept)" },
          from: 0,
          to: 2,
          tree_size: 2,
        },
      }),
    ]);
    const { body } = await by.get<{ leaf: string }>(`/v1/logs/${exported[0]!.id}`);
    expect(body.leaf).not.toMatch(/127\.0\.0\.1|192\.0\.2\.7/);
  });

  test("are refused where no log takes the entry", async () => {
    const { slug, by } = await newTenant();
    await by.record(event());
    // Whoever holds the locks of both logs keeps everyone else from adding to them.
    await db.superuser.query("begin");
    try {
      await db.superuser.query("select from tallystick.logs where slug in ($1, '_operator') for update", [slug]);
      const answer = await by.get(EXPORT);
      expect([answer.status, answer.body?.type]).toEqual([503, "urn:tallystick:problem:unavailable"]);
    } finally {
      await db.superuser.query("rollback");
    }
    expect((await by.get(EXPORT)).status).toBe(200);
    expect((await entries(by, "tallystick.log.exported")).length).toBe(1);
  });
});

describe("reads", () => {
  test("are an entry for each credential and log, with a count for each filter, and cause no further ones", async () => {
    const { slug, by } = await newTenant();
    const key = await db.newKey(slug, { scopes: ["read"] });
    const { id } = await by.record({ ...event(), ip: "192.0.2.7" });
    await by.recordAll([event(1), event(2)]);
    const { tenantId, name } = (await db.tenants.find(slug))!;
    const own = await startTestServer({ ...databaseSettings(db), RECORD_READS: "true" });
    const reader = own.api.as({ "x-api-key": key });
    for (let i = 0; i < 3; i++) await reader.listAll({ actor_id: "alice", limit: "1" }); // of three pages each
    expect((await reader.get("/v1/logs?ip=192.0.2.7")).status).toBe(200);
    expect((await reader.get(`/v1/logs/${id}`)).status).toBe(200);
    expect((await reader.get(`/v1/logs/${id}/receipt`)).status).toBe(200);
    for (const path of ["checkpoint", "vkey", "consistency?from=1", "tile/entries/000.p/1", "witnesses"]) {
      expect([path, (await reader.get(`/v1/tenants/${slug}/log/${path}`)).status]).toEqual([path, 200]);
    }
    const other = id.replace(/.$/, (digit) => (digit === "0" ? "1" : "0"));
    expect((await reader.get(`/v1/logs/${other}`)).status).toBe(404);
    expect(await own.stop()).toBe(0);
    const read = await entries(by, "tallystick.log.read");
    expect(read).toEqual([
      expect.objectContaining({
        actor: expect.objectContaining({ type: "api_key" }),
        resource: { type: "log", id: name },
        metadata: expect.objectContaining({
          reads: 12,
          entries: 12,
          filters: [
            { filter: { actor_id: "alice" }, reads: 9, entries: 9 },
            { filter: { ip: "(not kept)" }, reads: 1, entries: 1 },
            { filter: { id }, reads: 1, entries: 1 },
            { filter: { id, receipt: "true" }, reads: 1, entries: 1 },
          ],
        }),
      }),
    ]);
    const size = (await db.tenants.logs(tenantId))[0]!.size;
    expect(size).toBe(4);
  });

  test("of a tenant by the operator are entries of that tenant", async () => {
    const { slug, by } = await newTenant();
    const own = await startTestServer({ ...databaseSettings(db), RECORD_READS: "true", WATCH_INTERVAL_MS: "100" });
    expect((await own.operator.get("/v1/logs", { "x-tenant-id": slug })).status).toBe(200);
    await until(async () => (await entries(by, "tallystick.log.read")).length === 1);
    expect(await entries(by, "tallystick.log.read")).toMatchObject([
      { actor: { id: "operator" }, related: [{ type: "admin_token", id: "admin_token", role: "credential" }] },
    ]);
    expect(await own.stop()).toBe(0);
    expect((await entries(by, "tallystick.log.read")).length).toBe(1);
  });

  test("are counted on while they cannot be recorded, and told of together when they can", async () => {
    const { slug, by } = await newTenant();
    const log = (await db.tenants.find(slug))!;
    const failures: string[] = [];
    const watch = new Watch({
      ...{ sequencer: testSequencer(db.database), tenants: db.tenants, recordReads: true },
      intervalMs: 3_600_000,
      onError: (_, what) => failures.push(what),
    });
    const read = { log, by: { actor: { id: "alice" }, credential: undefined, ip: undefined }, asked: {}, entries: 2 };
    watch.read(read);
    await db.superuser.query("begin");
    await db.superuser.query("select from tallystick.logs where id = $1 for update", [log.logId]);
    await watch.flush();
    await db.superuser.query("rollback");
    expect(failures).toEqual(["tallystick.log.read"]);
    watch.read(read);
    await watch.stop();
    expect(await entries(by, "tallystick.log.read")).toMatchObject([
      { actor: { id: "alice" }, metadata: { reads: 2, entries: 4, filters: [{ filter: {}, reads: 2, entries: 4 }] } },
    ]);
  });

  test("are exports too that send no entry, and tell whether there is one", async () => {
    const { slug, by } = await newTenant();
    const key = await newKey(slug, ["export"]);
    await by.record(event());
    const own = await startTestServer({ ...databaseSettings(db), RECORD_READS: "true" });
    const asks = own.api.as(key.api.headers);
    const path = "/v1/logs/export?format=evidence";
    expect((await asks.send("HEAD", `${path}&actor_id=alice`)).status).toBe(200);
    for (const method of ["GET", "HEAD"]) expect((await asks.send(method, `${path}&actor_id=nobody`)).status).toBe(404);
    expect(await own.stop()).toBe(0);
    expect(await entries(by, "tallystick.log.exported")).toEqual([]);
    expect(await entries(by, "tallystick.log.read")).toMatchObject([
      {
        actor: { id: key.id },
        metadata: {
          filters: [
            { filter: { actor_id: "alice", export: "evidence" }, reads: 1, entries: 0 },
            { filter: { actor_id: "nobody", export: "evidence" }, reads: 2, entries: 0 },
          ],
        },
      },
    ]);
  });

  test("are recorded beside one that is too large for an entry", async () => {
    const { slug, by } = await newTenant();
    const log = (await db.tenants.find(slug))!;
    const failures: string[] = [];
    const watch = new Watch({
      ...{ sequencer: testSequencer(db.database), tenants: db.tenants, recordReads: true },
      intervalMs: 3_600_000,
      onError: (_, what) => failures.push(what),
    });
    for (const id of ["a", "b", "c", "d", "e"]) {
      const actor = { id, ...(id === "d" && { attributes: { long: "x".repeat(70_000) } }) };
      const read = { by: { actor, credential: { kind: "jwt", id } as const, ip: undefined }, asked: {}, entries: 2 };
      watch.read({ log, ...read });
    }
    await watch.stop();
    expect((await entries(by, "tallystick.log.read")).map(({ actor }) => (actor as { id: string }).id)).toEqual([
      "a",
      "b",
      "c",
      "e",
    ]);
    expect(failures).toEqual(["tallystick.log.read"]);
  });
});

describe("refused credentials", () => {
  const denials = async (reason: string) =>
    (await entries(operators(), "tallystick.access.denied")).filter((one) => one.reason === reason);

  test("are entries of the operator's log: one a reason and source, with a count, and never a secret", async () => {
    const secret = `tally_${"ab".repeat(20)}`;
    for (let i = 0; i < 50; i++) {
      expect((await server.api.as({ "x-api-key": secret }).get("/v1/logs")).status).toBe(401);
    }
    const total = async () =>
      (await denials("api_key_unknown")).reduce((sum, { metadata }) => sum + Number(metadata.count), 0);
    await until(async () => (await total()) === 50);
    const [denied] = await denials("api_key_unknown");
    expect(denied).toMatchObject({
      actor: { type: "anonymous" },
      outcome: "denied",
      severity: "WARNING",
      context: { ip: "127.0.0.1", http: { method: "GET", route: "/v1/logs", status: 401 } },
      metadata: { source: "address" },
    });
    const leaves = await db.superuser.query<{ leaf: string }>("select leaf from tallystick.entries");
    expect(leaves.rows.map(({ leaf }) => leaf).join("\n")).not.toContain("abababab");
  });

  test("of every kind have a reason, and the credential where it is known", async () => {
    const { slug } = await newTenant();
    const key = await newKey(slug, ["write"]);
    const counted = async (reason: string, id: string | undefined) =>
      until(
        async () =>
          (await denials(reason)).some(({ related }) => id === undefined || related?.some((one) => one.id === id)),
        { what: reason },
      );
    expect((await server.api.as({}).get("/v1/logs")).status).toBe(401);
    expect((await server.api.as({ authorization: "Basic YTpi" }).get("/v1/logs")).status).toBe(401);
    expect((await server.api.as({ "x-admin-token": "guess" }).get("/v1/tenants")).status).toBe(401);
    expect((await key.api.get("/v1/logs")).status).toBe(403);
    expect((await key.api.post("/v1/logs", { ...event(), tenant_id: "default" })).status).toBe(403);
    await inTenant(slug).delete(`/v1/admin/api-keys/${key.id}`);
    expect((await key.api.post("/v1/logs", event())).status).toBe(401);
    await counted("credential_missing", undefined);
    await counted("credential_malformed", undefined);
    await counted("admin_token_wrong", undefined);
    for (const reason of ["scope_missing", "tenant_foreign", "api_key_revoked"]) await counted(reason, key.id);
  });

  test("of one that is not allowed to name another tenant in a bulk request are counted too", async () => {
    const { slug } = await newTenant();
    const key = await newKey(slug, ["write"]);
    const { body } = await key.api.post<{ data: { status: number }[] }>("/v1/logs/bulk?partial=true", [
      event(),
      { ...event(), tenant_id: "default" },
    ]);
    expect(body.data[1]!.status).toBe(403);
    await until(async () =>
      (await denials("tenant_foreign")).some(({ related }) => related?.some(({ id }) => id === key.id)),
    );
  });

  test("a publisher's wrong signature is one, whether it comes by itself or among others", async () => {
    const { slug, by } = await newTenant();
    const key = await newKey(slug, ["write"]);
    const publisher = new TestPublisher();
    expect((await by.post("/v1/admin/keys", publisher.registration("orders"))).status).toBe(201);
    publisher.keyId = "orders:v1";
    const signed = publisher.signed({ ...event(), occurred_at: "2026-01-02T03:04:05Z", idempotency_key: "k" });
    const forged = { ...signed, action: "order.cancel" };
    expect((await key.api.post("/v1/logs", forged)).status).toBe(422);
    const { body } = await key.api.post<{ data: { status?: number }[] }>("/v1/logs/bulk?partial=true", [
      signed,
      forged,
    ]);
    expect(body.data.map(({ status }) => status)).toEqual([undefined, 422]);
    const total = async () =>
      (await denials("signature_wrong"))
        .filter(({ related }) => related?.some(({ id }) => id === key.id))
        .reduce((sum, { metadata }) => sum + Number(metadata.count), 0);
    await until(async () => (await total()) === 2);
  });

  test("what nobody was refused for is none: not found, bad events, tenants that are not active", async () => {
    const before = (await entries(operators(), "tallystick.access.denied")).length;
    expect((await server.api.get("/v1/nothing")).status).toBe(404);
    expect((await server.api.post("/v1/logs", { action: "" })).status).toBe(400);
    expect((await server.api.post<Head>("/v1/logs", event())).status).toBe(201);
    await server.stop();
    server = await startTestServer({ ...databaseSettings(db), WATCH_INTERVAL_MS: "200" });
    expect((await entries(operators(), "tallystick.access.denied")).length).toBe(before);
  });

  test("that were counted when the server stops are recorded", async () => {
    const own = await startTestServer({ ...databaseSettings(db), WATCH_INTERVAL_MS: "3600000" });
    expect((await own.api.as({ "x-api-key": "stop" }).post("/v1/tenants", {})).status).toBe(401);
    expect(await own.stop()).toBe(0);
    const last = (await denials("api_key_unknown")).at(-1)!;
    expect(last.context).toMatchObject({ http: { method: "POST", route: "/v1/tenants" } });
  });
});
