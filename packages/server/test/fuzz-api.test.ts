/**
 * A fuzzer that reads OpenAPI (schemathesis) asks every operation for what it should and should not take: nothing is answered
 * with 500, and no answer is another than openapi.json says. TALLYSTICK_FUZZ_EXAMPLES=1000 makes a long campaign of it.
 */
import { execFile, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkLog, TestDatabase } from "../src/testing/log.ts";
import { skipWithout } from "../src/testing/needed.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer } from "../src/testing/server.ts";

const run = promisify(execFile);
const SOURCE = fileURLToPath(new URL("./schemathesis", import.meta.url));
const VENV = fileURLToPath(new URL("../../../node_modules/.cache/schemathesis", import.meta.url));
/** The same each time, so that a run that passed passes again; the campaign takes others. */
const SEED = Number(process.env.TALLYSTICK_TEST_SEED ?? 20261122);
const EXAMPLES = Number(process.env.TALLYSTICK_FUZZ_EXAMPLES ?? 10);
const TIMEOUT_MS = 240_000 + EXAMPLES * 10_000;

/** Installed once into node_modules; undefined where there is no Python, or no way to the package. */
function schemathesis(): string | undefined {
  const program = join(VENV, "bin", "schemathesis");
  const works = () => existsSync(program) && spawnSync(program, ["--version"]).status === 0;
  if (works()) return program;
  for (const [command, ...args] of [
    ["python3", "-m", "venv", "--clear", VENV],
    [join(VENV, "bin", "pip"), "install", "--quiet", "--requirement", join(SOURCE, "requirements.txt")],
  ]) {
    if (spawnSync(command!, args, { timeout: 180_000 }).status !== 0) return undefined;
  }
  return works() ? program : undefined;
}

const PROGRAM = schemathesis();

let database: TestDatabase;
let server: TestServer;
/** Where schemathesis keeps what it has seen. */
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "tallystick-fuzz-"));
  database = await TestDatabase.create();
  server = await startTestServer(databaseSettings(database));
  await server.api.record({ action: "a.b", actor: { id: "alice", name: "Alice" }, context: { ip: "192.0.2.1" } });
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
  await rm(directory, { recursive: true });
});

describe.skipIf(skipWithout("Python's package schemathesis", PROGRAM))(
  `every operation of openapi.json (seed ${SEED})`,
  () => {
    test.each(["the operator", "an API key", "nobody"])("asked by %s", { timeout: TIMEOUT_MS }, async (who) => {
      const { admin_token, api_key } = server.credentials;
      const header =
        who === "nobody"
          ? []
          : ["-H", who === "an API key" ? `X-API-Key: ${api_key}` : `X-Admin-Token: ${admin_token}`];
      const args = [
        ...[
          "--config-file",
          join(SOURCE, "schemathesis.toml"),
          "run",
          `${server.url}/openapi.json`,
          "--url",
          server.url,
        ],
        // What is well-formed may still be refused: a time that is past, a key that is none. Schemas cannot say so.
        ...["--checks", "all", "--exclude-checks", "positive_data_acceptance", "--continue-on-failure", "--no-shrink"],
        ...["--seed", String(SEED), "--max-examples", String(EXAMPLES), "--warnings", "off", ...header],
      ];
      const { stdout } = await run(PROGRAM!, args, { maxBuffer: 2 ** 26, cwd: directory }).catch(
        (error: { stdout?: string }) => ({ stdout: `failed\n${error.stdout ?? error}` }),
      );
      expect(stdout.startsWith("failed"), stdout.slice(0, 20_000)).toBe(false);
      expect(stdout).toMatch(/Tested: \d+/);
      expect(server.said).not.toMatch(/"level":50/);
    });

    test("has left the log what it says it is", async () => {
      const log = (await database.tenants.find("default"))!;
      await checkLog(database.database, log);
    });
  },
);
