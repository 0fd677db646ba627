/** The commands of docs/trust.md and docs/evidence.md, as they stand there, against a real server. */
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer } from "../src/testing/server.ts";

const MISSING = ["curl", "openssl", "python3"].filter((tool) => spawnSync(tool, ["--version"]).error !== undefined);

let database: TestDatabase;
let server: TestServer;
let directory: string;

beforeAll(async () => {
  database = await TestDatabase.create();
  server = await startTestServer(databaseSettings(database));
  directory = await mkdtemp(join(tmpdir(), "tallystick-trust-"));
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
  await rm(directory, { recursive: true, force: true });
});

test.skipIf(MISSING.length > 0)("docs/trust.md: checkpoint, receipt and consistency by hand", async () => {
  await server.api.recordAll(Array.from({ length: 300 }, (_, i) => ({ action: "a.b", actor: { id: `u-${i}` } })));
  const { id, seq } = await server.api.record({ action: "user.login", actor: { id: "u", name: "Änne" } });
  await server.api.recordAll(Array.from({ length: 21 }, (_, i) => ({ action: "a.b", actor: { id: `u-${i}` } })));
  const page = await readFile(new URL("../../../docs/trust.md", import.meta.url), "utf8");
  const blocks = [...page.matchAll(/```sh\n(.*?)```/gs)].map(([, block]) => block!);
  expect(blocks.length).toBe(3);
  const env = { PATH: process.env.PATH, URL: server.url, API_KEY: server.credentials.api_key, ID: id };
  const [signature, inclusion, consistency] = blocks.map((block) => {
    const { status, stdout, stderr } = spawnSync("sh", ["-eu", "-c", block], { cwd: directory, env, encoding: "utf8" });
    expect({ status, stderr }, block).toMatchObject({ status: 0 });
    return stdout;
  });
  expect(signature).toContain("Signature Verified Successfully");
  expect(inclusion).toMatch(new RegExp(`/event/actor/name is "Änne"\nentry ${seq} is in .* at size \\d+`));
  expect(JSON.parse(consistency!)).toMatchObject({ from: { size: 0 } });
});

test.skipIf(MISSING.length > 0)("docs/evidence.md: a range by hand", async () => {
  const events = Array.from({ length: 50 }, (_, i) => ({
    action: "a.b",
    actor: { id: `u-${i}`, name: `Änne <${i}>` },
  }));
  await server.api.recordAll(events);
  const page = await readFile(new URL("../../../docs/evidence.md", import.meta.url), "utf8");
  const [block] = /(?<=```sh\n).*?(?=```)/s.exec(page)!;
  const run = () => spawnSync("sh", ["-eu", "-c", block], { cwd: directory, encoding: "utf8" });
  for (const range of ["", "&from_seq=7&to_seq=31", "&from_seq=40"]) {
    const { text } = await server.api.get(`/v1/logs/export?format=evidence${range}`);
    await writeFile(join(directory, "all.evidence.ndjson"), text);
    const good = run();
    expect(good, good.stderr).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^entries \d+ to \d+ of .*, none missing\n$/),
    });
    await writeFile(join(directory, "all.evidence.ndjson"), text.replace("a.b", "a.c"));
    expect(run().status).toBe(1);
  }
});
