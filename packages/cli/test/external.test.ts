import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { adminUrl } from "@tallystick/server/testing/postgres";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cleanUp, run, type Settings, shell, start, temporaryDirectory } from "./cli.ts";

const name = `cli_${randomBytes(6).toString("hex")}`;
let cwd: string;
let url: URL;

async function asAdmin(...statements: string[]): Promise<void> {
  const client = new Client(adminUrl());
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

beforeAll(async () => {
  cwd = await temporaryDirectory();
  await asAdmin(`create database ${name}`, `create role ${name} login password '${name}'`);
  url = new URL(adminUrl());
  url.pathname = `/${name}`;
});
afterAll(async () => {
  await cleanUp();
  await asAdmin(`drop database ${name} with (force)`, `drop role ${name}`);
});

test("migrate, serve, verify and sql work on a PostgreSQL of the operator's", async () => {
  const settings: Settings = { DATABASE_URL: url.href, DATA_DIR: `${cwd}/data`, PORT: "0" };
  const before = await run(["migrate", "status"], settings, cwd);
  expect(before.stdout).toMatch(/^0001 +roles +pending$/m);
  expect(before.stdout).toContain('run "tallystick migrate up"');
  const unmigrated = await run(["verify"], settings, cwd);
  expect(unmigrated).toMatchObject({ code: 2, stdout: "" });
  expect(unmigrated.stderr).toContain("the database has no schema tallystick");
  expect((await run(["migrate", "up"], settings, cwd)).stdout).toContain("applied 0001 roles");
  const empty = await run(["verify"], settings, cwd);
  expect(empty.code).toBe(2);
  expect(empty.stderr).toContain("there is no log");

  const server = start(["serve"], settings, cwd);
  await server.said("verify-chain");
  for (const heading of ["Record a first event", "Verify it"]) {
    const lines = server.stdout.split("\n");
    const line = lines[lines.findIndex((text) => text.startsWith(heading)) + 1]!;
    expect(JSON.parse((await shell(line, cwd)).stdout)).not.toHaveProperty("detail");
  }
  server.child.kill("SIGTERM");
  expect((await server.ended).code).toBe(0);
  // The event, and that the server was asked to verify it; what is verified past the server is no entry.
  expect((await run(["verify"], settings, cwd)).stdout).toContain("All good: 2 logs, 2 entries.");
  const seen = await run(["sql", "--csv", "select current_user as who, count(*) as n from entries"], settings, cwd);
  expect(seen.stdout).toBe("who,n\ntallystick_auditor,2\n");
});

test("serve stops in time, whatever commit is under way", async () => {
  const settings = { DATABASE_URL: url.href, DATA_DIR: `${cwd}/data`, PORT: "0", SHUTDOWN_TIMEOUT_MS: "200" };
  const server = start(["serve"], settings, cwd);
  await server.said("Tallystick is ready at");
  const address = /ready at (http:\S+)/.exec(server.stdout)![1];
  const credentials = JSON.parse(await readFile(`${cwd}/data/credentials.json`, "utf8"));
  const holder = new Client(url.href);
  await holder.connect();
  await holder.query("begin; select from tallystick.logs for update");
  const request = fetch(`${address}/v1/logs`, {
    method: "POST",
    headers: { authorization: `Bearer ${credentials.api_key}`, "content-type": "application/json" },
    body: JSON.stringify({ action: "x", actor: { id: "alice" } }),
  }).catch(() => undefined);
  await expect
    .poll(async () => (await holder.query("select from pg_locks where not granted")).rowCount, { timeout: 10_000 })
    .toBeGreaterThan(0);
  const startedAt = performance.now();
  server.child.kill("SIGTERM");
  expect((await server.ended).code).toBe(0);
  expect(performance.now() - startedAt).toBeLessThan(4_000); // the commit waits for its lock for 5 s
  await holder.end();
  await request;
});

test("verify tells a role that sees only one tenant from a log whose entries are missing", async () => {
  await asAdmin(`grant tallystick_reader to ${name}`);
  const reader = new URL(url);
  reader.username = name;
  reader.password = name;
  const { code, stderr } = await run(["verify", "--database", reader.href], { DATA_DIR: `${cwd}/none` }, cwd);
  expect(code).toBe(2);
  expect(stderr).toContain(`the role "${name}" does not see every tenant's entries`);

  const sql = await run(["sql", "--database", reader.href, "select 1"], { DATA_DIR: `${cwd}/none` }, cwd);
  expect(sql.code).toBe(1);
  expect(sql.stderr).toContain("may not become tallystick_auditor");
});
