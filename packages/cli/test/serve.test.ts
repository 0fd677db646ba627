import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { cleanUp, type Program, run, type Settings, shell, start, temporaryDirectory } from "./cli.ts";

let cwd: string;
let settings: Settings;

beforeEach(async () => {
  cwd = await temporaryDirectory();
  settings = { DATA_DIR: join(cwd, "data"), PORT: "0" };
});
afterEach(cleanUp);

async function serve(more: Settings = {}): Promise<Program> {
  const program = start(["serve"], { ...settings, ...more }, cwd);
  await program.said("Tallystick is ready at");
  return program;
}

async function stop(program: Program) {
  program.child.kill("SIGTERM");
  return program.ended;
}

/** The line below the one that reads so. */
function lineAfter(output: string, heading: string): string {
  const lines = output.split("\n");
  return lines[lines.findIndex((line) => line.startsWith(heading)) + 1]!.trim();
}

describe("serve", () => {
  test("prints credentials and lines that work as pasted, at the first start only", async () => {
    const first = await serve();
    await first.said("verify\n");
    const credentials = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8")) as Record<
      string,
      string
    >;
    expect(first.stdout).toContain(`tenant       default`);
    expect(first.stdout).toContain(`admin token  ${credentials.admin_token}`);
    expect(first.stdout).toContain(`API key      ${credentials.api_key}`);
    expect((await stat(join(cwd, "data/credentials.json"))).mode & 0o777).toBe(0o600);

    const recorded = await shell(lineAfter(first.stdout, "Record a first event"), cwd);
    expect(JSON.parse(recorded.stdout)).toMatchObject({ seq: 0, duplicate: false });
    const listed = await shell(lineAfter(first.stdout, "List what is recorded"), cwd);
    expect(JSON.parse(listed.stdout)).toMatchObject({ data: [{ seq: 0, event: { action: "user.login" } }] });

    const firstEnd = await stop(first);
    expect(firstEnd.code).toBe(0);
    for (const line of firstEnd.stderr.trim().split("\n")) expect(() => JSON.parse(line) as unknown).not.toThrow();
    expect(firstEnd.stderr).not.toMatch(/tally_|tallyadmin_/);

    const second = await serve();
    const again = await shell(
      `curl -sS ${second.stdout.trim().split(" ").at(-1)}/v1/logs -H 'Authorization: Bearer ${credentials.api_key}'`,
      cwd,
    );
    // Newest first: what was read before is an entry by now.
    expect(JSON.parse(again.stdout)).toMatchObject({
      data: [{ event: { action: "tallystick.log.read" } }, { seq: 0 }],
    });
    const secondEnd = await stop(second);
    expect(secondEnd.code).toBe(0);
    expect(secondEnd.stdout).toMatch(/^Tallystick is ready at http:\/\/127\.0\.0\.1:\d+\n$/);
  });

  test("of an installation that has keys makes none on a new DATA_DIR, and says how to get one", async () => {
    const first = await serve();
    await first.said("verify\n");
    const { database_url } = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8"));
    const replica = {
      ...{ DATABASE_URL: database_url, PORT: "0", DATA_DIR: join(cwd, "replica") },
      ...{ LOG_KEY_PATH: join(cwd, "data/log-key.pem"), SIGN_LOCK_PATH: join(cwd, "data/sign-lock.db") },
    };
    const program = start(["serve"], replica, cwd);
    await program.said("Make one:");
    await program.said("write,read\n");
    expect(program.stdout).toContain("API key      none was made: tenant default has keys already");
    expect(program.stdout).toContain(`kept in ${join(cwd, "replica/credentials.json")}`);
    expect(program.stdout).not.toMatch(/tally_|tallyadmin_/);
    const args = lineAfter(program.stdout, "Make one:").split(" -- ")[1]!.split(" ");
    expect(await run(args, replica, cwd)).toMatchObject({ code: 0, stdout: expect.stringContaining("secret, shown") });
    await stop(program);
  });

  test("does not show secrets that the operator chose; its lines work all the same", async () => {
    const chosen = { API_KEY: "chosen-by-the-operator-1", ADMIN_TOKEN: "chosen-by-the-operator-2" };
    const program = await serve(chosen);
    await program.said("verify\n");
    const recorded = await shell(lineAfter(program.stdout, "Record a first event"), cwd);
    expect(JSON.parse(recorded.stdout)).toMatchObject({ seq: 0 });
    const { stdout, stderr } = await stop(program);
    expect(stdout + stderr).not.toContain("chosen-by-the-operator");
  });

  test("takes a repeated signal as the same request", async () => {
    const program = await serve();
    program.child.kill("SIGTERM");
    program.child.kill("SIGINT");
    program.child.kill("SIGTERM");
    expect((await program.ended).code).toBe(0);
  });

  test("starts on what a server left that was killed", async () => {
    const killed = await serve();
    killed.child.kill("SIGKILL");
    await killed.ended;
    expect((await stop(await serve())).code).toBe(0);
  });

  test("stops when it is told to while it starts", async () => {
    const program = start(["serve"], settings, cwd);
    await program.said("PostgreSQL");
    expect((await stop(program)).code).toBe(0);
  });

  describe("told to stop by a start that hangs", () => {
    const hang = `import fs, { promises } from "node:fs";
      import { syncBuiltinESMExports } from "node:module";
      promises.mkdir = () => new Promise(() => setInterval(() => {}, 1_000) && console.error("it hangs"));
      syncBuiltinESMExports();`;
    const NODE_OPTIONS = `--import data:text/javascript,${encodeURIComponent(hang)}`;

    test("ends at the second signal", async () => {
      const program = start(["serve"], { ...settings, NODE_OPTIONS }, cwd);
      await program.said("it hangs");
      const startedAt = performance.now();
      const again = setInterval(() => program.child.kill("SIGTERM"), 100);
      const { code, stderr } = await program.ended;
      clearInterval(again);
      expect(code).toBe(1);
      expect(stderr).toContain("stopped while starting");
      expect(performance.now() - startedAt).toBeLessThan(8_000);
    });

    test("ends 10 s after the first", async () => {
      const program = start(["serve"], { ...settings, NODE_OPTIONS }, cwd);
      await program.said("it hangs");
      expect((await stop(program)).code).toBe(1);
    });
  });

  test("after a first start that failed, is told the credentials by the first that listens", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const { port } = other.address() as { port: number };
    expect((await run(["serve"], { ...settings, PORT: String(port) }, cwd)).code).toBe(1);
    other.close();
    const program = await serve();
    await program.said("verify\n");
    const { admin_token } = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8"));
    expect(program.stdout).toContain(`admin token  ${admin_token}`);
    expect((await stop(program)).code).toBe(0);
  });

  test("ends with a stack after an error that nobody foresaw", async () => {
    const fault = 'process.on("SIGUSR2", () => { throw new Error("nobody foresaw this"); })';
    const program = await serve({ NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(fault)}` });
    program.child.kill("SIGUSR2");
    const { code, stderr } = await program.ended;
    expect(code).toBe(1);
    const last = JSON.parse(stderr.trim().split("\n").at(-1)!) as { level: string; err: { stack: string } };
    expect(last).toMatchObject({ level: "fatal", err: { message: "nobody foresaw this" } });
    expect(last.err.stack).toMatch(/^\s+at /m);
  });

  test("names the cure for a taken port, without a stack", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const { port } = other.address() as { port: number };
    try {
      const { code, stderr } = await run(["serve"], { ...settings, PORT: String(port) }, cwd);
      expect(code).toBe(1);
      expect(stderr).toContain(`tallystick: port ${port} is taken by another program`);
      expect(stderr).toContain(`PORT=${port + 1}`);
      expect(stderr).not.toMatch(/^\s+at /m);
    } finally {
      other.close();
    }
  });

  test("names the cure for a DATA_DIR that cannot be used, without a stack", async () => {
    for (const dataDir of ["/proc/tallystick", "/dev/null", "/dev/null/data"]) {
      const { code, stderr } = await run(["serve"], { ...settings, DATA_DIR: dataDir }, cwd);
      expect(code).toBe(1);
      expect(stderr).toContain(`tallystick: DATA_DIR ${dataDir} `);
      expect(stderr).toContain("set DATA_DIR to another place");
      expect(stderr).not.toMatch(/^\s+at /m);
    }
  });

  test("refuses settings that cannot be used, without a stack", async () => {
    const { code, stderr } = await run(["serve"], { ...settings, PORT: "http" }, cwd);
    expect(code).toBe(1);
    expect(stderr).toContain("PORT");
    expect(stderr).not.toMatch(/^\s+at /m);
  });
});
