/** Answers do not grow with what was sent: refusals name so much and no more, and large bodies are taken by bulk only. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Problem } from "../src/testing/api.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer } from "../src/testing/server.ts";

let database: TestDatabase;
let server: TestServer;

beforeAll(async () => {
  database = await TestDatabase.create();
  server = await startTestServer(databaseSettings(database));
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

/** The errors of a refusal, which is a 400. */
async function errorsOf(path: string, body: unknown) {
  const { status, body: problem, text } = await server.operator.post<Problem>(path, body);
  expect(status).toBe(400);
  return { errors: problem.errors!, bytes: Buffer.byteLength(text) };
}

describe("a refusal", () => {
  test("names everything that is wrong with a small body", async () => {
    const { errors } = await errorsOf("/v1/admin/api-keys", { name: "", scopes: ["x"], more: 1 });
    expect(errors.map(({ path }) => path).sort()).toEqual(["/more", "/name", "/scopes/0"]);
  });

  test("names the first of many wrong items, and does not look for the others", async () => {
    const { errors } = await errorsOf("/v1/admin/api-keys", { name: "x", scopes: Array(50_000).fill(0) });
    expect(errors).toEqual([{ path: "/scopes", message: expect.stringContaining("must NOT have more than") }]);
    const unknown = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`f${index}`, 0]));
    expect((await errorsOf("/v1/tenants", { slug: "some", ...unknown })).errors).toHaveLength(1);
  });

  test("names a hundred places at most, and no place in more than about a thousand characters", async () => {
    const unknown = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`f${index}`, 0]));
    expect((await errorsOf("/v1/admin/api-keys", { name: "x", scopes: ["read"], ...unknown })).errors).toHaveLength(
      100,
    );
    const { errors, bytes } = await errorsOf("/v1/tenants", { slug: "some", ["x".repeat(100_000)]: 0 });
    expect(errors).toHaveLength(1);
    expect(bytes).toBeLessThan(2_000);
  });
});

test("a body beyond 128 KiB is an event's or a bulk request's", async () => {
  const large = { name: "x", scopes: Array(520_000).fill(0) };
  for (const path of ["/v1/admin/api-keys", "/v1/admin/certificates", "/v1/admin/keys", "/v1/tenants"]) {
    const { status, body } = await server.operator.post<Problem>(path, large);
    expect([path, status]).toEqual([path, 413]);
    expect(body.detail).toContain("128 KiB");
  }
});

test("a bulk request that is refused item by item is answered by no more than it was", async () => {
  // Each item: 500 fields that there are not. Together they are about 15 MB.
  const unknown = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`f${index}`, 0]));
  const sent = JSON.stringify({ events: Array(3_500).fill({ action: "a.b", actor: { id: "a" }, ...unknown }) });
  const { status, text, body } = await server.api.post<{ data: Problem[] }>("/v1/logs/bulk?partial=true", sent);
  expect(status).toBe(207);
  expect(body.data).toHaveLength(3_500);
  expect(body.data[0]!.errors).toHaveLength(10);
  expect(body.data.at(-1)!.errors).toEqual([{ path: "/events/3499/f0", message: expect.any(String) }]);
  expect(text.length).toBeLessThan(sent.length / 10);
});
