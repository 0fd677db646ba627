import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { canonicalize } from "@tallystick/core/canonical";
import type { JsonObject } from "@tallystick/core/json";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ListedKey } from "../src/publisher/publisher-keys.ts";
import type { Answer, Api, Head, ListedEntry, Problem } from "../src/testing/api.ts";
import { checkLog, TestDatabase } from "../src/testing/log.ts";
import { TestPublisher } from "../src/testing/publisher.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";
import { verifyDatabase } from "../src/verify/database.ts";
import { verifyLog } from "../src/verify/log.ts";

let db: TestDatabase;
let server: TestServer;
let other: TestServer; // another server on the same database
let tenants = 0;
beforeAll(async () => {
  db = await TestDatabase.create();
  const settings = { ...databaseSettings(db), ADMIN_TOKEN: "the-admin-token-of-both" };
  server = await startTestServer(settings);
  other = await startTestServer(settings);
});
afterAll(async () => {
  await stopTestServers();
  await db.close();
});

/** The operator's API for a tenant of its own. */
async function newTenant(of: TestServer = server): Promise<{ api: Api; slug: string }> {
  const slug = `signed-${++tenants}`;
  await server.operator.post("/v1/tenants", { slug, name: slug });
  return { api: of.operator.with({ "x-tenant-id": slug }), slug };
}

type Registered = ListedKey & { entry: { id: string; seq: number } | null };

async function register(api: Api, publisher: TestPublisher, serviceId = "orders", more: JsonObject = {}) {
  const answer = await api.post<Registered>("/v1/admin/keys", { ...publisher.registration(serviceId), ...more });
  expect(answer.status, answer.text).toBe(201);
  publisher.keyId = answer.body.key_id;
  return answer.body;
}

let numbers = 0;
/** An event that is like no other. */
const eventOf = (more: JsonObject = {}): JsonObject => ({
  action: "order.paid",
  actor: { id: "u-1" },
  occurred_at: "2026-03-01T09:30:00Z",
  sequence: { epoch: "test", number: ++numbers },
  ...more,
});

const pathsOf = (answer: Answer<Problem>) => answer.body.errors?.map(({ path }) => path) ?? [];

async function sizeOf(api: Api): Promise<number> {
  return (await api.listAll()).length;
}

async function checked(slug: string) {
  return checkLog(db.database, (await db.tenants.find(slug))!);
}

async function metric(of: TestServer, name: string, label = ""): Promise<number> {
  const { text } = await of.api.get("/metrics");
  const line = text.split("\n").find((one) => one.startsWith(`${name}${label === "" ? "" : `{${label}}`} `));
  return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(" ")));
}

describe("keys", () => {
  test("register, list, rotate, revoke: each is an entry of service tallystick", async () => {
    const { api, slug } = await newTenant();
    const [first, second] = [new TestPublisher(), new TestPublisher("rsa-pss")];
    const registered = await register(api, first);
    expect(registered).toMatchObject({ key_id: "orders:v1", version: 1, valid_to: null, revoked_at: null });

    const rotation = {
      service_id: "orders",
      new_public_key_pem: second.pem,
      algorithm: "rsa-pss",
      overlap_seconds: 60,
    };
    const rotated = await api.post<Registered>("/v1/admin/keys/rotate", rotation);
    expect(rotated.status, rotated.text).toBe(201);
    expect(rotated.body).toMatchObject({ key_id: "orders:v2", algorithm: "rsa-pss", valid_to: null });

    const revoked = await api.post<Registered>("/v1/admin/keys/orders%3Av1/revoke", { reason: "laptop lost" });
    expect(revoked.status).toBe(200);
    expect(revoked.body).toMatchObject({ id: registered.id, key_id: "orders:v1" });
    expect(revoked.body.revoked_at).not.toBeNull();
    const again = await api.post<Registered>(`/v1/admin/keys/${registered.id}/revoke`, undefined);
    expect(again.body).toEqual({ ...revoked.body, entry: null });

    const { body } = await api.get<{ data: ListedKey[] }>("/v1/admin/keys");
    expect(body.data.map(({ key_id, revoked_at }) => [key_id, revoked_at !== null])).toEqual([
      ["orders:v1", true],
      ["orders:v2", false],
    ]);
    expect(Date.parse(body.data[0]!.valid_to!) - Date.parse(rotated.body.valid_from)).toBe(60_000);

    const entries = await api.listAll({ order: "asc" });
    expect(entries.map(({ event }) => event.action)).toEqual([
      "tallystick.publisher_key.registered",
      "tallystick.publisher_key.rotated",
      "tallystick.publisher_key.revoked",
    ]);
    expect(entries.map(({ service }) => service.id)).toEqual(["tallystick", "tallystick", "tallystick"]);
    expect(entries[1]!.event).toMatchObject({
      actor: { id: "operator" },
      resource: { type: "publisher_key", id: "orders:v2" },
      metadata: { key_id: "orders:v2", previous_key_id: "orders:v1", previous_valid_to: body.data[0]!.valid_to },
    });
    expect(entries[2]!.event).toMatchObject({
      reason: "laptop lost",
      metadata: { key_id: "orders:v1", revoked_at: body.data[0]!.revoked_at, reason: "laptop lost" },
    });
    expect(entries[2]!.recorded_at).toBe(body.data[0]!.revoked_at);
    await checked(slug);
  });

  test("what is no usable key is refused, and says which member and why", async () => {
    const { api } = await newTenant();
    const { reject } = JSON.parse(
      readFileSync(new URL("../../../vectors/publisher/keys.json", import.meta.url), "utf8"),
    );
    const good = new TestPublisher();
    for (const { name, pem } of reject as { name: string; pem: string }[]) {
      const answer = await api.post("/v1/admin/keys", {
        service_id: "orders",
        public_key_pem: pem,
        algorithm: "ed25519",
      });
      expect([name, answer.status, pathsOf(answer)]).toEqual([name, 400, ["/public_key_pem"]]);
    }
    const refused = async (body: JsonObject, status: number, path: string) => {
      const answer = await api.post("/v1/admin/keys", { ...good.registration("orders"), ...body });
      expect([answer.status, pathsOf(answer)]).toEqual([status, [path]]);
    };
    await refused({ algorithm: "rsa-pss" }, 400, "/algorithm");
    await refused({ service_id: "tallystick" }, 403, "/service_id");
    await refused({ service_id: "ö".repeat(65) }, 400, "/service_id");
    await refused({ valid_from: "2020-01-01T00:00:00Z" }, 400, "/valid_from");
    await refused({ valid_to: "2020-01-01T00:00:00Z" }, 400, "/valid_to");
    await refused({ valid_to: "tomorrow" }, 400, "/valid_to");
    await refused({ note: "x" }, 400, "/note");
    await register(api, good);
    await refused({}, 409, "/public_key_pem");
    await refused({ service_id: "billing" }, 409, "/public_key_pem");
    const rotate = (body: JsonObject) => api.post("/v1/admin/keys/rotate", { algorithm: "ed25519", ...body });
    const fresh = new TestPublisher().pem;
    expect((await rotate({ service_id: "billing", new_public_key_pem: fresh })).status).toBe(409);
    expect(pathsOf(await rotate({ service_id: "orders" }))).toEqual(["/new_public_key_pem"]);
    expect(pathsOf(await rotate({ service_id: "orders", new_public_key_pem: fresh, public_key_pem: fresh }))).toEqual([
      "/public_key_pem",
    ]);
    expect((await api.post("/v1/admin/keys/orders%3Av9/revoke", {})).status).toBe(404);
    expect((await (await newTenant()).api.post("/v1/admin/keys/orders%3Av1/revoke", {})).status).toBe(404);
    expect(await sizeOf(api)).toBe(1); // the registration
    const key = await api.post<{ secret: string }>("/v1/admin/api-keys", { name: "w", scopes: ["write", "read"] });
    const writer = server.api.as({ authorization: `Bearer ${key.body.secret}` });
    expect((await writer.post("/v1/admin/keys", good.registration("x"))).status).toBe(403);
    expect((await writer.get("/v1/admin/keys")).status).toBe(403);
  });

  test("changes at once by two servers all happen, each with a version of its own", async () => {
    const { api, slug } = await newTenant();
    const apis = [api, other.operator.with(api.headers)];
    await register(api, new TestPublisher());
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, i) => {
        const publisher = new TestPublisher();
        return i % 2 === 0
          ? apis[i % 4 === 0 ? 0 : 1]!.post<Registered>("/v1/admin/keys", publisher.registration("orders"))
          : apis[i % 4 === 1 ? 0 : 1]!.post<Registered>("/v1/admin/keys/rotate", {
              service_id: "orders",
              new_public_key_pem: publisher.pem,
              algorithm: "ed25519",
            });
      }),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 201));
    expect(new Set(answers.map(({ body }) => body.version))).toEqual(new Set(answers.map((_, i) => i + 2)));
    const twice = await Promise.all(
      apis.map((one) => one.post("/v1/admin/keys/orders%3Av3/revoke", { reason: "twice" })),
    );
    expect(twice.map(({ status }) => status)).toEqual([200, 200]);
    expect(await sizeOf(api)).toBe(14);
    await checked(slug);
  });
});

test("rotation in the middle of a load run: nothing is lost, nothing valid refused, all of it verifies", async () => {
  const { api, slug } = await newTenant();
  const away = other.operator.with(api.headers);
  const first = new TestPublisher();
  await register(api, first);
  let newest = first;
  const publishers = new Map([[first.keyId, first]]);
  const account = new Map<string, Head>();
  const refused: string[] = [];
  let running = true;
  // Publishers of a rolling deployment: half of them sign by a key until its successor's deployment reaches them.
  const client = async (index: number) => {
    let mine = first;
    for (let i = 0; running || i % 10 !== 0; i++) {
      if (i % 10 === 0) mine = newest;
      const to = (index + i) % 2 === 0 ? api : away;
      const event = eventOf({ metadata: { tag: `${index}-${i}` } });
      const answer = await to.post<Head>(
        "/v1/logs",
        index % 2 === 0 ? mine.signed(event) : mine.signedText(JSON.stringify(event)),
      );
      if (answer.status === 201) account.set(`${index}-${i}`, answer.body);
      else refused.push(answer.text);
    }
  };
  const clients = Array.from({ length: 8 }, (_, index) => client(index));
  for (let round = 0; round < 4; round++) {
    const recorded = account.size;
    await until(() => account.size > recorded + 100 || refused.length > 0);
    const next = new TestPublisher(round % 2 === 0 ? "rsa-pss" : "ed25519");
    const { body, status } = await (round % 2 === 0 ? api : away).post<Registered>("/v1/admin/keys/rotate", {
      service_id: "orders",
      new_public_key_pem: next.pem,
      algorithm: next.algorithm,
      overlap_seconds: 600,
    });
    expect(status).toBe(201);
    next.keyId = body.key_id;
    publishers.set(next.keyId, next);
    newest = next;
  }
  const recorded = account.size;
  await until(() => account.size > recorded + 100 || refused.length > 0);
  running = false;
  await Promise.all(clients);
  expect(refused).toEqual([]);
  const entries = (await api.listAll({ limit: "1000" })).filter(({ service }) => service.id === "orders");
  expect(new Map(entries.map(({ event, id }) => [(event.metadata as { tag: string }).tag, id]))).toEqual(
    new Map([...account].map(([tag, { id }]) => [tag, id])),
  );
  expect((await checked(slug)).signatures).toEqual({ valid: account.size, erased: 0 });
  const used = await Promise.all(
    entries
      .slice(0, 200)
      .map(async ({ id }) => (await api.get<{ publisher: JsonObject }>(`/v1/logs/${id}`)).body.publisher.key_id),
  );
  expect(new Set(used).size).toBeGreaterThan(1);
});

test("in a successor log the keys of the log before it go on being valid", async () => {
  const { api, slug } = await newTenant();
  const [publisher, second] = [new TestPublisher(), new TestPublisher()];
  await register(api, publisher);
  await register(api, second);
  await api.record(publisher.signed(eventOf()));
  const { status } = await api.post(`/v1/tenants/${slug}/log/succeed`, { reason: "a test", force: true });
  expect(status).toBe(201);
  await until(async () => (await api.post("/v1/logs", publisher.signed(eventOf()))).status === 201, {
    deadlineMs: 5_000,
  });
  await api.post(`/v1/admin/keys/${encodeURIComponent(second.keyId)}/revoke`, {});
  expect((await api.post("/v1/logs", second.signed(eventOf()))).status).toBe(422);
  const reports = [];
  for await (const report of verifyDatabase(db.url(), { tenant: slug })) reports.push(report);
  expect(reports).toMatchObject([
    { ok: true, signatures: { valid: 1 } },
    { ok: true, signatures: { valid: 1 } },
  ]);
});

describe("signed events", () => {
  test.each(["ed25519", "rsa-pss"] as const)(
    "%s: both forms, single and bulk, are verified and kept",
    async (algorithm) => {
      const { api, slug } = await newTenant();
      const publisher = new TestPublisher(algorithm);
      await register(api, publisher);
      const flat = eventOf();
      const head = await api.record(publisher.signed(flat));
      const { body: entry } = await api.get<ListedEntry & { publisher: JsonObject }>(`/v1/logs/${head.id}`);
      expect(entry.publisher).toEqual({
        algorithm,
        key_id: "orders:v1",
        payload: expect.any(String),
        signature: expect.any(String),
      });
      expect(entry.service.id).toBe("orders"); // the key's, as the event names none

      const text = JSON.stringify(eventOf({ actor: { id: "u-1", name: "Zoë" } }), undefined, 1);
      const form = publisher.signedText(text, {
        service_id: "orders",
        event_type: "billing",
        event_data: JSON.parse(text),
      });
      const { data } = (
        await api.post<{ data: Head[] }>("/v1/logs/bulk", [form, publisher.signed(eventOf()), eventOf()])
      ).body;
      expect(data.map(({ duplicate }) => duplicate)).toEqual([false, false, false]);
      const { body: committed } = await api.get<ListedEntry & { publisher: JsonObject }>(`/v1/logs/${data[0]!.id}`);
      expect(committed.publisher).toMatchObject({ payload: text, unsigned: ["event_type", "service_id"] });
      expect(JSON.parse(committed.leaf!).publisher).toEqual({ $committed: expect.any(String) });
      expect(committed.leaf).not.toContain("Zo");
      expect((await checked(slug)).erased).toBe(0);
    },
  );

  test("what PyNaCl signed over json.dumps with a name that is not ASCII", async () => {
    const { api, slug } = await newTenant();
    const vectors = JSON.parse(
      readFileSync(new URL("../../../vectors/publisher/events.json", import.meta.url), "utf8"),
    );
    const answer = await api.post<Registered>("/v1/admin/keys", {
      service_id: "orders",
      public_key_pem: vectors.public_key_pem,
      algorithm: "ed25519",
    });
    expect(answer.body.key_id).toBe("orders:v1");
    for (const { input, event, name } of vectors.accept) {
      const sent = input.tenant_id === undefined && !String(input.event).includes("tenant_id") ? input : undefined;
      if (sent === undefined) continue; // names another tenant
      const written = await api.post<Head>("/v1/logs", sent);
      expect([name, written.status]).toEqual([name, 201]);
      if (written.body.duplicate) continue; // the same text in another form
      const { body } = await api.get<ListedEntry & { publisher: JsonObject }>(`/v1/logs/${written.body.id}`);
      expect(body.event).toEqual(event);
    }
    for (const { input, name } of vectors.reject) {
      const { status } = await api.post("/v1/logs", input);
      expect([name, status]).toEqual([name, 400]);
    }
    await checked(slug);
  });

  test("bad input: 4xx that names the field, nothing stored, the refusal counted", async () => {
    const { api, slug } = await newTenant();
    const { api: elsewhere } = await newTenant();
    const [publisher, rsa, ended, future, revoked, foreign, billing] = [
      new TestPublisher(),
      new TestPublisher("rsa-pss"),
      new TestPublisher(),
      new TestPublisher(),
      new TestPublisher(),
      new TestPublisher(),
      new TestPublisher(),
    ] as const;
    await register(api, publisher);
    await register(api, rsa);
    await register(api, ended, "orders", { valid_to: new Date(Date.now() + 300).toISOString() });
    await register(api, future, "orders", { valid_from: "2100-01-01T00:00:00Z" });
    await register(api, revoked);
    await api.post(`/v1/admin/keys/${encodeURIComponent(revoked.keyId)}/revoke`, {});
    await register(api, billing, "billing");
    await register(elsewhere, foreign, "elsewhere");
    await until(async () => (await api.post("/v1/logs", ended.signed(eventOf()))).status === 422);
    const size = await sizeOf(api);

    const good = publisher.signed(eventOf());
    const signature = String(good.signature);
    const text = JSON.stringify(eventOf());
    const cases: [string, JsonObject, number, string, string][] = [
      ["wrong signature", { ...good, signature: publisher.sign("x") }, 422, "/signature", "signature_wrong"],
      ["changed event", { ...good, reason: "x" }, 422, "/signature", "signature_wrong"],
      [
        "json.dumps signed, sent flat",
        { ...JSON.parse(text), signature: publisher.sign(` ${text}`), public_key_id: publisher.keyId },
        422,
        "/signature",
        "signature_wrong",
      ],
      ["another key of the service", { ...good, public_key_id: ended.keyId }, 422, "/signature", "signature_wrong"],
      ["rubbish in base64", { ...good, signature: `!${signature.slice(1)}` }, 400, "/signature", "invalid-event"],
      [
        "base64 without padding",
        { ...good, signature: signature.replace(/=+$/, "") },
        400,
        "/signature",
        "invalid-event",
      ],
      ["too short", { ...good, signature: "AAAA" }, 400, "/signature", "signature_length"],
      ["an RSA key's length", { ...good, public_key_id: rsa.keyId }, 400, "/signature", "signature_length"],
      ["wrong key id", { ...good, public_key_id: "orders" }, 400, "/public_key_id", "invalid-event"],
      ["unknown key", { ...good, public_key_id: "orders:v99" }, 422, "/public_key_id", "key_unknown"],
      ["key of another tenant", foreign.signed(eventOf()), 422, "/public_key_id", "key_unknown"],
      ["expired key", ended.signed(eventOf()), 422, "/public_key_id", "key_expired"],
      ["key of the future", future.signed(eventOf()), 422, "/public_key_id", "key_not_yet_valid"],
      ["revoked key", revoked.signed(eventOf()), 422, "/public_key_id", "key_revoked"],
      [
        "key of another service",
        billing.signed(eventOf({ service_id: "orders" })),
        422,
        "/public_key_id",
        "key_of_another_service",
      ],
      [
        "text that is not event_data",
        publisher.signedText(text, { event_data: { ...JSON.parse(text), reason: "y" } }),
        400,
        "/event_data/reason",
        "invalid-event",
      ],
      ["text that is no JSON", publisher.signedText("{"), 400, "/event", "invalid-event"],
      [
        "contradiction",
        publisher.signedText(JSON.stringify(eventOf({ service_id: "orders" })), { service_id: "billing" }),
        400,
        "/service_id",
        "invalid-event",
      ],
    ];
    for (const [name, event, status, path, reason] of cases) {
      const before = await metric(server, "audit_events_rejected_total", `reason="${reason}"`);
      const answer = await api.post("/v1/logs", event);
      expect([name, answer.status, pathsOf(answer)]).toEqual([name, status, [path]]);
      const bulk = await api.post("/v1/logs/bulk", { events: [publisher.signed(eventOf()), event] });
      expect([name, bulk.status, pathsOf(bulk)]).toEqual([name, status, [`/events/1${path}`]]);
      const partial = await api.post<{ data: Problem[] }>("/v1/logs/bulk?partial=true", [event]);
      expect([name, partial.status, partial.body.data.map((one) => one.status)]).toEqual([name, 207, [status]]);
      const after = await metric(server, "audit_events_rejected_total", `reason="${reason}"`);
      expect([name, after - before]).toEqual([name, 3]);
    }
    expect(await sizeOf(api)).toBe(size);
    expect(await metric(server, "signature_verification_seconds_count")).toBeGreaterThan(0);

    const key = await api.post<{ secret: string }>("/v1/admin/api-keys", {
      name: "b",
      scopes: ["write"],
      service_id: "billing",
    });
    const bound = server.api.as({ authorization: `Bearer ${key.body.secret}` });
    expect((await bound.post("/v1/logs", publisher.signed(eventOf()))).status).toBe(403);
    expect((await bound.post("/v1/logs", billing.signed(eventOf()))).status).toBe(201);
    expect(await metric(server, "audit_events_received_total", 'service="billing"')).toBe(1);
    await checked(slug);
  });

  test("a partial bulk request records what is good", async () => {
    const { api, slug } = await newTenant();
    const publisher = new TestPublisher();
    await register(api, publisher);
    const events = Array.from({ length: 230 }, (_, i) => {
      const signed = publisher.signed(eventOf());
      return i % 7 === 0 ? { ...signed, reason: "not signed" } : signed;
    });
    const { status, body } = await api.post<{ data: (Head & Problem)[] }>("/v1/logs/bulk?partial=true", { events });
    expect(status).toBe(207);
    expect(body.data.map((one) => one.status ?? 201)).toEqual(events.map((_, i) => (i % 7 === 0 ? 422 : 201)));
    expect((await checked(slug)).checked).toBe(1 + body.data.filter((one) => one.status === undefined).length);
  });

  test("a replay gets the first answer, whatever is sent beside the signed text", async () => {
    const { api, slug } = await newTenant();
    const publisher = new TestPublisher("rsa-pss");
    await register(api, publisher);
    const text = JSON.stringify(eventOf());
    const form = publisher.signedText(text);
    const first = await api.record(form);
    for (const again of [form, publisher.signedText(text), { ...form, event_type: "other" }]) {
      expect(await api.record(again)).toEqual({ ...first, duplicate: true });
      expect(await other.operator.with(api.headers).record(again)).toEqual({ ...first, duplicate: true });
    }
    // Within one request, and by many at once.
    const twice = publisher.signed(eventOf());
    const [one, two] = await api.recordAll([twice, twice]);
    expect(two).toEqual({ ...one, duplicate: true });
    const many = publisher.signed(eventOf());
    const heads = await Promise.all(Array.from({ length: 20 }, () => api.record(many)));
    expect(new Set(heads.map(({ id }) => id)).size).toBe(1);
    expect(heads.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
    // Its idempotency key is another one, and keeps its own rules.
    const keyed = publisher.signed(eventOf({ idempotency_key: "k" }));
    const recorded = await api.record(keyed);
    expect(await api.record(keyed)).toEqual({ ...recorded, duplicate: true });
    expect((await api.post("/v1/logs", publisher.signed(eventOf({ idempotency_key: "k" })))).status).toBe(422);
    expect((await api.post("/v1/logs", eventOf({ idempotency_key: "k", service_id: "orders" }))).status).toBe(422);
    // Another service's, or another tenant's, is another event.
    expect((await checked(slug)).checked).toBe(5);
  });

  test("what is kept to know repeats by is no help to guess an erased value", async () => {
    const { api, slug } = await newTenant();
    const publisher = new TestPublisher();
    await register(api, publisher);
    const event = eventOf({ context: { ip: "192.0.2.7" }, idempotency_key: "order-7" });
    const text = canonicalize(event);
    const { seq } = await api.record(publisher.signedText(text));
    const { tenantId, logId } = (await db.tenants.find(slug))!;
    const { rows } = await db.superuser.query<{ key: string; request_hash: string }>(
      "select key, request_hash from tallystick.idempotency_keys where log_id = $1 and seq = $2",
      [logId, seq],
    );
    expect(rows.length).toBe(2);
    // Whoever guesses the address right knows everything else from the leaf.
    const sha256 = (input: string) => createHash("sha256").update(input).digest("hex");
    const payload = sha256(text);
    const guesses = [
      canonicalize([tenantId, "orders", "order-7"]),
      canonicalize([tenantId, "orders", "signed", payload]),
      `${text}\0${payload}`,
      text,
    ].map((guess) => sha256(guess).slice(0, 32));
    const kept = rows.flatMap(({ key, request_hash }) => [key, request_hash]).map((uuid) => uuid.replaceAll("-", ""));
    expect(kept.filter((one) => guesses.includes(one))).toEqual([]);
    expect((await other.operator.with(api.headers).record(publisher.signedText(text))).duplicate).toBe(true);
  });

  test("signed only: unsigned events of the service are refused by every server, the others' are not", async () => {
    const { api, slug } = await newTenant();
    const publisher = new TestPublisher();
    await register(api, publisher);
    await api.record(eventOf({ service_id: "orders" }));
    const away = other.operator.with(api.headers);
    const earlier = await away.record(eventOf({ service_id: "orders", idempotency_key: "earlier" }));
    const set = await api.patch<{ signed_only: boolean; entry: unknown }>("/v1/admin/services/orders", {
      signed_only: true,
    });
    expect([set.status, set.body.signed_only]).toEqual([200, true]);
    expect(
      (await api.patch<{ entry: unknown }>("/v1/admin/services/orders", { signed_only: true })).body.entry,
    ).toBeNull();
    const refused = await api.post("/v1/logs", eventOf({ service_id: "orders" }));
    expect([refused.status, refused.body.type, pathsOf(refused)]).toEqual([
      422,
      "urn:tallystick:problem:signature-required",
      ["/signature"],
    ]);
    // What the other server remembers of the setting does not count, but what is so under the log's lock.
    const unsigned = eventOf({ service_id: "orders" });
    const awayRefused = await away.post("/v1/logs", unsigned);
    expect([awayRefused.status, awayRefused.body.type, pathsOf(awayRefused)]).toEqual([
      422,
      "urn:tallystick:problem:signature-required",
      ["/signature"],
    ]);
    const bulk = await away.post<{ status: number }[]>("/v1/logs/bulk?partial=true", [
      unsigned,
      publisher.signed(eventOf()),
    ]);
    expect([bulk.status, bulk.text.match(/signature-required/g)?.length]).toEqual([207, 1]);
    expect(earlier.duplicate).toBe(false);
    await api.record(publisher.signed(eventOf()));
    await api.record(eventOf({ service_id: "billing" }));
    expect((await api.get<{ data: unknown[] }>("/v1/admin/services")).body.data).toMatchObject([
      { service_id: "orders", signed_only: true },
    ]);
    expect((await api.patch("/v1/admin/services/tallystick", { signed_only: true })).status).toBe(403);
    expect((await api.patch("/v1/admin/services/orders", { signed_only: "yes" })).status).toBe(400);
    const tooLong = `/v1/admin/services/${encodeURIComponent("é".repeat(65))}`;
    expect((await api.patch(tooLong, { signed_only: true })).status).toBe(400);
    await api.patch("/v1/admin/services/orders", { signed_only: false });
    await api.record(eventOf({ service_id: "orders" }));
    await checked(slug);
  });

  test("a row that is no key stops no write of its tenant, and is named by a verification", async () => {
    const { api, slug } = await newTenant();
    const publisher = new TestPublisher();
    await register(api, publisher);
    const tenant = (await db.tenants.find(slug))!;
    await db.as(
      "tallystick_writer",
      `select set_config('tallystick.tenant_id', '${tenant.tenantId}', false)`,
      `insert into tallystick.publisher_keys (tenant_id, service_id, version, algorithm, public_key_pem, valid_from, created_at)
       values ('${tenant.tenantId}', 'orders', 2, 'ed25519', 'garbage', now(), now())`,
    );
    const away = other.operator.with(api.headers); // it has not looked yet
    await away.record(eventOf());
    await away.record(publisher.signed(eventOf()));
    const byIt = await away.post("/v1/logs", publisher.signed(eventOf(), "orders:v2"));
    expect([byIt.status, byIt.body.type]).toEqual([422, "urn:tallystick:problem:publisher-key"]);
    const report = await verifyLog((work) => db.database.read(tenant.tenantId, work), tenant);
    expect(report.problems).toMatchObject([{ kind: "publisher_key", field: "key_id", stored: "orders:v2" }]);
  });

  test("erasing every opening of signed events leaves the log verifiable: the signatures are erased", async () => {
    const { api, slug } = await newTenant();
    const publisher = new TestPublisher();
    await register(api, publisher);
    const head = await api.record(
      publisher.signed(eventOf({ actor: { id: "u", name: "Zoë", email: "z@example.com" } })),
    );
    await api.record(publisher.signed(eventOf()));
    const log = (await db.tenants.find(slug))!;
    await db.superuser.query("delete from tallystick.openings where log_id = $1", [log.logId]);
    expect(await checked(slug)).toMatchObject({ ok: true, checked: 3, erased: 4 });
    const { body } = await api.get<ListedEntry & { publisher: JsonObject }>(`/v1/logs/${head.id}`);
    expect(body.publisher).toEqual({ $committed: expect.any(String) });
  });

  test("an entry that would be too large with its signature is refused", async () => {
    const { api } = await newTenant();
    const publisher = new TestPublisher();
    await register(api, publisher);
    const event = eventOf({ metadata: { filler: "x".repeat(40_000) } });
    expect((await api.post("/v1/logs", event)).status).toBe(201);
    expect((await api.post("/v1/logs", publisher.signedText(JSON.stringify(event)))).status).toBe(413);
  });
});
