import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Problem } from "../src/testing/api.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";

const EVENT = { action: "order.create", actor: { id: "alice" } };
const MIB = 1024 ** 2;

let database: TestDatabase;
const clients = new Set<Client>();

beforeAll(async () => {
  database = await TestDatabase.create();
});
afterEach(() => {
  for (const client of clients) client.socket.destroy();
  clients.clear();
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

const serve = (settings: Record<string, string> = {}) =>
  startTestServer({ ...databaseSettings(database), ...settings });

/** A connection, what came back on it, and when it was closed. */
class Client {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  answer = "";
  isClosed = false;
  constructor({ url }: { url: string }) {
    const { hostname, port } = new URL(url);
    this.socket = connect({ host: hostname, port: Number(port) });
    this.socket.on("error", () => {});
    this.socket.on("data", (chunk) => {
      this.answer += chunk;
    });
    this.closed = new Promise<void>((resolve) => {
      this.socket.once("close", () => {
        this.isClosed = true;
        resolve();
      });
    });
    clients.add(this);
  }
}

/** Of the server's process: to clients, and to its database. */
async function openConnections(server: TestServer): Promise<number> {
  const { text } = await server.api.get("/metrics");
  return Number(/^nodejs_active_resources\{type="TCPSocketWrap"\} (\d+)$/m.exec(text)![1]);
}

function headOf(server: TestServer, bytes: number, path = "/v1/logs"): string {
  return `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.credentials.api_key}\r\nContent-Type: application/json\r\nContent-Length: ${bytes}\r\n\r\n`;
}

/** Sends a text byte by byte, all clients in turns, until they are closed; meanwhile `work` is done again and again. */
async function trickle(slow: readonly Client[], textOf: (index: number) => string, work: () => Promise<void>) {
  for (let at = 0; slow.some(({ isClosed }) => !isClosed); at++) {
    for (const [index, { socket }] of slow.entries()) {
      const text = textOf(index);
      if (socket.writable) socket.write(text[at % text.length]!, "latin1");
    }
    await work();
    await delay(50); // how slow they are, no wait for a time
  }
}

describe("slow clients", () => {
  test("2,000 connections whose headers or bodies come byte by byte are cut, and others are answered meanwhile", async () => {
    const server = await serve({
      HEADERS_TIMEOUT_MS: "1500",
      REQUEST_TIMEOUT_MS: "3000",
      MAX_CONNECTIONS_PER_ADDRESS: "0",
    });
    const slow = Array.from({ length: 2_000 }, () => new Client(server));
    await Promise.all(slow.map(({ socket }) => once(socket, "connect")));
    const slowBody = (index: number) => index % 2 === 0;
    for (const [index, { socket }] of slow.entries()) if (slowBody(index)) socket.write(headOf(server, 10_000));
    let recorded = 0;
    await trickle(
      slow,
      (index) => (slowBody(index) ? '{"action":"never.ends' : "GET /v1/logs HTTP/1.1\r\nX-Slow: and-slower"),
      async () => {
        expect((await server.api.post("/v1/logs", EVENT)).status).toBe(201);
        recorded++;
      },
    );
    expect(recorded).toBeGreaterThan(0);
    // A byte that is on its way when the connection ends resets it, and the answer may be lost.
    for (const { answer } of slow) expect(answer).toMatch(/^$|^HTTP\/1\.1 408 .*request-timeout/s);
    expect(slow.some(({ answer }) => answer !== "")).toBe(true);
    expect((await server.api.get("/v1/logs")).status).toBe(200);
    expect(await server.stop()).toBe(0);
  }, 120_000);

  test("a connection that sends nothing is closed", async () => {
    const server = await serve({ HEADERS_TIMEOUT_MS: "500" });
    const silent = new Client(server);
    await silent.closed;
    expect(silent.answer).toContain("408");
  });

  test("a client that takes nothing of its answer is cut; one that waits for its answer is not", async () => {
    // Checkpoints would be waiting for the lock below as well, and open connections that are counted.
    const server = await serve({ STALLED_TIMEOUT_MS: "2000", CHECKPOINT_INTERVAL_MS: "3600000" });
    const large = { ...EVENT, metadata: { text: "x".repeat(60_000) } };
    await server.api.recordAll(Array.from({ length: 250 }, () => large));
    const stalled = new Client(server);
    stalled.socket.write(
      `GET /v1/logs?limit=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.credentials.api_key}\r\n\r\n`,
    );
    await once(stalled.socket, "data");
    stalled.socket.pause();
    await database.superuser.query("begin; lock table tallystick.heads in access exclusive mode");
    const waiting = server.api.get("/v1/logs?limit=1");
    try {
      // Both are there still: the other has waited for its answer about as long as this one has not taken any.
      const connected = await openConnections(server);
      await until(async () => (await openConnections(server)) < connected, { what: "the stalled client is cut" });
    } finally {
      await database.superuser.query("commit");
    }
    // An answer, whichever: on a busy machine the lock is held for longer than a query may wait.
    expect([200, 422]).toContain((await waiting).status);
    // Paused, a socket does not hear of its end: it reads what had been sent, and no more.
    stalled.socket.resume();
    await stalled.closed;
    expect(stalled.answer.length).toBeLessThan(250 * 60_000);
  });
});

describe("connections", () => {
  test("beyond those of one address, and of all, are closed at once; the others go on", async () => {
    const server = await serve({ MAX_CONNECTIONS_PER_ADDRESS: "10" });
    const kept = Array.from({ length: 10 }, () => new Client(server));
    await Promise.all(kept.map(({ socket }) => once(socket, "connect")));
    const more = new Client(server);
    await more.closed;
    expect(more.answer).toBe("");
    kept[0]!.socket.write("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => kept[0]!.answer.includes("200 OK"), { what: "a connection within the limit is answered" });
    kept[1]!.socket.destroy();
    await until(
      async () => {
        const again = new Client(server);
        again.socket.write("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
        await Promise.race([again.closed, new Promise((resolve) => again.socket.once("data", resolve))]);
        return again.answer.includes("200 OK");
      },
      { what: "the place of a connection that was closed is free again" },
    );
  });

  test("headers that are too large are a 431", async () => {
    const server = await serve({ MAX_HEADER_BYTES: "4096" });
    const { status } = await server.api.get("/health/live", { "x-large": "x".repeat(5_000) });
    expect(status).toBe(431);
  });
});

describe("large bodies", () => {
  test("of 100 MB are refused with 413, at once or when they have become too large, and others are answered meanwhile", async () => {
    const server = await serve();
    const chunk = Buffer.alloc(MIB, " ");
    const announced = new Client(server);
    announced.socket.write(headOf(server, 100 * MIB, "/v1/logs/bulk"));
    const chunked = new Client(server);
    chunked.socket.write(headOf(server, 0, "/v1/logs/bulk").replace("Content-Length: 0", "Transfer-Encoding: chunked"));
    for (let sent = 0; sent < 100; sent++) {
      announced.socket.write(chunk);
      chunked.socket.write(`${MIB.toString(16)}\r\n`);
      chunked.socket.write(chunk);
      chunked.socket.write("\r\n");
      if (sent % 10 === 0) expect((await server.api.post("/v1/logs", EVENT)).status).toBe(201);
    }
    for (const client of [announced, chunked]) {
      await until(() => client.answer.includes("too-large"), { what: "the body is refused" });
      expect(client.answer).toContain("HTTP/1.1 413 ");
    }
  });

  test("a client that goes away before its body is there is no error of the server's", async () => {
    const server = await serve();
    await server.api.get("/v1/logs"); // the key is known: the body is waited for at once
    const away = new Client(server);
    away.socket.write(headOf(server, 1_000).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n{"));
    await once(away.socket, "data");
    away.socket.destroy();
    const rejected = async () => (await server.api.get("/metrics")).text.includes('total{reason="invalid-request"} 1');
    await until(rejected, { what: "the request is counted" });
    expect(server.said).toBe("");
  });

  test("what goes on for ever behind a refusal is cut", async () => {
    const server = await serve();
    const endless = new Client(server);
    endless.socket.write(headOf(server, 100 * MIB, "/v1/logs/bulk"));
    await endless.closed;
    expect(endless.answer).toContain("HTTP/1.1 413 ");
  });

  test("take no room by being announced; those that find none are a 503, and leave it to others", async () => {
    const server = await serve({ BODIES_MAX_BYTES: "32MiB" });
    const half = Buffer.alloc(12 * MIB, " ");
    const holders = Array.from({ length: 3 }, () => new Client(server));
    for (const { socket } of holders) socket.write(headOf(server, 15 * MIB, "/v1/logs/bulk"));
    const api = server.api;
    expect((await api.post("/v1/logs/bulk", { events: [{ ...EVENT, description: "x".repeat(8_000) }] })).status).toBe(
      201,
    );
    for (const { socket } of holders) socket.write(half);
    // A tenant may have 16 MiB of the 32: of three times 12 MiB one fits.
    await until(() => holders.filter(({ answer }) => answer.includes("HTTP/1.1 503 ")).length === 2, {
      what: "two find no room",
    });
    const refused = holders.find(({ answer }) => answer !== "")!;
    expect(refused.answer).toMatch(/retry-after: 1/i);
    expect(refused.answer).toContain("urn:tallystick:problem:overloaded");
    // Another tenant's goes on.
    const { body } = await server.operator.post<{ id: string }>("/v1/tenants", { slug: "roomy" });
    const bulk = JSON.stringify({
      events: Array.from({ length: 200 }, () => ({ ...EVENT, description: "y".repeat(8_000) })),
    });
    const theirs = await server.operator.post<Problem>("/v1/logs/bulk", bulk, { "x-tenant-id": body.id });
    expect(theirs.status).toBe(201);
    // And the room of those that end is free again.
    for (const { socket } of holders) socket.destroy();
    await until(async () => (await api.post("/v1/logs/bulk", bulk)).status === 201, { what: "there is room again" });
  });
});

describe("overload", () => {
  test("requests are shed with 503 while memory runs out; health, metrics and documentation are answered", async () => {
    // More than Node uses to begin with, and less than the server does.
    const server = await serve({ MAX_MEMORY_BYTES: "256MiB" });
    const shed = async () => (await server.api.get<Problem>("/v1/logs")).status === 503;
    // Memory that a program uses is not given back at once: a few large requests are enough.
    const bulk = JSON.stringify({
      events: Array.from({ length: 1_900 }, () => ({ ...EVENT, description: "z".repeat(8_000) })),
    });
    await until(async () => (await server.api.post("/v1/logs/bulk", bulk)).status === 503 || (await shed()), {
      what: "requests are shed",
      deadlineMs: 40_000,
    });
    const { status, body, headers } = await server.api.get<Problem>("/v1/logs");
    expect([status, body.type]).toEqual([503, "urn:tallystick:problem:overloaded"]);
    expect(headers["retry-after"]).toBe("2");
    for (const path of ["/health/live", "/metrics", "/openapi.json"]) {
      expect((await server.api.get(path)).status).toBe(200);
    }
    expect(server.said.match(/overloaded: requests are refused/g)).toHaveLength(1);
  });

  test("requests are shed while the event loop is behind", async () => {
    const block = `setInterval(() => { const end = Date.now() + 150; while (Date.now() < end); }, 160)`;
    const server = await startTestServer(
      { ...databaseSettings(database), MAX_EVENT_LOOP_DELAY_MS: "20" },
      { execArgv: ["--import", `data:text/javascript,${encodeURIComponent(block)}`] },
    );
    await until(async () => (await server.api.get("/v1/logs")).status === 503, { what: "requests are shed" });
    expect((await server.api.get("/health/live")).status).toBe(200);
  });
});
