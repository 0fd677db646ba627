/**
 * Who may have a stream, for how long, and what is said to everyone else: before it begins, and when it ends.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Headers } from "../src/testing/api.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";
import { type Carrier, StreamClient, type StreamOptions, StreamRefused } from "../src/testing/stream.ts";

const CARRIERS: readonly Carrier[] = ["sse", "websocket"];
const EVENT = { action: "user.login", actor: { id: "alice" } };
const PAGE = "https://app.example.com";

let database: TestDatabase;
let server: TestServer;
const clients: StreamClient[] = [];

beforeAll(async () => {
  database = await TestDatabase.create();
  server = await startTestServer({
    ...databaseSettings(database),
    ...{ STREAM_HEARTBEAT_MS: "100", CORS_ORIGINS: PAGE, LOG_LEVEL: "TRACE" },
    ...{ RECORD_READS: "true", WATCH_INTERVAL_MS: "100", STREAMS_MAX_PER_TENANT: "3" },
  });
});
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

async function open(options: Partial<StreamOptions> & Pick<StreamOptions, "carrier">): Promise<StreamClient> {
  const client = await StreamClient.open({ url: server.url, headers: server.api.headers, ...options });
  clients.push(client);
  return client;
}

async function refused(options: Parameters<typeof open>[0]): Promise<StreamRefused> {
  const error = await open(options).then(
    () => new Error("it was not refused"),
    (error: unknown) => error,
  );
  if (!(error instanceof StreamRefused)) throw error;
  return error;
}

async function tenant() {
  const log = await database.tenant();
  const secret = await database.newKey(log.slug);
  const headers: Headers = { authorization: `Bearer ${secret}` };
  return { log, secret, headers, api: server.api.as(headers) };
}

describe.each(CARRIERS)("by %s", (carrier) => {
  test.each([
    [{ since_seq: "1000" }, "since_seq", "must be at most 1: the log has 1 entries"],
    [{ since_seq: "-1" }, "since_seq", expect.any(String)],
    [{ since_seq: "1e3" }, "since_seq", expect.any(String)],
    [{ follow: "perhaps" }, "follow", expect.any(String)],
    [{ outcome: "well" }, "outcome", expect.any(String)],
    [{ q: "created:never" }, "q", expect.any(String)],
    [{ ip: "10.0.0.0/99" }, "ip", expect.any(String)],
    [{ from: "yesterday" }, "from", expect.any(String)],
    [{ acton: "a" }, "acton", expect.any(String)],
  ])("%j is a 400 that says where", async (query, path, message) => {
    const { api, headers } = await tenant();
    await api.record(EVENT);
    const { status, problem, headers: answered } = await refused({ carrier, headers, query: query as never });
    expect(status).toBe(400);
    expect(answered["content-type"]).toContain("application/problem+json");
    expect(problem.errors).toContainEqual({ path, message });
  });

  test("a log that there is not is a 404; no credential, and one without the scope, are refused with a problem", async () => {
    const { log, headers } = await tenant();
    const reader = { authorization: `Bearer ${await database.newKey(log.slug, { scopes: ["read"] })}` };
    expect((await refused({ carrier, headers, query: { log: "none" } })).status).toBe(404);
    expect((await refused({ carrier, headers: {} })).status).toBe(401);
    expect((await refused({ carrier, headers: reader })).problem.detail).toContain('"stream"');
  });

  test("each tenant's stream has the tenant's entries and no other's", async () => {
    const [red, blue] = await Promise.all([tenant(), tenant()]);
    const [ofRed, ofBlue] = await Promise.all([red, blue].map(({ headers }) => open({ carrier, headers })));
    await Promise.all([ofRed!, ofBlue!].map((client) => client.until(({ said }) => said.length > 0)));
    for (let n = 0; n < 5; n++) {
      await Promise.all([red, blue].map(({ api, log }) => api.record({ ...EVENT, metadata: { of: log.slug } })));
    }
    for (const [{ log, headers }, client] of [
      [red, ofRed!],
      [blue, ofBlue!],
    ] as const) {
      await client.until(({ entries }) => entries.length >= 5);
      for (const { event } of client.entries) expect(event.metadata).toEqual({ of: log.slug });
      const other = log === red.log ? blue : red;
      expect((await refused({ carrier, headers, query: { tenant_id: other.log.slug } })).status).toBe(403);
      expect((await refused({ carrier, headers, query: { log: other.log.slug } })).status).toBe(404);
    }
  });

  test("heartbeats say up to where the log has been considered, whether or not anything matched", async () => {
    const { api, headers } = await tenant();
    const client = await open({ carrier, headers, query: { action: "nothing.like.it" } });
    await client.until(({ said }) => said.length > 0);
    for (let n = 0; n < 3; n++) await api.record(EVENT);
    await client.until(({ said }) => said.some(({ type, seq }) => type === "heartbeat" && seq === 3));
    expect(client.entries).toEqual([]);
  });

  test("a credential that is revoked, or expires, ends its stream with the reason", async () => {
    const { log, secret, headers, api } = await tenant();
    const soon = new Date(Date.now() + 1_500).toISOString();
    const expiring = await database.newKey(log.slug, { name: "expiring", expiresAt: soon });
    const [revoked, expired] = await Promise.all([
      open({ carrier, headers }),
      open({ carrier, headers: { "x-api-key": expiring } }),
    ]);
    const kept = await open({ carrier, headers: server.operator.headers, query: { tenant_id: log.slug } });
    await api.record(EVENT);
    await revoked.until(({ entries }) => entries.length === 1);
    await database.superuser.query("update tallystick.api_keys set revoked_at = now() where secret_hash = sha256($1)", [
      Buffer.from(secret),
    ]);
    await revoked.closed();
    await expired.closed();
    expect(revoked.end).toMatchObject({ reason: "api_key_revoked", seq: 1 });
    expect(expired.end).toMatchObject({ reason: "api_key_expired" });
    if (carrier === "websocket") expect(revoked.closeCode).toBe(1008);
    expect(kept.end).toBeUndefined();
  });

  test("a tenant has so many streams and no more, until one ends", async () => {
    const { headers } = await tenant();
    const three = await Promise.all([1, 2, 3].map(() => open({ carrier, headers })));
    const { status, headers: answered, problem } = await refused({ carrier, headers });
    expect([status, answered["retry-after"]]).toEqual([429, "10"]);
    expect(problem.detail).toContain("STREAMS_MAX_PER_TENANT");
    await open({ carrier, headers: (await tenant()).headers }); // another's
    three[0]!.close();
    await until(async () => {
      try {
        await open({ carrier, headers });
        return true;
      } catch {
        return false;
      }
    });
  });

  test("a stream is told of once, when it has ended, and not for each entry", async () => {
    const { log, api, headers } = await tenant();
    const client = await open({ carrier, headers, query: { since_seq: "0" } });
    await api.recordAll([EVENT, EVENT, EVENT]);
    await client.until(({ entries }) => entries.length === 3);
    client.close();
    const operator = server.operator.with({ "x-tenant-id": log.slug }); // whose own reads are told of apart
    const reads = () => operator.listAll({ action: "tallystick.log.read", order: "asc" });
    await until(async () => (await reads()).length > 0);
    expect((await reads())[0]!.event.metadata).toMatchObject({
      reads: 1,
      entries: 3,
      filters: [{ filter: { stream: carrier }, reads: 1, entries: 3 }],
    });
  });

  test("the server's end is told, and the process ends by itself", async () => {
    const one = await startTestServer({ ...databaseSettings(database), API_KEY: server.credentials.api_key });
    const client = await open({ carrier, url: one.url });
    await client.until(({ said }) => said.length > 0);
    expect(await one.stop()).toBe(0);
    await client.closed();
    expect(client.end).toMatchObject({ reason: "server_stopping" });
    if (carrier === "websocket") expect(client.closeCode).toBe(1001);
  });
});

test("since_seq may be what browsers remember: Last-Event-ID counts before it, and is checked as well", async () => {
  const { api, headers } = await tenant();
  await api.recordAll([EVENT, EVENT, EVENT]);
  const client = await open({
    carrier: "sse",
    headers: { ...headers, "last-event-id": "0" },
    query: { since_seq: "2" },
  });
  await client.until(({ entries }) => entries.length === 2);
  for (const id of ["x", "99", "-2"]) {
    const { status, problem } = await refused({ carrier: "sse", headers: { ...headers, "last-event-id": id } });
    expect([status, problem.errors?.[0]?.path.toLowerCase()]).toEqual([400, "last-event-id"]);
  }
});

test("a WebSocket's credential may be a subprotocol, which no log gets to see", async () => {
  const { secret, api } = await tenant();
  const protocols = ["tallystick", `bearer.${secret}`];
  const client = await open({ carrier: "websocket", headers: { origin: PAGE }, protocols });
  expect(client.protocol).toBe("tallystick");
  await client.until(({ said }) => said.length > 0);
  await api.record(EVENT);
  await client.until(({ entries }) => entries.length === 1);
  const alone = await open({ carrier: "websocket", headers: {}, protocols: [`bearer.${secret}`] });
  expect(alone.protocol).toBe(`bearer.${secret}`);
  const wrong = `tally_${"0".repeat(40)}`;
  const { status } = await refused({ carrier: "websocket", headers: {}, protocols: [`bearer.${wrong}`] });
  expect(status).toBe(401);
  const two = [`bearer.${secret}`, `bearer.${wrong}`];
  expect((await refused({ carrier: "websocket", headers: {}, protocols: two })).status).toBe(401);
  // Elsewhere it is no credential.
  expect((await server.api.as({ "sec-websocket-protocol": `bearer.${secret}` }).get("/v1/logs")).status).toBe(401);
  for (const said of [secret, wrong]) expect(server.said).not.toContain(said);
});

test("a page of another origin opens no WebSocket, whatever it brings; one that is named does", async () => {
  const { headers, secret } = await tenant();
  for (const origin of ["https://evil.example", "null", `${PAGE}.evil.example`, "http://127.0.0.2"]) {
    const { status, problem } = await refused({ carrier: "websocket", headers: { ...headers, origin } });
    expect([status, problem.errors], origin).toEqual([403, [{ path: "Origin", message: expect.any(String) }]]);
  }
  expect(
    (await refused({ carrier: "websocket", headers: { origin: "null" }, protocols: [`bearer.${secret}`] })).status,
  ).toBe(403);
  await open({ carrier: "websocket", headers: { ...headers, origin: PAGE } });
  await open({ carrier: "websocket", headers: { ...headers, origin: server.url } });
  const events = await open({ carrier: "sse", headers: { ...headers, origin: PAGE } });
  expect(events.headers["access-control-allow-origin"]).toBe(PAGE);
  expect(events.headers["cache-control"]).toBe("no-store");
});

test("a request that asks for a protocol that is not spoken is answered as if it had not", async () => {
  const upgrade = {
    connection: "Upgrade, HTTP2-Settings",
    upgrade: "h2c",
    "http2-settings": "AAMAAABkAAQCAAAAAAIAAAAA",
  };
  const { api } = await tenant();
  expect((await api.post("/v1/logs", EVENT, upgrade)).status).toBe(201);
  expect((await api.get("/v1/logs", { connection: "Upgrade", upgrade: "websocket" })).status).toBe(200);
});

test("a stream of a log that is succeeded ends with it, once all of it has been sent", async () => {
  const { log, headers, api } = await tenant();
  const client = await open({ carrier: "websocket", headers });
  await client.until(({ said }) => said.length > 0);
  await api.record(EVENT);
  const succeeded = await server.operator.post(`/v1/tenants/${log.slug}/log/succeed`, {
    reason: "a test",
    force: true,
  });
  expect(succeeded.status, succeeded.text).toBeLessThan(300);
  await client.closed();
  expect(client.end).toMatchObject({ reason: "log_succeeded" });
  const old = await open({ carrier: "websocket", headers, query: { log: log.slug, since_seq: "0" } });
  await old.closed();
  expect(old.end).toMatchObject({ reason: "end_of_log" });
  expect(client.entries.map(({ seq }) => seq)).toEqual(old.entries.map(({ seq }) => seq));
});
