/** What a request is refused with by a schema says what would be right. */
import { afterAll, beforeAll, expect, test } from "vitest";
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

test.each<["POST" | "PATCH" | "GET", string, object | undefined, string, string]>([
  ["POST", "/v1/tenants", { slug: "Not A Slug" }, "/slug", "must be 1 to 63 characters of a-z, 0-9 and -"],
  ["POST", "/v1/tenants", { slug: "a", name: "" }, "/name", "must not be empty"],
  ["POST", "/v1/tenants", { slug: "a", name: "x".repeat(257) }, "/name", "must have 256 characters or fewer"],
  ["PATCH", "/v1/tenants/default", {}, "", "is empty: say at least one of name, status, settings"],
  [
    ...(["PATCH", "/v1/tenants/default", { settings: {} }, "/settings"] as const),
    "is empty: say at least one of rate_limit_requests, credential_rate_limit_requests",
  ],
  ["GET", "/v1/admin/verifications/x", undefined, "id", "must be a UUID, such as 0190d7a2-6c1e-7c44-8d39-0d6f4a4f9f33"],
  ["GET", "/v1/logs?limit=many", undefined, "limit", "must be a whole number"],
])("%s %s %j", async (method, path, body, where, message) => {
  const { operator } = server;
  const asked = { POST: () => operator.post<Problem>(path, body), PATCH: () => operator.patch<Problem>(path, body) };
  const answer = method === "GET" ? await operator.get<Problem>(path) : await asked[method]();
  expect([answer.status, answer.body.errors]).toEqual([400, [{ path: where, message }]]);
});
