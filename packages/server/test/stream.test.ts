/**
 * Streams of entries over real sockets: what is sent is the log, each entry once and in order, whatever happens on the way.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { ListedEntry } from "../src/testing/api.ts";
import { randomFrom } from "../src/testing/load.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer } from "../src/testing/server.ts";
import { type Carrier, StreamClient, type StreamOptions } from "../src/testing/stream.ts";

const SEED = Number(process.env.TALLYSTICK_TEST_SEED ?? Date.now() % 2 ** 31);
const CARRIERS: readonly Carrier[] = ["sse", "websocket"];

let database: TestDatabase;
let server: TestServer;
const clients: StreamClient[] = [];

beforeAll(async () => {
  database = await TestDatabase.create();
  server = await startTestServer(databaseSettings(database));
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

/** A tenant of its own, and how it is asked and followed. */
async function tenant() {
  const log = await database.tenant();
  const headers = { authorization: `Bearer ${await database.newKey(log.slug)}` };
  return { log, headers, api: server.api.as(headers) };
}

/** What a stream has to have sent: the list's entries, in order. */
function expectSame(sent: readonly ListedEntry[], listed: readonly ListedEntry[], what = ""): void {
  expect(
    sent.map(({ seq }) => seq),
    what,
  ).toEqual(listed.map(({ seq }) => seq));
  expect(sent, what).toEqual(listed);
}

const EVENT = { action: "user.login", actor: { id: "alice", name: "Alice" }, context: { ip: "192.0.2.1" } };

describe.each(CARRIERS)("by %s", (carrier) => {
  test("entries come as they are recorded, as the list has them, and where the stream stands is said", async () => {
    const { api, headers } = await tenant();
    await api.record(EVENT);
    const client = await open({ carrier, headers });
    await client.until(({ said }) => said.length === 1);
    expect(client.said[0]).toMatchObject({ type: "heartbeat", seq: 1 });
    for (const id of ["a", "b", "c"]) await api.record({ ...EVENT, actor: { id } });
    await client.until(({ entries }) => entries.length === 3);
    expectSame(client.entries, (await api.listAll({ order: "asc" })).slice(1));
  });

  test(`from since_seq on, while a writer goes on: the same entries as the log's, each once (seed ${SEED})`, async () => {
    const { api, headers } = await tenant();
    const random = randomFrom(SEED);
    const eventOf = (n: number) => ({ action: `a.${Math.floor(random() * 5)}`, actor: { id: `u-${n % 7}` } });
    const total = 1_600;
    let written = 0;
    const write = async (until: number) => {
      while (written < until) {
        const count = Math.min(until - written, 1 + Math.floor(random() * 20));
        await api.recordAll(Array.from({ length: count }, () => eventOf(written++)));
      }
    };
    await write(1_000);
    const writing = write(total);
    const queries = [
      {},
      { action: "a.1" },
      { action: "a.*", actor_id: "u-3" },
      { q: "-action:a.2 actor:u-1,u-2" },
      { q: "login" },
    ];
    const opened = queries.flatMap((query) =>
      Array.from({ length: 3 }, async () => {
        const since = Math.floor(random() * 1_000);
        return { since, query, client: await open({ carrier, headers, query: { ...query, since_seq: `${since}` } }) };
      }),
    );
    await writing;
    const end = await open({ carrier, headers, query: { since_seq: `${total - 1}` } });
    await end.until(({ entries }) => entries.length === 1);
    for (const { since, query, client } of await Promise.all(opened)) {
      const listed = (await api.listAll({ ...(query as Record<string, string>), limit: "1000", order: "asc" })).filter(
        ({ seq }) => seq >= since,
      );
      await client.until(({ entries }) => entries.length >= listed.length);
      expectSame(client.entries, listed, JSON.stringify({ since, query }));
    }
  });

  test(`cut again and again, and resumed where it stood: nothing missing, nothing twice (seed ${SEED})`, async () => {
    const { api, headers } = await tenant();
    const random = randomFrom(SEED);
    const total = 600;
    let written = 0;
    const writing = (async () => {
      while (written < total) {
        const count = Math.min(total - written, 1 + Math.floor(random() * 10));
        await api.recordAll(Array.from({ length: count }, () => ({ ...EVENT, action: `a.${written++ % 3}` })));
      }
    })();
    const sent: ListedEntry[] = [];
    let next = 0;
    while (next < total - 2) {
      // By what it was told: the last entry's id or a heartbeat's, or the position behind either.
      const query = { action: "a.1", since_seq: `${next}` };
      const lastId = { ...headers, "last-event-id": `${next - 1}` };
      const client = await (carrier === "sse"
        ? open({ carrier, headers: lastId, query: { action: "a.1", since_seq: "0" } })
        : open({ carrier, headers, query }));
      const enough = 1 + Math.floor(random() * 40);
      await client.until(({ entries }) => entries.length >= enough || entries.some(({ seq }) => seq >= total - 2));
      client.close();
      sent.push(...client.entries);
      const last = client.said.at(-1)!;
      next = last.entry === undefined ? last.seq! : last.entry.seq + 1;
    }
    await writing;
    expectSame(sent, await api.listAll({ action: "a.1", limit: "1000", order: "asc" }));
  });

  test("without following it ends with what is there, and says up to where that is", async () => {
    const { api, headers } = await tenant();
    await api.recordAll(Array.from({ length: 700 }, (_, n) => ({ ...EVENT, action: `a.${n % 2}` })));
    const client = await open({ carrier, headers, query: { since_seq: "0", follow: "false", action: "a.1" } });
    await client.closed();
    expect(client.end).toMatchObject({ reason: "end_of_log", seq: 700 });
    if (carrier === "websocket") expect(client.closeCode).toBe(1000);
    expectSame(client.entries, await api.listAll({ action: "a.1", limit: "1000", order: "asc" }));
  });

  test("who reads nothing for a while is told, and then gets everything; nobody waits for it", async () => {
    const small = await startTestServer({
      ...databaseSettings(database),
      ...{ API_KEY: server.credentials.api_key, STREAM_BUFFER_BYTES: "65536" },
    });
    const { log } = await tenant();
    const headers = { authorization: `Bearer ${await database.newKey(log.slug)}` };
    const api = small.api.as(headers);
    const event = (n: number) => ({ ...EVENT, actor: { id: `u-${n}` }, metadata: { text: "x".repeat(30_000) } });
    const writeAll = async () => {
      const startedMs = performance.now();
      for (let n = 0; n < 600; n += 100) await api.recordAll(Array.from({ length: 100 }, (_, i) => event(n + i)));
      return performance.now() - startedMs;
    };
    const aloneMs = await writeAll();
    const [slow, quick] = await Promise.all([
      open({ carrier, headers, url: small.url }),
      open({ carrier, headers, url: small.url }),
    ]);
    await Promise.all([slow, quick].map((client) => client.until(({ said }) => said.length > 0)));
    slow.pause();
    const besideMs = await writeAll();
    await quick.until(({ entries }) => entries.length === 600);
    // 18 MB were recorded that it has not read: all that is kept for it is the buffer, and the message that went beyond it.
    expect(await waitingAt(small)).toBeLessThan(65_536 + 2 * 32_000);
    expect(besideMs, "writers beside it and alone").toBeLessThan(aloneMs * 3 + 1_000);
    slow.resume();
    await slow.until(({ entries }) => entries.length === 600, 30_000);
    const lagging = slow.said.find(({ type }) => type === "lagging")!;
    expect(lagging.behind).toBeGreaterThan(0);
    const before = slow.said.slice(0, slow.said.indexOf(lagging)).filter(({ type }) => type === "entry");
    expect(lagging.seq).toBe(before.at(-1)!.entry!.seq + 1);
    const listed = (await api.listAll({ limit: "500", order: "asc" })).slice(600);
    expectSame(slow.entries, listed);
    expectSame(quick.entries, listed);
    expect((await api.get("/metrics")).text).toMatch(/audit_stream_lagging_total [1-9]/);
  });
});

/** Bytes that a server keeps for the clients of its streams. */
async function waitingAt(one: TestServer): Promise<number> {
  const { text } = await one.api.get("/metrics");
  return Number(/^audit_stream_waiting_bytes (\S+)$/m.exec(text)![1]);
}

describe("several servers on one database", () => {
  test.each([
    ["with LISTEN", {}],
    ["without", { DATABASE_LISTEN: "false" }],
  ])("%s: what one records the other's streams send", async (_, settings) => {
    const [a, b] = await Promise.all(
      [0, 1].map(() =>
        startTestServer({ ...databaseSettings(database), API_KEY: server.credentials.api_key, ...settings }),
      ),
    );
    const { headers } = await tenant();
    const [atA, atB] = await Promise.all([a!, b!].map(({ url }) => open({ carrier: "websocket", url, headers })));
    for (const client of [atA!, atB!]) await client.until(({ said }) => said.length > 0);
    for (let n = 0; n < 20; n++) await (n % 2 === 0 ? a! : b!).api.as(headers).recordAll([EVENT, EVENT, EVENT]);
    for (const client of [atA!, atB!]) await client.until(({ entries }) => entries.length === 60);
    const listed = await a!.api.as(headers).listAll({ order: "asc" });
    for (const client of [atA!, atB!]) expectSame(client.entries, listed);
    await Promise.all([a!.stop(), b!.stop()]);
  });
});
