/** Evidence from the command line: exported from a server, then checked where there is none. */
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { createServer as createWebServer } from "node:http";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { EVIDENCE_MEDIA_TYPE } from "@tallystick/core/evidence";
import type { EvidenceReport } from "@tallystick/core/evidence-report";
import { EvidenceVerifier } from "@tallystick/core/evidence-verify";
import { testWitness, variedLog } from "@tallystick/core/testing/evidence";
import { formatVerifierKey, noteSigner, parseVerifierKey } from "@tallystick/core/verifier-key";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { evidenceLines } from "../src/evidence-text.ts";
import { cleanUp, type Program, run, type Settings, shell, start, temporaryDirectory } from "./cli.ts";

let cwd: string;
/** Where there is no server, no database and no data. */
let elsewhere: string;
let settings: Settings;
let server: Program;
let key: string;
let receipt: string;

beforeAll(async () => {
  cwd = await temporaryDirectory();
  elsewhere = await temporaryDirectory();
  settings = { DATA_DIR: join(cwd, "data"), PORT: "0" };
  server = start(["serve"], settings, cwd);
  await server.said("Tallystick is ready at");
  const { url, api_key } = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8")) as Record<
    string,
    string
  >;
  const headers = { authorization: `Bearer ${api_key}`, "content-type": "application/json" };
  const events = Array.from({ length: 40 }, (_, i) => ({
    action: i % 2 === 0 ? "payment.send" : "user.login",
    actor: { id: `u-${i}`, name: `Name ${i}` },
    service_id: "orders",
  }));
  await fetch(`${url}/v1/logs/bulk`, { method: "POST", headers, body: JSON.stringify({ events }) });
  const { data } = (await (await fetch(`${url}/v1/logs?limit=1`, { headers })).json()) as { data: { id: string }[] };
  receipt = await (await fetch(`${url}/v1/logs/${data[0]!.id}/receipt`, { headers })).text();
  key = (await run(["log", "vkey"], settings, cwd)).stdout.trim();
});
afterAll(cleanUp);

const exportTo = (file: string, ...args: string[]) => run(["export", "--evidence", "-o", file, ...args], settings, cwd);
const verify = (...args: string[]) => run(["verify", ...args], { DATA_DIR: join(elsewhere, "none") }, elsewhere);

/** A file with this text, where no server is. */
async function put(name: string, text: string): Promise<string> {
  await writeFile(join(elsewhere, name), text);
  return name;
}

/** What the server gives, brought to where there is none. */
async function exported(name: string, ...args: string[]): Promise<string> {
  const { code, stderr } = await exportTo(name, "--force", ...args);
  expect(stderr).toBe("");
  expect(code).toBe(0);
  return put(name, await readFile(join(cwd, name), "utf8"));
}

describe("export", () => {
  test("leaves nothing behind when it is interrupted", async () => {
    // Answers, and goes on for ever.
    const endless = createWebServer((_request, response) => {
      response.writeHead(200, { "content-type": "application/vnd.tallystick.evidence+ndjson" });
      response.write("{");
    });
    await once(endless.listen(0, "127.0.0.1"), "listening");
    const { port } = endless.address() as AddressInfo;
    const server = ["--server", `http://127.0.0.1:${port}`, "--api-key", "tally_0123456789abcdef"];
    for (const [signal, code] of [
      ["SIGINT", 130],
      ["SIGTERM", 143],
    ] as const) {
      const place = await temporaryDirectory();
      const program = start(["export", "--evidence", "-o", join(place, "out"), ...server], {}, place);
      while (!(await readdir(place)).some((name) => name.includes("partial"))) await turn();
      program.child.kill(signal);
      expect((await program.ended).code).toBe(code);
      expect(await readdir(place)).toEqual([]);
    }
    endless.closeAllConnections();
    endless.close();
  });

  test("writes a file, says what it proves and how to check it; that command works with a key from elsewhere", async () => {
    const { code, stdout, stderr } = await exportTo("all.evidence.ndjson");
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^all\.evidence\.ndjson: 40 entries of .+\/default, positions 0 to 39, none missing \(/);
    const command = /^check it anywhere, .+:\n {2}(?:npm run -s tallystick --|tallystick) verify (.+)$/m.exec(
      stdout,
    )![1]!;
    expect(stdout).not.toContain(key); // the file's own key vouches for nothing
    await writeFile(join(cwd, "log.vkey"), `${key}\n`);
    const main = join(import.meta.dirname, "../src/main.ts");
    const checked = await shell(`${process.execPath} --conditions=source ${main} verify ${command}`, cwd);
    expect(checked).toMatchObject({ code: 0, stderr: "" });
    expect(await readdir(cwd)).not.toContainEqual(expect.stringContaining("partial"));
  });

  test("takes the filters of the API", async () => {
    const json = async (...args: string[]) => {
      const { stdout } = await exportTo("part.ndjson", "--force", "--json", ...args);
      return JSON.parse(stdout) as EvidenceReport & { bytes: number };
    };
    expect(await json("--from-seq", "10", "--to-seq", "20")).toMatchObject({ entries: 10, complete: true });
    expect(await json("--actor-id", "u-7")).toMatchObject({ entries: 1, complete: false, verdict: "good" });
    expect(await json("--action", "user.*", "--to-seq", "10")).toMatchObject({ entries: 5 });
  });

  test("writes over nothing unless told to, and leaves nothing behind where it fails", async () => {
    await exportTo("once.ndjson");
    const before = await readFile(join(cwd, "once.ndjson"), "utf8");
    const again = await exportTo("once.ndjson", "--actor-id", "u-1");
    expect(again).toMatchObject({ code: 1, stdout: "" });
    expect(again.stderr).toContain("say --force");
    expect(await readFile(join(cwd, "once.ndjson"), "utf8")).toBe(before);
    for (const args of [
      ["--actor-id", "nobody"],
      ["--from", "yesterday"],
      ["--api-key", "tally_wrong"],
    ]) {
      const failed = await exportTo("failed.ndjson", ...args);
      expect(failed).toMatchObject({ code: 1, stdout: "" });
    }
    expect((await run(["export", "-o", "x"], settings, cwd)).stderr).toContain("--format csv, ndjson, evidence");
    expect((await readdir(cwd)).filter((name) => name.includes("failed"))).toEqual([]);
  });
});

test("export keeps nothing where the connection ends before the file does", async () => {
  const credentials = await readFile(join(cwd, "data/credentials.json"), "utf8");
  const { url, api_key: apiKey } = JSON.parse(credentials) as { url: string; api_key: string };
  const cutter = createServer((socket) => {
    const upstream = connect(Number(new URL(url).port), "127.0.0.1");
    let bytes = 0;
    socket.pipe(upstream).on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes < 10_000) socket.write(chunk);
      else socket.end(chunk.subarray(0, 5_000));
    });
    for (const end of [socket, upstream]) end.on("error", () => undefined); // both are cut on purpose
  });
  cutter.listen(0, "127.0.0.1");
  await once(cutter, "listening");
  try {
    const { port } = cutter.address() as AddressInfo;
    const from = ["--server", `http://127.0.0.1:${port}`, "--api-key", apiKey];
    const { code, stdout, stderr } = await exportTo("cut-off.ndjson", ...from);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain("did not send all of its answer");
    expect((await readdir(cwd)).filter((name) => name.includes("cut-off"))).toEqual([]);
  } finally {
    cutter.close();
  }
});

test.each([
  ["page", ["--html"]],
  ["file", []],
])("export writes no %s of what a server made up to be HTML, though it shows tampering as well", async (_, args) => {
  const lines = variedLog(3).evidence().split("\n");
  lines[1] = lines[1]!.replace("order.create", "order.delete");
  const attack = '</script><meta http-equiv="refresh" content="0;url=https://evil.example/"><h1>Everything fits</h1>';
  const hostile = createWebServer((_request, response) => {
    response.writeHead(200, { "content-type": EVIDENCE_MEDIA_TYPE });
    response.end(`${lines[0]}\n${lines[1]}\n${attack}\n`);
  });
  hostile.listen(0, "127.0.0.1");
  await once(hostile, "listening");
  try {
    const { port } = hostile.address() as AddressInfo;
    const from = ["--server", `http://127.0.0.1:${port}`, "--api-key", "tally_any"];
    const { code, stdout, stderr } = await exportTo("hostile.html", ...args, ...from);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^tallystick: nothing was written: .+\n$/);
    expect((await readdir(cwd)).filter((name) => name.includes("hostile"))).toEqual([]);
  } finally {
    hostile.close();
  }
});

describe("verify FILE, with no server and no database", () => {
  test("exits with 0 on good evidence by a key that is given, else with 2: whose key it is could not be checked", async () => {
    const file = await exported("good.ndjson", "--to-seq", "40"); // behind them are the entries of exports
    const byFile = await verify(file);
    expect(byFile).toMatchObject({ code: 2, stderr: "" });
    expect(byFile.stdout).toMatch(/^\? {5}good\.ndjson/);
    expect(byFile.stdout).toContain("(the file's own)");
    expect(byFile.stdout).toContain("Whose key it is: the key comes from the file itself.");
    expect(byFile.stdout).toContain("Could not check whose key it is");
    const [report] = JSON.parse((await verify(file, "--json")).stdout) as EvidenceReport[];
    expect(report).toMatchObject({ verdict: "unchecked", obstacles: [{ code: "whose_key" }], findings: [] });
    const trusted = await verify(file, "--trust-file-key");
    expect(trusted).toMatchObject({ code: 0, stderr: "" });
    expect(trusted.stdout).toMatch(/^good {2}good\.ndjson/);
    expect(trusted.stdout).toContain("Whose key it is: the key comes from the file itself.");
    expect((await verify("--trust-file-key")).stderr).toContain("are for files");
    const given = await verify(file, "--key", key);
    expect(given.code).toBe(0);
    expect(given.stdout).toMatch(/^good {2}good\.ndjson {2}.+\/default {2}40 entries\n/);
    expect(given.stdout).not.toContain("comes from the file itself");
    expect(given.stdout).toContain("Positions 0 to 39 are here without a gap");
    expect(given.stdout).toContain("NOT ruled out");
  });

  test("exits with 0 on a page, and says where the page around the evidence is another than ours", async () => {
    const page = await exported("page.html", "--html", "--to-seq", "40");
    const good = await verify(page, "--key", key);
    expect(good).toMatchObject({ code: 0, stderr: "" });
    expect(good.stdout).not.toContain("page around");
    const text = await readFile(join(elsewhere, page), "utf8");
    const [report] = JSON.parse((await verify(page, "--json")).stdout) as (EvidenceReport & { ownPage: boolean })[];
    expect(report).toMatchObject({ kind: "page", ownPage: true, entries: 40, complete: true });
    const liar = await verify(
      await put("liar.html", text.replace("What was not", "What was proved as well")),
      "--key",
      key,
    );
    expect(liar.code).toBe(0);
    expect(liar.stdout).toContain("The page around the evidence is not the one");
    expect((await verify(await put("bad.html", text.replace("payment.send", "payment.sent")))).code).toBe(1);
    expect((await verify(await put("cut.html", text.slice(0, text.indexOf('"kind":"manifest"'))))).code).toBe(2);
    expect((await verify(await put("empty.html", "<!doctype html>\n"))).stderr).toContain("no evidence in this page");
  });

  test("exits with 1 and names the entry where one was changed", async () => {
    const file = await exported("changed.ndjson");
    const text = await readFile(join(elsewhere, file), "utf8");
    const { code, stdout } = await verify(await put("changed.ndjson", text.replace("payment.send", "payment.sent")));
    expect(code).toBe(1);
    expect(stdout).toMatch(/^BAD {3}changed\.ndjson/);
    expect(stdout).toMatch(
      /log .+\/default, seq 0, id [0-9a-f-]{36}\n {6}leaf \(leaf_hash\): the entry's bytes are not/,
    );
    expect(stdout).toMatch(/stored {3}[0-9a-f]{64}\n +expected [0-9a-f]{64}/);
    expect(stdout).toContain("TAMPERING FOUND");
    expect(stdout).toMatch(/^Next: .+ verify --tenant default$/m);
    const forged = await verify(
      file,
      "--key",
      formatVerifierKey(noteSigner(parseVerifierKey(key).name, new Uint8Array(32)).key),
    );
    expect(forged.code).toBe(1);
    expect(forged.stdout).toContain("not signed by the key that was given");
  });

  test("exits with 2 where it could not be checked", async () => {
    const file = await exported("whole.ndjson");
    const text = await readFile(join(elsewhere, file), "utf8");
    const cut = await verify(await put("cut.ndjson", text.slice(0, -10)));
    expect(cut.code).toBe(2);
    expect(cut.stdout).toContain("Could not be checked");
    expect((await verify(file, "--key", variedLog(1).verifierKey)).code).toBe(2);
    for (const args of [
      ["nothing.ndjson"],
      ["."],
      [file, "--key", "rubbish"],
      [file, "--quorum", "1"],
      [file, "--server", "http://127.0.0.1:9"],
      ["--key", key],
      [await put("other.txt", "hello\n")],
      [await put("empty", "")],
    ]) {
      expect((await verify(...args)).code, args.join(" ")).toBe(2);
    }
  });

  test("wants as many of the given witnesses as it is told", async () => {
    const log = variedLog(3);
    const witness = testWitness();
    const other = testWitness("other.example");
    const file = await put("witnessed.ndjson", log.evidence({ witnesses: [{ by: witness, time: 1_770_000_000 }] }));
    const [one, two] = [witness, other].map((by) => ["--witness", formatVerifierKey(by.key)]);
    const good = await verify(file, "--key", log.verifierKey, ...one!, "--quorum", "1");
    expect(good.code).toBe(0);
    expect(good.stdout).toContain("The witness witness.example/w, whose key you gave, says that it saw this");
    expect((await verify(file, "--key", log.verifierKey, ...one!, ...two!, "--quorum", "2")).code).toBe(2);
  });

  test("checks a receipt, for which it needs the key", async () => {
    const file = await put("entry.tlog-proof", receipt);
    const good = await verify(file, "--key", key);
    expect(good).toMatchObject({ code: 0, stderr: "" });
    expect(good.stdout).toMatch(/^good {2}entry\.tlog-proof {2}.+\/default {2}seq 39\n/);
    const without = await verify(file);
    expect(without.code).toBe(2);
    expect(without.stdout).toContain("give it by --key");
    expect(
      (await verify(await put("bad.tlog-proof", receipt.replace("index 39", "index 38")), "--key", key)).code,
    ).toBe(1);
    expect((await verify(await put("cut.tlog-proof", receipt.slice(0, 60)), "--key", key)).code).toBe(2);
    const both = await verify(file, await put("cut.tlog-proof", receipt.slice(0, 60)), "--key", key, "--json");
    expect(both.code).toBe(2);
    expect(JSON.parse(both.stdout)).toMatchObject([{ verdict: "good", seq: 39 }, { verdict: "unchecked" }]);
  });
});

test("no name or key in a file moves the cursor of the person who looks at what came of it", () => {
  const verifierKey = "example.com/\u009b2Jx+00000000+AAAA";
  const verifier = new EvidenceVerifier();
  verifier.write(variedLog(1).evidence());
  const report: EvidenceReport = { ...verifier.report(), log: "\u009b2J", key: { source: "file", verifierKey } };
  const lines = evidenceLines("x", report, "good").join("");
  expect(lines).toContain("\\u009b2Jx+00000000");
  expect(lines).not.toContain("\u009b");
});
