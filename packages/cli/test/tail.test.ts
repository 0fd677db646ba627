/**
 * `tallystick tail`: the program as its users run it, while the server is killed under it.
 */
import { TestDatabase } from "@tallystick/server/testing/log";
import { databaseSettings, startTestServer, stopTestServers, type TestServer } from "@tallystick/server/testing/server";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { cleanUp, type Program, run, start, temporaryDirectory } from "./cli.ts";

let database: TestDatabase;
let server: TestServer;
let directory: string;
let settings: Record<string, string>;
const programs: Program[] = [];

beforeAll(async () => {
  database = await TestDatabase.create();
  server = await startTestServer(databaseSettings(database));
  directory = await temporaryDirectory();
  settings = { TALLYSTICK_URL: server.url, API_KEY: server.credentials.api_key, DATA_DIR: directory };
});
afterEach(async () => {
  for (const program of programs.splice(0)) {
    program.child.kill("SIGKILL");
    await program.ended;
  }
});
afterAll(async () => {
  await cleanUp();
  await stopTestServers();
  await database.close();
});

function tail(...args: string[]): Program {
  const program = start(["tail", ...args], settings, directory);
  programs.push(program);
  return program;
}

const event = (n: number, more: object = {}) => ({ action: `a.${n % 3}`, actor: { id: `u-${n}` }, ...more });

/** Entries that a program has printed as JSON, lines that are not whole yet left out. */
function printed({ stdout }: Program): { seq: number; event: { action: string } }[] {
  return stdout
    .slice(0, stdout.lastIndexOf("\n") + 1)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

test("the newest that match, oldest first, and no colour where it is no terminal", async () => {
  await server.api.recordAll(Array.from({ length: 9 }, (_, n) => event(n)));
  await server.api.record(event(1, { outcome: "denied", resource: { type: "order", id: "\u001b[31mo-17" } }));
  const { code, stdout, stderr } = await run(["tail", "-n", "3", "action:a.1"], settings, directory);
  expect([code, stderr]).toEqual([0, ""]);
  const lines = stdout.trimEnd().split("\n");
  expect(lines.map((line) => line.split(/\s+/)[1])).toEqual(["u-4", "u-7", "u-1"]);
  expect(lines[2]).toMatch(/a\.1 +order:\\u001b\[31mo-17 +denied$/);
  expect(stdout).not.toContain("\u001b");
  const coloured = await run(["tail", "-n", "1", "action:a.1"], { ...settings, FORCE_COLOR: "1" }, directory);
  expect(coloured.stdout).toContain("\u001b[33mdenied");
  const all = await run(["tail", "--since-seq", "0", "--json", "action:a.1"], settings, directory);
  expect(all.stdout.trimEnd().split("\n")).toHaveLength(4);
});

test("a server that is killed under it: it goes on at the next one, nothing left out and nothing twice", async () => {
  const program = tail("-f", "--json", "--since-seq", "0", "--action", "a.1");
  let writing = true;
  let sent = 0;
  const writer = (async () => {
    while (writing) {
      // What a killed server has not answered may be recorded or not: the log says so in the end.
      await server.api.recordAll([0, 1, 2].map((n) => event(n))).then(
        () => sent++,
        () => new Promise((resolve) => setImmediate(resolve)),
      );
    }
  })();
  for (let kills = 0; kills < 2; kills++) {
    const before = printed(program).length;
    while (printed(program).length < before + 10)
      await new Promise((resolve) => program.child.stdout!.once("data", resolve));
    const { port } = new URL(server.url);
    await server.kill();
    server = await startTestServer({ ...databaseSettings(database), PORT: port, API_KEY: settings.API_KEY! });
  }
  writing = false;
  await writer;
  expect(sent).toBeGreaterThan(10);
  const listed = await server.api.listAll({ action: "a.1", order: "asc", limit: "1000" });
  while (printed(program).length < listed.length)
    await new Promise((resolve) => program.child.stdout!.once("data", resolve));
  expect(printed(program)).toEqual(listed);
  expect(program.stderr).toContain("trying again");
  expect(program.stderr).toContain("connected again");
});

test("what the server refuses for good ends it, in the server's words", async () => {
  const revoked = await database.newKey("default", { name: "revoked" });
  const wrong = await run(["tail", "-f", "created:never"], settings, directory);
  expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining("q ")]);
  const beyond = await run(["tail", "-f", "--since-seq", "99999999"], settings, directory);
  expect([beyond.code, beyond.stderr]).toEqual([1, expect.stringContaining("since_seq must be at most")]);
  const number = await run(["tail", "-n", "many"], settings, directory);
  expect([number.code, number.stderr]).toEqual([1, expect.stringContaining("--lines many is no whole number")]);
  const nowhere = await run(["tail", "-f"], { ...settings, TALLYSTICK_URL: "http://127.0.0.1:1" }, directory);
  expect([nowhere.code, nowhere.stderr]).toEqual([1, expect.stringContaining("no server answers")]);
  await database.superuser.query("update tallystick.api_keys set revoked_at = now() where name = 'revoked'");
  const ended = await run(["tail", "-f", "--api-key", revoked], settings, directory);
  expect([ended.code, ended.stderr]).toEqual([1, expect.stringContaining("revoked")]);
});
