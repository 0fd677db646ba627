import { createPrivateKey } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { signCheckpoint } from "@tallystick/core/checkpoint";
import { noteSigner } from "@tallystick/core/verifier-key";
import { envExample } from "@tallystick/server/config";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cleanUp, type Program, run, type Settings, start, temporaryDirectory } from "./cli.ts";

let cwd: string;
let settings: Settings;
let server: Program;
let credentials: { url: string; admin_token: string; api_key: string; database_url: string };

const cli = (args: readonly string[], stdin?: string) => run(args, settings, cwd, stdin);

async function json<T = Record<string, unknown>>(args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await cli([...args, "--json"]);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as T;
}

async function record(key: string, event: object) {
  const response = await fetch(`${credentials.url}/v1/logs`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify(event),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

beforeAll(async () => {
  cwd = await temporaryDirectory();
  settings = { DATA_DIR: join(cwd, "data"), PORT: "0" };
  server = start(["serve"], settings, cwd);
  await server.said("Tallystick is ready at");
  credentials = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8")) as typeof credentials;
  await record(credentials.api_key, { action: "user.login", actor: { id: "alice" } });
  await record(credentials.api_key, { action: "user.logout", actor: { id: "alice" } });
});
afterAll(cleanUp);

describe("the program", () => {
  test("says what it is, and refuses a command that it has not with 2", async () => {
    expect((await cli(["--version"])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const help = await cli(["--help"]);
    expect(help.code).toBe(0);
    for (const command of [
      "serve",
      "migrate",
      "verify",
      "demo",
      "sql",
      "log",
      "tenants",
      "api-keys",
      "certificates",
      "config",
    ]) {
      expect(help.stdout).toMatch(new RegExp(`^  ${command}\\b`, "m"));
      const { code, stdout } = await cli([command, "--help"]);
      expect(code).toBe(0);
      expect(stdout).toContain("$ ");
    }
    const unknown = await cli(["verfy"]);
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toContain("verify");
  });
});

describe("tenants", () => {
  test("are made, listed, suspended, reactivated and renamed", async () => {
    const made = await json(["tenants", "create", "acme", "--name", "Acme Ltd"]);
    expect(made).toMatchObject({ slug: "acme", name: "Acme Ltd", status: "active" });
    expect(await json(["tenants", "suspend", "acme"])).toMatchObject({ status: "suspended" });
    expect(await json(["tenants", "reactivate", String(made.id)])).toMatchObject({ status: "active" });
    expect(await json(["tenants", "rename", "acme", "Acme & Co"])).toMatchObject({ name: "Acme & Co", slug: "acme" });
    expect(await json(["tenants", "show", "acme"])).toMatchObject({ id: made.id, name: "Acme & Co" });
    const { stdout } = await cli(["tenants", "list"]);
    expect(stdout).toMatch(/^slug +status +name/);
    expect(stdout).toMatch(/^acme +active +Acme & Co/m);
  });

  test("are limited, and shown with their limits", async () => {
    const { id } = await json<{ id: string }>(["tenants", "create", "limited"]);
    const limit = (...args: readonly string[]) => json(["tenants", "limit", "limited", ...args]);
    expect(await limit("--requests", "60000", "--credential-requests", "0")).toMatchObject({
      settings: { rate_limit_requests: 60_000, credential_rate_limit_requests: 0 },
    });
    expect((await cli(["tenants", "show", "limited"])).stdout).toMatch(/^limited +active +limited +60000 +no limit +/m);
    expect(await limit("--requests", "5")).toMatchObject({
      settings: { rate_limit_requests: 5, credential_rate_limit_requests: 0 },
    });
    expect(await limit("--default")).toMatchObject({ id, settings: {} });
    expect((await cli(["tenants", "list"])).stdout).toMatch(/^limited +active +limited +default +default +/m);
    for (const wrong of [[], ["--default", "--requests", "1"]]) {
      const { code, stderr } = await cli(["tenants", "limit", "limited", ...wrong]);
      expect([code, stderr]).toEqual([1, expect.stringContaining("say what the limit is: --requests")]);
    }
    const many = await cli(["tenants", "limit", "limited", "--requests", "many"]);
    expect([many.code, many.stderr]).toEqual([2, expect.stringContaining("a whole number from 0")]);
  });

  test("what the server refuses is told in its words, with 1", async () => {
    const { code, stderr } = await cli(["tenants", "show", "nobody"]);
    expect(code).toBe(1);
    expect(stderr).toBe('tallystick: There is no tenant "nobody". (404)\n');
  });

  test("credentials of this server are not sent to another", async () => {
    const { code, stderr } = await cli(["tenants", "list", "--server", "http://127.0.0.1:9"]);
    expect(code).toBe(1);
    expect(stderr).toContain("there is no admin token for http://127.0.0.1:9");
  });
});

describe("api-keys", () => {
  test("are made, listed and revoked; the secret is shown once", async () => {
    const made = await json<{ id: string; secret: string }>([
      ...["api-keys", "create", "--name", "orders", "--scopes", "write,read", "--service", "orders"],
    ]);
    expect((await record(made.secret, { action: "order.create", actor: { id: "bob" } })).status).toBe(201);
    const listed = await cli(["api-keys", "list"]);
    expect(listed.stdout).toContain(made.id);
    expect(listed.stdout).not.toContain(made.secret);
    expect(await json(["api-keys", "revoke", made.id])).toMatchObject({ id: made.id, revoked_at: expect.any(String) });
    const withKey = await cli(["api-keys", "list", "--api-key", credentials.api_key]);
    expect(withKey.stdout).toContain(made.id);
    const refused = await cli(["api-keys", "list", "--api-key", made.secret]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("The API key is revoked: use another. (401)");
  });

  test("one that acts across tenants is the operator's own", async () => {
    const args = ["api-keys", "create", "--name", "ops", "--scopes", "operator"];
    const refused = await cli(args);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("_operator");
    expect(await json([...args, "--tenant", "_operator"])).toMatchObject({ scopes: ["operator"] });
  });

  test("a scope that there is not is named", async () => {
    const { code, stderr } = await cli(["api-keys", "create", "--name", "x", "--scopes", "write,fly"]);
    expect(code).toBe(1);
    expect(stderr).toContain("scopes");
  });
});

describe("sql", () => {
  test("prints a table, JSON or CSV", async () => {
    const query = "select seq, action, null as nothing from entries where action like 'user.%' order by seq limit 2";
    expect((await cli(["sql", query])).stdout).toBe(
      "seq  action       nothing\n---  -----------  -------\n0    user.login\n1    user.logout\n(2 rows)\n",
    );
    expect(await json(["sql", query])).toEqual([
      { seq: 0, action: "user.login", nothing: null },
      { seq: 1, action: "user.logout", nothing: null },
    ]);
    expect((await cli(["sql", "--csv", query])).stdout).toBe("seq,action,nothing\n0,user.login,\n1,user.logout,\n");
    expect((await cli(["sql"], "select 1 as a; select 2 as b;")).stdout).toBe("a\n-\n1\n(1 row)\nb\n-\n2\n(1 row)\n");
    expect((await cli(["sql", "\\d entries"])).stdout).toMatch(/^leaf_hash +bytea +not null/m);
  });

  test("has the rights of its role", async () => {
    const count = ["select count(*)::int as n from entries"];
    expect(await json(["sql", ...count, "--role", "reader"])).toEqual([{ n: 0 }]);
    const seen = await json<{ n: number }[]>(["sql", ...count, "--role", "reader", "--tenant", "default"]);
    expect(seen[0]!.n).toBeGreaterThanOrEqual(2);
    const denied = await cli(["sql", "delete from entries"]);
    expect(denied.code).toBe(1);
    expect(denied.stderr).toContain("permission denied");
    const refused = await cli(["sql", "--role", "admin", "delete from entries"]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("tallystick: delete on tallystick.entries is refused");
    expect((await cli(["sql", "select 1", "--tenant", "nobody"])).stderr).toContain('there is no tenant "nobody"');
  });

  test("points at what PostgreSQL does not understand", async () => {
    const { code, stderr } = await cli(["sql", "select seq,\n  fo from entries"]);
    expect(code).toBe(1);
    expect(stderr).toContain('column "fo" does not exist\n    fo from entries\n    ^');
  });

  test("shows what would move a terminal's cursor", async () => {
    const { stdout } = await cli(["sql", "select E'\\x1b[2J\\n' as v"]);
    expect(stdout).toContain("\\u001b[2J\\n");
  });
});

describe("config", () => {
  test("shows every setting with its source, and no secret", async () => {
    const { code, stdout } = await run(["config"], { ...settings, ADMIN_TOKEN: "not-to-be-seen-anywhere" }, cwd);
    expect(code).toBe(0);
    expect(stdout).toContain("PORT = 0   [from environment; default 8000]");
    expect(stdout).toContain("ADMIN_TOKEN = ********");
    expect(stdout).not.toContain("not-to-be-seen-anywhere");
    const rows = await json<{ name: string; unit: string }[]>(["config"]);
    expect(rows.find(({ name }) => name === "SHUTDOWN_TIMEOUT_MS")).toMatchObject({ unit: "ms", source: "default" });
    expect((await cli(["config", "--env-example"])).stdout).toBe(envExample());
  });

  test("names everything that is wrong", async () => {
    const { code, stderr } = await run(["config"], { ...settings, PORT: "x", LOG_LEVEL: "LOUD" }, cwd);
    expect(code).toBe(1);
    expect(stderr).toContain("PORT");
    expect(stderr).toContain("LOG_LEVEL");
  });
});

describe("migrate", () => {
  test("status and history show what is applied; up has nothing left to do", async () => {
    const status = await json<{ up_to_date: boolean; migrations: { version: number }[] }>(["migrate", "status"]);
    expect(status.up_to_date).toBe(true);
    expect(status.migrations[0]).toMatchObject({ version: 1, name: "roles" });
    expect((await cli(["migrate", "status"])).stdout).toMatch(/^0001 +roles +\d{4}-/m);
    expect((await cli(["migrate", "history"])).stdout).toMatch(/^0001 +roles .* postgres /m);
    expect((await cli(["migrate", "up"])).stdout).toBe("The schema is up to date; nothing was applied.\n");
  });
});

describe("log", () => {
  test("shows what is signed, and proves that the log only grew since a checkpoint that was kept", async () => {
    const key = (await cli(["log", "vkey"])).stdout.trim();
    const file = join(cwd, "kept.checkpoint");
    const check = ["log", "check", file, "--key", key];
    expect(await cli(check)).toMatchObject({ code: 0, stdout: expect.stringMatching(/default at size \d+: kept/) });
    const kept = await readFile(file, "utf8");
    await record(credentials.api_key, { action: "user.login", actor: { id: "bob" } });
    const size = Number(kept.split("\n")[1]);
    for (;;) {
      const { code, stdout } = await cli(["log", "checkpoint"]);
      expect(code).toBe(0);
      if (Number(stdout.split("\n")[1]) > size) break;
    }
    expect(await json(check)).toMatchObject({ ok: true, kept: size });
    const newest = await readFile(file, "utf8");
    expect(newest).not.toBe(kept);

    // Another history, signed by the same key: what a stolen key could make.
    const lines = newest.split("\n");
    const seed = createPrivateKey(await readFile(join(cwd, "data/log-key.pem"), "utf8")).export({ format: "jwk" }).d!;
    const forged = signCheckpoint({ origin: lines[0]!, size: Number(lines[1]), root: new Uint8Array(32).fill(7) }, [
      noteSigner(lines[0]!, Buffer.from(seed, "base64url")),
    ]);
    await writeFile(file, forged);
    expect(await cli(check)).toMatchObject({ code: 1, stdout: expect.stringContaining("history was changed") });
    expect(await readFile(file, "utf8")).toBe(forged);
    expect(await cli(["log", "check", file, "--key", "rubbish"])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("a verifier key is"),
    });
  });

  test("shows the witnesses, of which there are none here, and so no cosigned checkpoint", async () => {
    expect(await json(["log", "witnesses"])).toEqual([]);
    expect(await cli(["log", "checkpoint", "--cosigned", "1"])).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringContaining("No checkpoint was kept that 1 or more witnesses have cosigned"),
    });
  });

  test("opens a successor, with a reason", async () => {
    await json(["tenants", "create", "short-lived"]);
    expect((await cli(["log", "succeed", "--tenant", "short-lived"])).code).toBe(2);
    const { code, stdout } = await cli([
      "log",
      "succeed",
      "--tenant",
      "short-lived",
      "--reason",
      "a new start",
      "--force",
    ]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/short-lived\.2 succeeds .*short-lived; its first entry is/);
    expect((await cli(["log", "list", "--tenant", "short-lived"])).stdout).toMatch(/short-lived\.2\s+1\s+(1\s+)?yes/);
  });
});
