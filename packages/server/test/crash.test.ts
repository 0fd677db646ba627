/** What was acknowledged is there exactly once, whatever is killed, cut or shut down, and whenever. */
import { Agent, request as sendRequest } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readCredentials } from "../src/credentials.ts";
import { Database } from "../src/db/database.ts";
import { Tenants } from "../src/log/tenants.ts";
import type { Answer, Head, Problem } from "../src/testing/api.ts";
import { Account, checkAccount, randomFrom } from "../src/testing/load.ts";
import { checkLog, TestDatabase } from "../src/testing/log.ts";
import { TcpProxy } from "../src/testing/proxy.ts";
import {
  databaseSettings,
  startTestServer,
  stopTestServers,
  type TestServer,
  temporaryDirectory,
  until,
} from "../src/testing/server.ts";

const SEED = Number(process.env.TALLYSTICK_TEST_SEED ?? Date.now() % 2 ** 31);
/** Kills in each of the two campaigns. TALLYSTICK_TEST_KILLS=500 makes them long ones. */
const KILLS = Number(process.env.TALLYSTICK_TEST_KILLS ?? 11);
const CAMPAIGN_TIMEOUT_MS = 120_000 + KILLS * 20_000;
const WRITERS = 12;
const API_KEY = "key-of-the-servers-in-this-test";

let database: TestDatabase;

beforeAll(async () => {
  database = await TestDatabase.create();
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

/** An event that can be told from all others. */
function event(tag: string, more: Readonly<Record<string, unknown>> = {}) {
  return { action: "load.write", actor: { id: "writer" }, metadata: { tag }, ...more };
}

/** Writers that send every event again, under its key, until it is acknowledged; by turns single events and bulk. */
class Load {
  readonly account = new Account();
  /** Requests that failed or were refused and were sent again. */
  retries = 0;
  #ending = false;
  #failure: Error | undefined;
  readonly #done: Promise<unknown>;

  /** `server` gives the one to write to, once there is one. */
  constructor(name: string, server: () => Promise<TestServer>, random: () => number) {
    const writers = Array.from({ length: WRITERS }, (_, writer) => this.#write(`${name}-${writer}`, server, random));
    this.#done = Promise.all(writers).catch((error: Error) => {
      this.#failure = error;
    });
  }

  /** @throws what has ended a writer. */
  get acknowledged(): number {
    if (this.#failure !== undefined) throw this.#failure;
    return this.account.heads.size;
  }

  /** Resolves when every event that was begun is acknowledged. */
  async end(): Promise<void> {
    this.#ending = true;
    await this.#done;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #write(name: string, server: () => Promise<TestServer>, random: () => number): Promise<void> {
    for (let turn = 0; !this.#ending; turn++) {
      const count = random() < 0.7 ? 1 : 1 + Math.floor(random() * 30);
      const tags = Array.from({ length: count }, (_, index) => `${name}-${turn}-${index}`);
      const events = tags.map((tag, index) =>
        event(tag, { idempotency_key: tag, service_id: index % 3 === 0 ? "orders" : "billing" }),
      );
      const heads = await this.#send(server, events);
      for (const [index, head] of heads.entries()) this.account.acknowledge(tags[index]!, head);
    }
  }

  async #send(server: () => Promise<TestServer>, events: readonly unknown[]): Promise<readonly Head[]> {
    for (;;) {
      const current = await server();
      const { api } = current;
      let answer: Answer<{ data: Head[] } | Head | Problem>;
      try {
        answer = await (events.length === 1 ? api.post("/v1/logs", events[0]) : api.post("/v1/logs/bulk", events));
      } catch {
        this.retries++; // cut: the server is gone
        continue;
      }
      if (answer.status === 201) return "data" in answer.body ? answer.body.data : [answer.body as Head];
      if (answer.status !== 503)
        throw new Error(`neither recorded nor to be sent again: ${answer.text}; ${current.said.slice(-3_000)}`);
      this.retries++;
      await delay(20); // the pause of a client that is told to try again
    }
  }
}

/** Lets the load do some more, a random part of a commit's worth. */
async function someMore(load: Load, random: () => number): Promise<void> {
  const target = load.acknowledged + 1 + Math.floor(random() * 150);
  await until(() => load.acknowledged >= target, { what: `${target} events are acknowledged`, deadlineMs: 30_000 });
  // And not always at the moment of an answer.
  for (let turns = Math.floor(random() * 40); turns > 0; turns--) await new Promise(setImmediate);
}

describe("kill -9", () => {
  test(`of the server, ${KILLS} times under load (seed ${SEED})`, { timeout: CAMPAIGN_TIMEOUT_MS }, async () => {
    const random = randomFrom(SEED);
    const log = await database.tenant("killed-server");
    const dataDir = join(await temporaryDirectory(), "data");
    const start = () => startTestServer({ ...databaseSettings(database), API_KEY }, { dataDir });
    let server = await start();
    const key = await database.newKey(log.slug, { scopes: ["write"] });
    const authorized = (one: TestServer) =>
      Object.assign(Object.create(one) as TestServer, { api: one.api.as({ "x-api-key": key }) });
    let current = Promise.resolve(authorized(server));
    const load = new Load("s", () => current, random);
    for (let kill = 0; kill < KILLS; kill++) {
      await someMore(load, random);
      const { promise, resolve } = Promise.withResolvers<TestServer>();
      current = promise;
      await server.kill();
      await checkLog(database.database, log);
      server = await start();
      resolve(authorized(server));
    }
    await load.end();
    expect(load.retries).toBeGreaterThan(0);
    await checkLog(database.database, log);
    expect(await checkAccount(database.superuser, log.slug, load.account)).toBe(load.acknowledged);
    expect(await server.stop()).toBe(0);
  });

  test(`of PostgreSQL, ${KILLS} times under load (seed ${SEED})`, { timeout: CAMPAIGN_TIMEOUT_MS }, async () => {
    const random = randomFrom(SEED + 1);
    const server = await startTestServer({ API_KEY }, { dataDir: join(await temporaryDirectory(), "data") });
    // It may come back on another port.
    const place = async () => (await readCredentials(server.dataDir))!.database_url!;
    const load = new Load("p", () => Promise.resolve(server), random);
    for (let kill = 0; kill < KILLS; kill++) {
      await someMore(load, random);
      const witness = await connected(await place());
      const ended = new Promise<void>((resolve) => witness.on("end", () => resolve()));
      const { rows } = await witness.query<{ postmaster: number; backend: number | null }>(
        `select split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::integer as postmaster,
           (select pid from pg_stat_activity where application_name = 'tallystick writer' order by random() limit 1) as backend`,
      );
      // Without its postmaster all of PostgreSQL ends; without a backend it restarts itself, and recovers.
      const { postmaster, backend } = rows[0]!;
      process.kill(kill % 3 === 2 ? (backend ?? postmaster) : postmaster, "SIGKILL");
      await ended;
      await until(async () => answers(await place()), { what: "PostgreSQL is there again", deadlineMs: 60_000 }).catch(
        (error: Error) => {
          throw new Error(`${error.message}; the server said: ${server.said.slice(-4_000)}`);
        },
      );
      await someMore(load, random);
      await withDatabase(await place(), async (own) => checkLog(own, (await new Tenants(own).find("default"))!));
    }
    await load.end();
    expect(load.retries).toBeGreaterThan(0);
    // Once a time, whoever noticed it.
    expect(server.said.split("has been started again").length - 1).toBeLessThanOrEqual(KILLS);
    const client = await connected(await place());
    expect(await checkAccount(client, "default", load.account)).toBe(load.acknowledged);
    await client.end();
    expect(await server.stop()).toBe(0);
  });
});

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client(url);
  client.on("error", () => {}); // it is killed as well
  await client.connect();
  return client;
}

async function answers(url: string): Promise<boolean> {
  try {
    await (await connected(url)).end();
    return true;
  } catch {
    return false;
  }
}

async function withDatabase<T>(url: string, use: (database: Database) => Promise<T>): Promise<T> {
  const own = new Database({ url, poolSize: 4, onIdleError: () => {} });
  try {
    return await use(own);
  } finally {
    await own.close();
  }
}

describe("a connection that is cut", () => {
  const isCommit = (sent: Buffer) => sent.includes("insert into tallystick.heads");

  test(`between COMMIT and its answer, or before COMMIT, neither loses nor doubles (seed ${SEED})`, async () => {
    const random = randomFrom(SEED + 2);
    const proxy = await TcpProxy.to(database.url());
    const server = await startTestServer({ ...databaseSettings(database, (url) => proxy.through(url)), API_KEY });
    const log = (await database.tenants.find("default"))!;
    const account = new Account();
    const rounds = 20;
    for (let round = 0; round < rounds; round++) {
      proxy.cutOnce(random() < 0.6 ? "answered" : "sent", isCommit);
      const tags = Array.from({ length: 8 }, (_, index) => `cut-${round}-${index}`);
      await Promise.all(
        tags.map(async (tag, index) => {
          // PostgreSQL can be asked again at once, so that the outcome is found out: nobody is told to retry.
          const head = await server.api.record(event(tag, index % 2 === 0 ? { idempotency_key: tag } : {}));
          expect(head.duplicate).toBe(false);
          account.acknowledge(tag, head);
        }),
      );
      expect(proxy.cuts).toBe(round + 1);
      await checkAccount(database.superuser, log.slug, account);
    }
    expect(account.heads.size).toBe(rounds * 8);
    await checkLog(database.database, log);
    expect(await server.stop()).toBe(0);
    await proxy.close();
  });

  test.each(["answered", "sent"] as const)("and stays cut (%s): a retry with the same key finds out", async (when) => {
    const proxy = await TcpProxy.to(database.url());
    const log = await database.tenant(`stays-cut-${when}`);
    const server = await startTestServer({ ...databaseSettings(database, (url) => proxy.through(url)), API_KEY });
    const operator = server.operator.with({ "x-tenant-id": log.slug });
    const account = new Account();
    account.acknowledge("before", await operator.record(event("before")));
    proxy.cutOnce(when, isCommit, "refuse");
    const keyed = event("keyed", { idempotency_key: "keyed" });
    const answer = await operator.post("/v1/logs", keyed);
    expect([answer.status, answer.body.type]).toEqual([503, "urn:tallystick:problem:outcome-unknown"]);
    expect(answer.body.detail).toContain("retry with the same key");
    expect(Number(answer.headers["retry-after"])).toBeGreaterThanOrEqual(1);
    proxy.set("pass");
    const retried = await operator.record(keyed);
    expect([retried.seq, retried.duplicate]).toEqual([1, when === "answered"]);
    account.acknowledge("keyed", retried);
    account.acknowledge("after", await operator.record(event("after")));
    expect(await checkAccount(database.superuser, log.slug, account)).toBe(3);
    await checkLog(database.database, log);
    expect(await server.stop()).toBe(0);
    await proxy.close();
  });
});

describe("SIGTERM", () => {
  interface Ending {
    readonly code: string;
    readonly reused: boolean;
  }

  /** Sends one request after another over one kept-alive connection until the server takes no more; how that ended. */
  async function writeUntilRefused(server: TestServer, name: string, account: Account): Promise<Ending> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let turn = 0; ; turn++) {
      const tag = `${name}-${turn}`;
      account.unknown.add(tag);
      const body = JSON.stringify(event(tag));
      const outcome = await new Promise<Ending | string>((resolve) => {
        const outgoing = sendRequest(
          `${server.url}/v1/logs`,
          { method: "POST", agent, headers: { ...server.api.headers, "content-type": "application/json" } },
          (incoming) => {
            let text = "";
            incoming.on("data", (chunk) => {
              text += chunk;
            });
            incoming.on("end", () => resolve(incoming.statusCode === 201 ? text : { code: text, reused: true }));
            incoming.on("error", (error: NodeJS.ErrnoException) => resolve({ code: `${error.code}`, reused: true }));
          },
        );
        outgoing.on("error", (error: NodeJS.ErrnoException) =>
          resolve({ code: error.code ?? error.message, reused: outgoing.reusedSocket }),
        );
        outgoing.end(body);
      });
      if (typeof outcome !== "string") {
        agent.destroy();
        return outcome;
      }
      account.unknown.delete(tag);
      account.acknowledge(tag, JSON.parse(outcome) as Head);
    }
  }

  test("under load: every request that was accepted is answered, none is cut, and the process exits 0", async () => {
    for (let round = 0; round < 4; round++) {
      const server = await startTestServer({ ...databaseSettings(database), API_KEY });
      const { slug } = await database.tenant(`terminated-${round}`);
      const secret = await database.newKey(slug, { scopes: ["write"] });
      const own = Object.assign(Object.create(server) as TestServer, { api: server.api.as({ "x-api-key": secret }) });
      const account = new Account();
      const clients = Array.from({ length: 32 }, (_, client) => writeUntilRefused(own, `t-${client}`, account));
      await until(() => account.heads.size > 200 + round * 100);
      const stopped = server.stop();
      const endings = await Promise.all(clients);
      expect(endings.filter(({ code }) => code !== "ECONNREFUSED")).toEqual([]);
      expect(await stopped).toBe(0);
      expect(await checkAccount(database.superuser, slug, account)).toBe(account.heads.size);
    }
  });

  test("a request whose body is still on its way is taken and answered", async () => {
    const server = await startTestServer({ ...databaseSettings(database), API_KEY });
    const { hostname, port } = new URL(server.url);
    const body = JSON.stringify(event("late"));
    const socket = connect(Number(port), hostname);
    let received = "";
    socket.on("data", (chunk) => {
      received += String(chunk);
    });
    const closed = new Promise((resolve) => socket.on("close", resolve));
    socket.write(
      `POST /v1/logs HTTP/1.1\r\nhost: x\r\nx-api-key: ${API_KEY}\r\ncontent-type: application/json\r\n` +
        `expect: 100-continue\r\ncontent-length: ${body.length}\r\n\r\n${body.slice(0, 5)}`,
    );
    await until(() => received.includes("100 Continue"), { what: "the server reads the request" });
    const stopped = server.stop();
    await until(() => refuses(Number(port)), { what: "the server takes no more connections" });
    socket.write(body.slice(5));
    await closed;
    expect(received).toMatch(/HTTP\/1\.1 201 /);
    expect(await stopped).toBe(0);
  });

  function refuses(port: number): Promise<boolean> {
    return new Promise((resolve) => {
      const probe = connect(port, "127.0.0.1");
      probe.on("connect", () => {
        probe.destroy();
        resolve(false);
      });
      probe.on("error", () => resolve(true));
    });
  }
});
