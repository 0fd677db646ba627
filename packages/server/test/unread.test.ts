/** Clients that ask for large answers and never read them: what they hold is bounded, and others go on. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Problem } from "../src/testing/api.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";

const EVENT = { action: "order.create", actor: { id: "alice" }, description: "x".repeat(8_000) };
/** A page of 1,000 of them is about 8 MiB. */
const COUNT = 1_000;

let database: TestDatabase;
let server: TestServer;
const unread: Socket[] = [];

beforeAll(async () => {
  database = await TestDatabase.create();
  // A tenant may have half of it.
  server = await startTestServer({ ...databaseSettings(database), BODIES_MAX_BYTES: "32MiB" });
  await server.api.recordAll(Array(COUNT).fill(EVENT));
});
afterAll(async () => {
  for (const socket of unread) socket.destroy();
  await stopTestServers();
  await database.close();
});

/** Asks for a page, several times at once, and reads nothing of it. */
async function askAndLeave(times: number): Promise<void> {
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1").pause();
  unread.push(socket);
  await once(socket, "connect");
  const { authorization } = server.api.headers;
  socket.write(
    `GET /v1/logs?limit=${COUNT} HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\n\r\n`.repeat(times),
  );
}

test("answers that are not read count as bodies do, until their connections end", async () => {
  const page = () => server.api.get<Problem>(`/v1/logs?limit=${COUNT}`);
  expect((await page()).status).toBe(200);
  await askAndLeave(3);
  await askAndLeave(1);
  await until(async () => (await page()).status === 503, { what: "there is no room for another page" });
  const refused = await page();
  expect(refused.body.type).toBe("urn:tallystick:problem:overloaded");
  expect(refused.body.detail).toContain("large answer");
  expect(refused.headers["retry-after"]).toBe("1");
  // A bulk request is not begun; small answers and other tenants go on.
  const bulk = { events: [EVENT] };
  expect((await server.api.post("/v1/logs/bulk", bulk)).status).toBe(503);
  expect((await server.api.post("/v1/logs", EVENT)).status).toBe(201);
  expect((await server.api.get("/v1/logs?limit=1")).status).toBe(200);
  const { body } = await server.operator.post<{ id: string }>("/v1/tenants", { slug: "others" });
  const theirs = server.operator.with({ "x-tenant-id": body.id });
  await theirs.recordAll(Array(50).fill(EVENT));
  expect((await theirs.get("/v1/logs?limit=50")).status).toBe(200);
  for (const socket of unread) socket.destroy();
  await until(async () => (await page()).status === 200, { what: "there is room again" });
  expect((await server.api.post("/v1/logs/bulk", bulk)).status).toBe(201);
});
