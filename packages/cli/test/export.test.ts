/** CSV and NDJSON from the command line, their check, and searches. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cleanUp, run, type Settings, start, temporaryDirectory } from "./cli.ts";

let cwd: string;
/** Where there is no server, no database and no data. */
let elsewhere: string;
let settings: Settings;
let key: string;

beforeAll(async () => {
  cwd = await temporaryDirectory();
  elsewhere = await temporaryDirectory();
  settings = { DATA_DIR: join(cwd, "data"), PORT: "0", RECORD_READS: "false" };
  await start(["serve"], settings, cwd).said("Tallystick is ready at");
  const { url, api_key } = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8")) as Record<
    string,
    string
  >;
  const headers = { authorization: `Bearer ${api_key}`, "content-type": "application/json" };
  const events = Array.from({ length: 60 }, (_, i) => ({
    action: i % 2 === 0 ? "payment.send" : "user.login",
    actor: { id: `u-${i}`, name: `Name ${i}`, ...(i === 5 && { type: "agent", on_behalf_of: { id: "alice" } }) },
    resource: { type: "order", ...(i > 0 && { id: `o-${i}` }) },
    ...(i % 3 === 0 && { outcome: "failure" }),
    metadata: { n: i },
  }));
  await fetch(`${url}/v1/logs/bulk`, { method: "POST", headers, body: JSON.stringify({ events }) });
  key = (await run(["log", "vkey"], settings, cwd)).stdout.trim();
});
afterAll(cleanUp);

const tallystick = (...args: string[]) => run(args, settings, cwd);
const verify = (...args: string[]) => run(["verify", ...args], { DATA_DIR: join(elsewhere, "none") }, elsewhere);

async function put(name: string, bytes: string | Uint8Array): Promise<string> {
  await writeFile(join(elsewhere, name), bytes);
  return name;
}

/** What the server gives, brought to where there is none. */
async function exported(name: string, ...args: string[]): Promise<Buffer> {
  const { code, stderr } = await tallystick("export", "-o", name, "--force", "--to-seq", "60", ...args);
  expect(stderr).toBe("");
  expect(code).toBe(0);
  const bytes = await readFile(join(cwd, name));
  await put(name, bytes);
  return bytes;
}

describe("export", () => {
  test("writes CSV with the columns that are chosen, and says what it wrote", async () => {
    const { code, stdout, stderr } = await tallystick(
      ...["export", "--format", "csv", "-o", "some.csv", "--columns", "seq,actor_id,metadata.n", "--to-seq", "60"],
      ...["--actor-id", "u-7", "--actor-id", "u-8", "--action", "user.*", "actor:u-7,u-9", "-o", "some.csv"],
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(
      /^some\.csv: 1 entry of .+\/default, out of positions 0 to 59 \(0\.0 MB\)\ntaken at the checkpoint/,
    );
    expect(stdout).toMatch(/verify some\.csv\n/);
    const text = await readFile(join(cwd, "some.csv"), "utf8");
    expect(text).toMatch(/^seq,actor_id,metadata\.n\r\n7,u-7,7\r\n"#manifest /);
    const again = await tallystick("export", "--format", "csv", "-o", "some.csv");
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining("say --force")]);
  });

  test("writes NDJSON, compressed where it is to be", async () => {
    const plain = (await exported("all.ndjson", "--format", "ndjson")).toString();
    expect(plain.trimEnd().split("\n")).toHaveLength(61);
    const zipped = gunzipSync(await exported("all.ndjson.gz", "--format", "ndjson", "--gzip")).toString();
    expect(zipped.split("\n").slice(0, 60)).toEqual(plain.split("\n").slice(0, 60));
    const { stdout } = await tallystick(
      "export",
      "--format",
      "ndjson",
      "--gzip",
      "-o",
      "x.gz",
      "--json",
      "outcome:failure",
    );
    expect(JSON.parse(stdout)).toMatchObject({ file: "x.gz", state: "complete", rows: 20 });
  });

  test("says what it does not understand", async () => {
    for (const [args, said] of [
      [[], "--format csv, ndjson, evidence"],
      [["--format", "csv", "--html"], "--html is for evidence"],
      [["--format", "csv", "--columns", "nonsense", "nonsense:1"], 'character 1: "nonsense" is no field'],
    ] as const) {
      const { code, stderr } = await tallystick("export", "-o", "refused", ...args);
      expect([code === 0, stderr]).toEqual([false, expect.stringContaining(said)]);
    }
    expect((await readdir(cwd)).filter((name) => name.includes("refused"))).toEqual([]);
  });

  test("keeps nothing that has no manifest", async () => {
    const short = createServer((_request, response) => response.end("seq\r\n0\r\n"));
    short.listen(0, "127.0.0.1");
    await new Promise((resolve) => short.once("listening", resolve));
    const from = ["--server", `http://127.0.0.1:${(short.address() as AddressInfo).port}`, "--api-key", "tally_any"];
    const { code, stderr } = await tallystick("export", "--format", "csv", "-o", "short.csv", ...from);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/nothing was written: there is no manifest/)]);
    expect((await readdir(cwd)).filter((name) => name.includes("short"))).toEqual([]);
    short.close();
  });
});

describe("verify", () => {
  test("finds an export complete, with no server and no database, and says that this is no proof", async () => {
    await exported("whole.csv", "--format", "csv");
    await exported("whole.csv.gz", "--format", "csv", "--gzip");
    await exported("whole.ndjson", "--format", "ndjson");
    const names = ["whole.csv", "whole.csv.gz", "whole.ndjson"];
    const all = await verify(...names);
    expect(all).toMatchObject({ code: 0, stderr: "" });
    for (const name of names) expect(all.stdout).toContain(`good  ${name}  `);
    expect(all.stdout.match(/^good {2}.+\/default {2}60 entries$/gm)).toHaveLength(3);
    expect(all.stdout.match(/^Complete: nothing of it is missing or changed since it was exported\.$/gm)).toHaveLength(
      3,
    );
    expect(all.stdout.match(/^A manifest is no proof/gm)).toHaveLength(3);
    expect(all.stdout.match(/taken at the checkpoint of size 6\d, root [0-9a-f]{64}$/gm)).toHaveLength(3);
    const { code, stdout } = await verify("whole.csv", "whole.ndjson", "--key", key, "--json");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject([
      { kind: "export", state: "complete", rows: 60, signed: true, manifest: { type: "csv" } },
      { kind: "export", state: "complete", manifest: { type: "ndjson" } },
    ]);
  });

  test("exits with 1 where an export was changed, with 2 where it is not complete", async () => {
    const csv = (await exported("good.csv", "--format", "csv")).toString();
    const zipped = await exported("good.csv.gz", "--format", "csv", "--gzip");
    const damaged = Buffer.from(zipped);
    damaged[zipped.length >> 1]! ^= 0xff;
    const changed = await verify(
      await put("changed.csv", csv.replace("u-7", "u-8")),
      await put("shorter.csv", csv.replace(/^7,.*\r\n/m, "")),
      await put("lines.csv", csv.replaceAll("\r\n", "\n")),
      await put("marked.csv", `\ufeff${csv}`),
      await put("changed.csv.gz", gzipSync(csv.replace("u-7", "u-8"))),
    );
    expect(changed.code).toBe(1);
    expect(changed.stdout.match(/^CHANGED OR DAMAGED: its bytes are not those/gm)).toHaveLength(5);
    expect(changed.stdout).toContain("which has 60 entries where 59 are here");
    const broken = await verify(
      await put("cut.csv", csv.slice(0, -2)),
      await put("cut.csv.gz", zipped.subarray(0, -30)),
      await put("other.csv", "a,b\r\n1,2\r\n"),
    );
    expect(broken.code).toBe(2);
    expect(broken.stdout.match(/^NOT COMPLETE: there is no manifest at its end/gm)).toHaveLength(3);
    const { code, stderr } = await verify(await put("damaged.csv.gz", damaged));
    expect([code, stderr]).toEqual([
      2,
      expect.stringContaining("damaged.csv.gz: it is damaged, and cannot be decompressed"),
    ]);
  });
});

describe("search", () => {
  test("prints a table of what matches, newest first", async () => {
    const { code, stdout, stderr } = await tallystick("search", "actor:u-3,u-5,u-7 -outcome:failure");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [header, rule, ...rows] = stdout.trimEnd().split("\n");
    expect(header).toMatch(/^time +actor +action +resource +outcome$/);
    expect(rule).toMatch(/^-+ {2}-+ {2}-+ {2}-+ {2}-+$/);
    expect(rows).toEqual([
      expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]{12}Z {2}u-7 \(Name 7\) +user\.login {2}order:o-7 {2}success$/),
      expect.stringMatching(/ u-5 \(Name 5\) for alice {2}user\.login {2}order:o-5 {2}success$/),
    ]);
  });

  test("takes filters as options, goes through pages, and says where there is more", async () => {
    const json = async (...args: string[]) => {
      const { code, stdout, stderr } = await tallystick("search", "--json", ...args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      return stdout
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => (JSON.parse(line) as { seq: number }).seq);
    };
    expect(await json("--actor-id", "u-1", "--actor-id", "u-2", "--order", "asc")).toEqual([1, 2]);
    expect(await json("--q", "outcome:failure", "action:payment.*", "--limit", "2")).toEqual([54, 48]);
    expect(await json("--all", "--action", "payment.*")).toHaveLength(30);
    expect(await json("--", "-action:payment.* actor:u-4,u-5")).toEqual([5]);
    expect((await tallystick("search", "--limit", "3", "action:user.login")).stderr).toContain(
      "there are more than these 3",
    );
    expect(await tallystick("search", "actor:nobody")).toMatchObject({
      code: 0,
      stdout: "",
      stderr: "no entry matches\n",
    });
    expect((await tallystick("search", "--limit", "0")).stderr).toContain("--limit 0 is no whole number from 1");
  });
});
