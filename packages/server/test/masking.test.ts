/** Secrets in events: what is recorded in their place, and that they are nowhere. */
import type { JsonObject } from "@tallystick/core/json";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Answer, Api, Head, ListedEntry, Problem } from "../src/testing/api.ts";
import { checkLog, TestDatabase } from "../src/testing/log.ts";
import { TestPublisher } from "../src/testing/publisher.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer } from "../src/testing/server.ts";

let db: TestDatabase;
let server: TestServer;
/** Masks card numbers, and a key of its own; on the same database. */
let strict: TestServer;
beforeAll(async () => {
  db = await TestDatabase.create();
  const settings = { ...databaseSettings(db), ADMIN_TOKEN: "the-admin-token-of-both" };
  server = await startTestServer(settings);
  strict = await startTestServer({ ...settings, MASKED_KEYS: "+pin", MASK_CARD_NUMBERS: "true" });
});
afterAll(async () => {
  await stopTestServers();
  await db.close();
});

let tenants = 0;
async function newTenant(of: TestServer = server): Promise<{ api: Api; slug: string }> {
  const slug = `masked-${++tenants}`;
  await server.operator.post("/v1/tenants", { slug, name: slug });
  return { api: of.operator.with({ "x-tenant-id": slug }), slug };
}

const SECRET = "hunter2-hunter2";
const eventOf = (more: JsonObject = {}): JsonObject => ({ action: "a.b", actor: { id: "u" }, ...more });

/** Everything that is in the database: each row of each table, binary values in hex. */
async function dump(): Promise<string> {
  const tables = await db.as<{ name: string }>(
    "postgres",
    `select c.oid::regclass::text as name from pg_class c
     where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition`,
  );
  const texts: string[] = [];
  for (const { name } of tables) {
    const rows = await db.as<{ row: string }>("postgres", `select t::text as row from ${name} t`);
    texts.push(`${name}\n`, ...rows.map(({ row }) => `${row}\n`));
  }
  return texts.join("");
}

function expectNowhere(text: string, secret: string): void {
  expect(text.includes(secret)).toBe(false);
  expect(text.includes(Buffer.from(secret).toString("hex"))).toBe(false);
}

async function eventAt(api: Api, { id }: Head): Promise<ListedEntry["event"]> {
  const { body } = await api.get<ListedEntry>(`/v1/logs/${id}`);
  expectNowhere(body.leaf!, SECRET);
  return body.event;
}

const pathsOf = (answer: Answer<Problem>) => answer.body.errors?.map(({ path }) => path);

describe("an event that holds a secret", () => {
  test("is recorded with a mark in its place, by itself and in bulk, and everything verifies", async () => {
    const { api, slug } = await newTenant();
    const sent = eventOf({
      user_id: "u",
      details: { Password: SECRET, nested: [{ apiKey: SECRET, plan: "team" }] },
      before_state: { token: null },
      after_state: { token: SECRET },
      reason: `POST /reset?token=${SECRET}`,
      description: "reset of a password",
      idempotency_key: "one",
    });
    const expected = {
      metadata: { Password: { $masked: "password" }, nested: [{ apiKey: { $masked: "api_key" }, plan: "team" }] },
      changes: { before: { token: null }, after: { token: { $masked: "token" } } },
      reason: { $masked: "token" },
      description: "reset of a password",
    };
    const first = await api.record(sent);
    const [second] = await api.recordAll([{ ...sent, idempotency_key: "two" }]);
    for (const head of [first, second!]) expect(await eventAt(api, head)).toMatchObject(expected);
    // A retry with another secret is the same event: of the secret nothing is known any more.
    const retried = await api.record({ ...sent, details: { ...(sent.details as JsonObject), Password: "changed" } });
    expect(retried).toMatchObject({ id: first.id, duplicate: true });

    const { body } = await api.get<{ data: ListedEntry[] }>("/v1/logs");
    expect(body.data.map(({ event }) => event)).toMatchObject([expected, expected]);
    expectNowhere(await dump(), SECRET);
    expectNowhere(server.said, SECRET);
    await checkLog(db.database, (await db.tenants.find(slug))!);
    const report = await db.as<{ ok: boolean }>("tallystick_auditor", `select * from tallystick.check_log('${slug}')`);
    expect(report).toEqual([]);
    const evidence = await api.get("/v1/logs/export?format=evidence");
    expect(evidence.status).toBe(200);
    expectNowhere(evidence.text, SECRET);
    expect(evidence.text).toContain('{\\"$masked\\":\\"password\\"}');
  });

  test("its keys and card numbers are masked as the settings say", async () => {
    const sent = eventOf({ metadata: { pin: 1234, password: SECRET, note: "card 4111 1111 1111 1111" } });
    const [plain, all] = [await newTenant(), await newTenant(strict)];
    expect((await eventAt(plain.api, await plain.api.record(sent))).metadata).toEqual({
      pin: 1234,
      password: { $masked: "password" },
      note: "card 4111 1111 1111 1111",
    });
    expect((await eventAt(all.api, await all.api.record(sent))).metadata).toEqual({
      pin: { $masked: "pin" },
      password: { $masked: "password" },
      note: { $masked: "card_number" },
    });
  });
});

describe("a signed event that holds a secret", () => {
  test("is refused with the paths as sent, by itself and in bulk, and leaves nothing behind", async () => {
    const { api, slug } = await newTenant();
    const publisher = new TestPublisher();
    const registered = await api.post<{ key_id: string }>("/v1/admin/keys", publisher.registration("orders"));
    publisher.keyId = registered.body.key_id;
    const secret = { details: { list: [{ token: SECRET }] }, reason: `password=${SECRET}` };
    const flat = publisher.signed(eventOf(secret));
    const text = publisher.signedText(JSON.stringify(eventOf(secret)));
    const good = publisher.signed(eventOf({ details: { token: null } }));

    const answer = await api.post("/v1/logs", flat);
    expect(answer.status).toBe(422);
    expect(answer.body.type).toBe("urn:tallystick:problem:masked-value");
    expect(pathsOf(answer)).toEqual(["/details/list/0/token", "/reason"]);
    expect(answer.body.errors![0]!.message).toContain("(token)");
    expectNowhere(answer.text, SECRET);
    expect(pathsOf(await api.post("/v1/logs", text))).toEqual(["/event/details/list/0/token", "/event/reason"]);

    const all = await api.post("/v1/logs/bulk", { events: [good, text] });
    expect(all.status).toBe(422);
    expect(pathsOf(all)).toEqual(["/events/1/event/details/list/0/token", "/events/1/event/reason"]);
    const partial = await api.post<{ data: (Head & Problem)[] }>("/v1/logs/bulk?partial=true", [flat, good]);
    expect(partial.status).toBe(207);
    expect(partial.body.data[0]).toMatchObject({
      status: 422,
      errors: [{ path: "/0/details/list/0/token" }, { path: "/0/reason" }],
    });
    expect(partial.body.data[1]).toHaveProperty("seq");

    expectNowhere(await dump(), SECRET);
    expectNowhere(server.said, SECRET);
    await checkLog(db.database, (await db.tenants.find(slug))!);
    const { text: metrics } = await api.get("/metrics");
    expect(metrics).toMatch(/audit_events_rejected_total\{reason="masked-value"\} [1-9]/);
  });
});
