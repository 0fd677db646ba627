import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cleanUp, type Program, run, type Settings, start, temporaryDirectory } from "./cli.ts";

let cwd: string;
let settings: Settings;
let server: Program;
let credentials: { url: string; api_key: string; admin_token: string; database_url: string };
let victim: { id: string; seq: number };

const verify = (...args: string[]) => run(["verify", ...args], settings, cwd);

beforeAll(async () => {
  cwd = await temporaryDirectory();
  settings = { DATA_DIR: join(cwd, "data"), PORT: "0" };
  server = start(["serve"], settings, cwd);
  await server.said("Tallystick is ready at");
  credentials = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8")) as typeof credentials;
  const heads: { id: string; seq: number }[] = [];
  for (const amount of [100, 200, 300, 400]) {
    const response = await fetch(`${credentials.url}/v1/logs`, {
      method: "POST",
      headers: { authorization: `Bearer ${credentials.api_key}`, "content-type": "application/json" },
      body: JSON.stringify({
        action: "payment.send",
        actor: { id: "bob" },
        metadata: { amount },
        service_id: "orders",
      }),
    });
    heads.push((await response.json()) as { id: string; seq: number });
  }
  victim = heads[1]!;
});
afterAll(cleanUp);

/** What a superuser can do who switches the protection off and on again. */
async function changeLeaf(from: string, to: string): Promise<void> {
  const client = new Client(credentials.database_url);
  await client.connect();
  try {
    const { rows } = await client.query<{ partition: string }>(
      "select tableoid::regclass::text as partition from tallystick.entries where id = $1",
      [victim.id],
    );
    const { partition } = rows[0]!;
    await client.query(`begin; alter table ${partition} disable trigger user;
      update ${partition} set leaf = replace(leaf, '${from}', '${to}') where id = '${victim.id}'`);
    const { rows: triggers } = await client.query<{ name: string }>(
      "select quote_ident(tgname) as name from pg_trigger where tgrelid = $1::regclass and not tgisinternal",
      [partition],
    );
    for (const { name } of triggers) await client.query(`alter table ${partition} enable always trigger ${name}`);
    await client.query("commit");
  } finally {
    await client.end();
  }
}

/** The log without an entry, as long as `work` runs. */
async function withoutEntry<T>(work: () => Promise<T>): Promise<T> {
  const client = new Client(credentials.database_url);
  await client.connect();
  try {
    const { rows } = await client.query<{ partition: string }>(
      "select tableoid::regclass::text as partition from tallystick.entries where id = $1",
      [victim.id],
    );
    const { partition } = rows[0]!;
    await client.query(`begin; create temporary table kept as select * from ${partition} where id = '${victim.id}';
      alter table ${partition} disable trigger user; delete from ${partition} where id = '${victim.id}'; commit`);
    try {
      return await work();
    } finally {
      const { rows: triggers } = await client.query<{ name: string }>(
        "select quote_ident(tgname) as name from pg_trigger where tgrelid = $1::regclass and not tgisinternal",
        [partition],
      );
      await client.query(`insert into ${partition} select * from kept`);
      for (const { name } of triggers) await client.query(`alter table ${partition} enable always trigger ${name}`);
    }
  } finally {
    await client.end();
  }
}

describe("verify", () => {
  test("exits with 0 on a good log, from the database, a URL, and a server", async () => {
    for (const [logs, ...args] of [
      ["2 logs"],
      ["2 logs", "--database", credentials.database_url],
      ["1 log", "--server", credentials.url], // the tenant's
    ]) {
      const { code, stdout, stderr } = await verify(...args);
      expect(stderr).toBe("");
      expect(stdout).toMatch(/^good {2}.+\/default {2}4 of 4 entries checked\n/);
      expect(stdout).toContain(`All good: ${logs}, 4 entries.`);
      expect(code).toBe(0);
    }
    expect((await verify("--tenant", "default", "--service", "orders")).code).toBe(0);
  });

  test("exits with 2 on a service that nobody has recorded for: a typo is no clean bill", async () => {
    for (const args of [[], ["--server", credentials.url]]) {
      const { code, stderr } = await verify("--service", "ordres", ...args);
      expect(stderr).toContain("ordres");
      expect(code).toBe(2);
    }
  });

  test("exits with 1 and names the entry, what is stored and what was recorded, when one byte was changed", async () => {
    await changeLeaf('"amount":200', '"amount":900');
    try {
      const { code, stdout } = await verify();
      expect(code).toBe(1);
      expect(stdout).toMatch(/^BAD {3}.+\/default/);
      expect(stdout).toContain(`tenant default, seq ${victim.seq}, id ${victim.id}`);
      expect(stdout).toContain("TAMPERING FOUND in 1 of 2 logs.");

      const command = /see it: (tallystick|npm run -s tallystick --) sql "(.*)"$/m.exec(stdout)?.[2];
      const seen = await run(["sql", command!], settings, cwd);
      expect(seen.stdout).toContain('"amount":900');

      const asJson = await verify("--json");
      expect(asJson.code).toBe(1);
      const reports = JSON.parse(asJson.stdout) as { ok: boolean; problems: { seq: number; id: string }[] }[];
      expect(reports[0]!.ok).toBe(false);
      for (const problem of reports[0]!.problems) expect(problem).toMatchObject({ seq: victim.seq, id: victim.id });

      const atServer = await verify("--server", credentials.url, "--api-key", credentials.api_key);
      expect(atServer.code).toBe(1);
      expect(atServer.stdout).toContain(victim.id);
    } finally {
      await changeLeaf('"amount":900', '"amount":200');
    }
    expect((await verify()).code).toBe(0);
  });

  test("says for what is not there what to run next, and that runs", async () => {
    const { stdout } = await withoutEntry(async () => {
      const atServer = await verify("--server", credentials.url, "--api-key", credentials.api_key);
      expect(atServer.code).toBe(1);
      expect(atServer.stdout).toMatch(/see it: .* verify --database .* --tenant default/);
      const here = await verify();
      const command = /missing \(seq\)[\s\S]*?see it: (?:tallystick|npm run -s tallystick --) sql "(.*)"$/m.exec(
        here.stdout,
      )?.[1];
      const seen = await run(["sql", "--json", command!], settings, cwd);
      expect(JSON.parse(seen.stdout)).toMatchObject([{ tenant: "default", seq: victim.seq, field: "seq" }]);
      return here;
    });
    expect(stdout).toContain(`tenant default, seq ${victim.seq}`);
    // Each problem has its command, once an entry.
    const named = stdout.match(/^ {4}tenant /gm)!.length;
    expect(stdout.match(/^ {8}see it: /gm)).toHaveLength(named);
    expect((await verify()).code).toBe(0);
  });

  test("waits for a server whose verification takes long", async () => {
    const blocker = new Client(credentials.database_url);
    await blocker.connect();
    try {
      await blocker.query("begin; lock table tallystick.tiles in access exclusive mode");
      const program = start(["verify", "--server", credentials.url], settings, cwd);
      // Beyond the seconds that the first request waits: from then on it asks for the job.
      const watcher = new Client(credentials.database_url);
      await watcher.connect();
      const late =
        "select from tallystick.verifications where started_at < clock_timestamp() - interval '3 s' and finished_at is null";
      while ((await watcher.query(late)).rowCount === 0) await new Promise((resolve) => setTimeout(resolve, 20));
      await watcher.end();
      await blocker.query("rollback");
      expect(await program.ended).toMatchObject({ code: 0 });
    } finally {
      await blocker.end();
    }
  });

  test("exits with 2 where it could not check", async () => {
    const unreachable = await verify("--database", "postgres://nobody@127.0.0.1:9/nothing");
    expect(unreachable).toMatchObject({ code: 2, stdout: "" });
    expect(unreachable.stderr).toContain("could not check: PostgreSQL cannot be reached");
    expect((await verify("--tenant", "nobody")).code).toBe(2);
    expect((await verify("--server", "http://127.0.0.1:9", "--api-key", "x")).code).toBe(2);
    expect((await verify("--server", credentials.url, "--api-key", "tally_wrong")).code).toBe(2);
    expect((await verify("--no-such-option")).code).toBe(2);
    const empty = await run(["verify"], { DATA_DIR: join(cwd, "nothing-here") }, cwd);
    expect(empty.code).toBe(2);
    expect(empty.stderr).toContain("there is no data in");
  });

  test("works while the server is down", async () => {
    server.child.kill("SIGTERM");
    expect((await server.ended).code).toBe(0);
    expect((await verify()).code).toBe(0);
  });
});
