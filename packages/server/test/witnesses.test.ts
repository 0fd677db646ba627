/** Witnesses: cosignatures of published checkpoints, witnesses that fail in every way, and logs that show two histories. */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, type KeyObject, randomBytes } from "node:crypto";
import { once } from "node:events";
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { cosigner, openCosignatures } from "@tallystick/core/cosignature";
import { formatSignature, parseNote } from "@tallystick/core/note";
import { verifyReceipt } from "@tallystick/core/receipt";
import { formatVerifierKey, parseCosignerKey, parseVerifierKey, verifierKey } from "@tallystick/core/verifier-key";
import { parseLogKeys } from "@tallystick/witness/log-keys";
import { startWitness } from "@tallystick/witness/start";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import type { Api, Head } from "../src/testing/api.ts";
import { checkLog, TEST_ORIGIN, TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";
import { verifyLog } from "../src/verify/log.ts";

const LOG = "/v1/tenants/default/log";
const CLI = fileURLToPath(new URL("../../cli/src/main.ts", import.meta.url));
const QUIET = { info: () => undefined, error: () => undefined };

interface Listed {
  readonly name: string;
  readonly last_size: number | null;
  readonly last_time: string | null;
  readonly status: string;
  readonly since: string | null;
  readonly detail: string | null;
}

const databases: TestDatabase[] = [];
const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await stopTestServers();
  for (const stop of stops.splice(0)) await stop();
});
afterAll(async () => {
  for (const database of databases) await database.close();
});

/** A database whose servers will have a log key that is known before the first of them starts. */
async function newDatabase(): Promise<{ database: TestDatabase; vkey: string }> {
  const database = await TestDatabase.create();
  databases.push(database);
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" });
  await writeFile(databaseSettings(database).LOG_KEY_PATH, pem, { mode: 0o600 });
  return { database, vkey: formatVerifierKey(verifierKey(`${TEST_ORIGIN}/default`, rawKey(publicKey))) };
}

function rawKey(key: KeyObject): Uint8Array {
  return Buffer.from(key.export({ format: "jwk" }).x!, "base64url");
}

async function stateDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tallystick-witness-"));
  stops.push(() => rm(directory, { recursive: true }));
  return directory;
}

/** The verifier key of the operator's log beside this one: of every installation there are two. */
function operatorLogOf(vkey: string): string {
  const { name, publicKey } = parseVerifierKey(vkey);
  return formatVerifierKey(verifierKey(name.replace(/\/[^/]+$/, "/_operator"), publicKey));
}

/** A witness that runs in this process. */
async function witness(vkey: string, options: { name?: string; stateDir?: string; port?: number } = {}) {
  const { name = "witness.example", port = 0, stateDir = await stateDirectory() } = options;
  const logs = parseLogKeys([vkey, operatorLogOf(vkey)]);
  const running = await startWitness({ name, logs, stateDir, host: "127.0.0.1", port, log: QUIET });
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= running.stop());
  stops.unshift(stop);
  return { ...running, stop, stateDir, port: Number(new URL(running.url).port), key: parseCosignerKey(running.vkey) };
}

const SETTINGS = { CHECKPOINT_INTERVAL_MS: "20" };

function serve(
  database: TestDatabase,
  witnesses: readonly { url: string; vkey: string }[],
  more = {},
  dataDir?: string,
) {
  const WITNESSES = witnesses.map(({ url, vkey }) => `${url} ${vkey}`).join(",");
  return startTestServer(
    { ...databaseSettings(database), ...SETTINGS, WITNESSES, ...more },
    dataDir === undefined ? {} : { dataDir },
  );
}

const event = (i: number) => ({ action: "order.update", actor: { id: `u-${i}` } });

async function record(api: Api, count: number): Promise<Head[]> {
  return api.recordAll(Array.from({ length: count }, (_, i) => event(i)));
}

async function checkpoint(api: Api, query = "") {
  const { status, text: note } = await api.get(`${LOG}/checkpoint${query}`);
  return { status, note, size: status === 200 ? Number(note.split("\n")[1]) : undefined };
}

/** Waits until a checkpoint of this size is served with so many cosignatures. */
async function cosigned(server: TestServer, size: number, count = 1): Promise<string> {
  await until(async () => (await checkpoint(server.api, `?cosigned=${count}`)).size === size, {
    what: `size ${size} is cosigned by ${count}`,
  });
  return (await checkpoint(server.api, `?cosigned=${count}`)).note;
}

async function listed(server: TestServer, tenant = "default"): Promise<readonly Listed[]> {
  const path = `/v1/tenants/${tenant}/log/witnesses`;
  const { status, body } = await server.operator.get<{ data: Listed[] }>(path);
  expect(status).toBe(200);
  return body.data;
}

/** Waits until the first witness has this status, and this to say. */
async function hasStatus(
  server: TestServer,
  status: string,
  { tenant = "default", detail = /^/ } = {},
): Promise<Listed> {
  let newest: Listed | undefined;
  await until(
    async () => {
      [newest] = await listed(server, tenant);
      return newest!.status === status && detail.test(newest!.detail ?? "");
    },
    { what: `the witness is ${status} for ${tenant} with ${detail}` },
  );
  return newest!;
}

async function ready(server: TestServer) {
  const answer = await server.api.get<{ checks: Record<string, { status: string; detail?: string }> }>("/health/ready");
  return { status: answer.status, witnesses: answer.body.checks.witnesses };
}

/** A witness of a test's own making, with a key that is known. */
async function standIn(answer: (request: IncomingMessage, response: ServerResponse, body: string) => unknown) {
  const own = cosigner("witness.example", randomBytes(32));
  const server: Server = createServer(async (request, response) => answer(request, response, await text(request)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stops.unshift(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, vkey: formatVerifierKey(own.key), own };
}

/** The text of the checkpoint in a request's body. */
function textIn(body: string): string {
  return parseNote(body.slice(body.indexOf("\n\n") + 2)).text;
}

const now = () => Math.floor(Date.now() / 1000);

describe("cosignatures", () => {
  test("are kept and served with the checkpoint and in receipts, and meet a quorum", async () => {
    const { database, vkey } = await newDatabase();
    const one = await witness(vkey, { name: "one.example" });
    const two = await witness(vkey, { name: "two.example/w" });
    const server = await serve(database, [one, two]);
    const answer = await server.api.post<Head & { receipt: string }>("/v1/logs?receipt=true", event(1));
    const note = await cosigned(server, 1, 2);
    const before = now() - 60;
    const found = openCosignatures(note, [one.key, two.key]);
    expect(found.map(({ name }) => name).sort()).toEqual(["one.example", "two.example/w"]);
    for (const { time } of found) expect(time).toBeGreaterThan(before);
    expect((await checkpoint(server.api)).note).toBe(note);
    expect((await checkpoint(server.api, "?size=1&cosigned=1")).note).toBe(note);

    const trust = { logKey: parseVerifierKey(vkey), witnessKeys: [one.key, two.key], witnessQuorum: 2 };
    for (const query of ["", "?cosigned=2", "?tree_size=1", "?tree_size=1&cosigned=1"]) {
      const receipt = await server.api.get(`/v1/logs/${answer.body.id}/receipt${query}`);
      expect(verifyReceipt(receipt.text, trust)).toMatchObject({ index: 0, cosignatures: [{}, {}] });
    }
    // The answer to a write waits for nobody: its receipt has the log's signature only.
    expect(verifyReceipt(answer.body.receipt, { ...trust, witnessQuorum: 0 }).cosignatures).toEqual([]);

    expect(await listed(server)).toMatchObject([
      { name: "one.example", url: one.url, vkey: one.vkey, last_size: 1, status: "ok", since: null, detail: null },
      { name: "two.example/w", last_size: 1, status: "ok" },
    ]);
    expect(await ready(server)).toEqual({ status: 200, witnesses: { status: "ok" } });
    const { rows } = await database.superuser.query(
      "select witness, nth from tallystick.cosignatures where size = 1 order by nth",
    );
    expect(rows.map(({ nth }) => nth)).toEqual([1, 2]);
    await checkLog(database.database, (await database.tenants.find("default"))!);
  });

  test("that there are not are a 404, and a number that makes no sense is a 400", async () => {
    const { database, vkey } = await newDatabase();
    const server = await serve(database, [await witness(vkey)]);
    const [head] = await record(server.api, 1);
    await cosigned(server, 1);
    expect(await checkpoint(server.api, "?cosigned=2")).toMatchObject({ status: 404 });
    expect(await checkpoint(server.api, "?size=9&cosigned=1")).toMatchObject({ status: 404 });
    expect(await server.api.get(`/v1/logs/${head!.id}/receipt?cosigned=2`)).toMatchObject({
      status: 404,
      body: { errors: [{ path: "cosigned" }] },
    });
    for (const wrong of ["0", "17", "01", "x", ""]) {
      expect(await checkpoint(server.api, `?cosigned=${wrong}`)).toMatchObject({ status: 400 });
      expect((await server.api.get(`/v1/logs/${head!.id}/receipt?cosigned=${wrong}`)).status).toBe(400);
    }
  });

  test("go on after a restart, which learns by 409 what the witness has", async () => {
    const { database, vkey } = await newDatabase();
    const watching = await witness(vkey);
    const first = await serve(database, [watching]);
    for (const size of [3, 260]) {
      await record(first.api, size - (await checkpoint(first.api)).size!);
      await cosigned(first, size);
    }
    await first.stop();
    const second = await serve(database, [watching], {}, first.dataDir);
    await record(second.api, 5);
    await cosigned(second, 265);
    expect((await listed(second))[0]).toMatchObject({ status: "ok", last_size: 265 });
    expect(second.said).not.toMatch(/witness/);
  });

  test("are got once, whichever of several servers asks", async () => {
    const { database, vkey } = await newDatabase();
    const watching = await witness(vkey);
    const shared = { ADMIN_TOKEN: "admin-token-of-this-test", API_KEY: "api-key-of-this-test" };
    const servers = await Promise.all([1, 2, 3].map(() => serve(database, [watching], shared)));
    await Promise.all(Array.from({ length: 300 }, (_, i) => servers[i % 3]!.api.record(event(i))));
    await Promise.all(servers.map((server) => cosigned(server, 300)));
    for (const server of servers) {
      expect(server.said).not.toMatch(/HISTORY|lost what it knew/);
      expect((await listed(server))[0]).toMatchObject({ last_size: 300 });
    }
    expect(await (await fetch(`${watching.url}/conflicts`)).json()).toEqual({ conflicts: [] });
  });

  test("are asked for at the start, where a server ended before they came", async () => {
    const { database, vkey } = await newDatabase();
    const watching = await witness(vkey);
    const alone = await startTestServer({ ...databaseSettings(database), ...SETTINGS });
    await record(alone.api, 4);
    await until(async () => (await checkpoint(alone.api)).size === 4);
    expect(await listed(alone)).toEqual([]);
    expect((await ready(alone)).witnesses).toBeUndefined();
    await alone.stop();
    const server = await serve(database, [watching], {}, alone.dataDir);
    await cosigned(server, 4);
  });

  test("are no client's to make: the database takes them for published checkpoints only, and changes none", async () => {
    const { database, vkey } = await newDatabase();
    const server = await serve(database, [await witness(vkey)]);
    await record(server.api, 1);
    await cosigned(server, 1);
    const keep = "select tallystick.keep_cosignature(1, 77, 'w+00000000', '— w AAAAAAA=', now())";
    await expect(database.as("tallystick_writer", keep)).rejects.toThrow(/no published checkpoint of size 77/);
    await expect(database.as("tallystick_reader", keep)).rejects.toThrow(/permission denied/);
    for (const statement of ["update tallystick.cosignatures set line = 'x'", "delete from tallystick.cosignatures"]) {
      await expect(database.as("postgres", statement)).rejects.toThrow(/on tallystick\.cosignatures is refused/);
      await expect(database.as("tallystick_writer", statement)).rejects.toThrow(/permission denied/);
    }
    expect(await database.as("tallystick_reader", "select from tallystick.cosignatures")).toEqual([]);
  });

  test("that are no signature lines are not taken, and are named where someone forced one in", async () => {
    const { database, vkey } = await newDatabase();
    const server = await serve(database, [await witness(vkey)]);
    await record(server.api, 1);
    await cosigned(server, 1);
    const log = (await database.tenants.find("default"))!;
    const keep = (witness: string, line: string) =>
      database.database.query("select tallystick.keep_cosignature($1, 1, $2, $3, now()) as kept", [
        log.logId,
        witness,
        line,
      ]);
    const name = "w+00000000";
    for (const line of [
      "garbage",
      "",
      "— w AAAAAAA=\n— w AAAAAAA=",
      "— w AAAAAAA=\n",
      "- w AAAAAAA=",
      "—  w AAAAAAA=",
      "— w  AAAAAAA=",
      "— w AAAAAAA= ",
      "— w AAAAAAB=", // not the one form of these bytes
      "— w AAAAAAA",
      "— w AAAA",
      "— w AAAAAA==",
      "— w =AAAAAA=",
      "— w !!!!",
      "— w AAAAAQA=", // another key's
      "— v AAAAAAA=",
      "— w\u3000w AAAAAAA=",
      "— w\u0085 AAAAAAA=",
    ]) {
      await expect(keep(name, line), line).rejects.toThrow(/cosignatures_line_form/);
    }
    for (const bad of ["a b", "a+b", "a\u2028", "a\u00a0"]) {
      await expect(keep(`${bad}+00000000`, `— ${bad} AAAAAAA=`), bad).rejects.toThrow(/cosignatures_line_form/);
    }
    // It would be taken for a wrong signature by the log, with which no checkpoint can be opened.
    await expect(keep(`${log.name}+00000000`, `— ${log.name} AAAAAAA=`)).rejects.toThrow(/cosign its own/);
    await expect(
      database.as("tallystick_writer", "insert into tallystick.cosignatures select * from tallystick.cosignatures"),
    ).rejects.toThrow(/permission denied/);
    expect(await keep("wé/x+00000000", "— wé/x AAAAAAA=")).toEqual([{ kept: true }]);
    const check = () => verifyLog((work) => database.database.read(log.tenantId, work), log);
    expect((await check()).problems).toEqual([]);

    await database.superuser.query("alter table tallystick.cosignatures drop constraint cosignatures_line_form");
    await keep(name, "garbage");
    await database.superuser.query(
      `insert into tallystick.cosignatures (log_id, size, tenant_id, witness, nth, cosigned_at, line)
       values ($1, 1, $2, $3 || '+00000000', 9, now(), '— ' || $3 || ' AAAAAAA=')`,
      [log.logId, log.tenantId, log.name],
    );
    const problem = { seq: 0, kind: "checkpoint", field: "cosignature" };
    const forged = { ...problem, stored: `— ${log.name} AAAAAAA=`, expected: `${log.name}+00000000` };
    const garbage = { ...problem, stored: "garbage", expected: name };
    const { problems } = await check();
    expect(problems).toHaveLength(2);
    expect(problems).toEqual(expect.arrayContaining([garbage, forged].map((one) => expect.objectContaining(one))));
    const rows = await database.as(
      "tallystick_auditor",
      "select field, stored from tallystick.check_tree('default') order by stored",
    );
    expect(rows).toEqual(
      expect.arrayContaining(["garbage", forged.stored].map((stored) => ({ field: "cosignatures.line", stored }))),
    );
    expect(rows).toHaveLength(2);
  });
});

describe("a witness that does not answer", () => {
  test("holds up no write, no other witness, and no shutdown", async () => {
    const { database, vkey } = await newDatabase();
    const sockets = new Set<Socket>();
    const silent = createTcpServer((socket) => sockets.add(socket.on("error", () => undefined))).listen(0, "127.0.0.1");
    await once(silent, "listening");
    stops.push(async () => {
      for (const socket of sockets) socket.destroy();
      silent.close();
      await once(silent, "close");
    });
    const hanging = {
      url: `http://127.0.0.1:${(silent.address() as AddressInfo).port}`,
      vkey: formatVerifierKey(cosigner("hanging.example", randomBytes(32)).key),
    };
    const good = await witness(vkey);
    // Longer than the test may take: whatever waited for the answer would not be done.
    const server = await serve(database, [hanging, good], { WITNESS_TIMEOUT_MS: "60000" });
    for (let i = 0; i < 100; i++) {
      const { status, body } = await server.api.post<{ receipt: string }>("/v1/logs?receipt=true", event(i));
      expect(status).toBe(201);
      verifyReceipt(body.receipt, { logKey: parseVerifierKey(vkey) });
    }
    await cosigned(server, 100);
    expect(sockets.size).toBe(2); // one request at a time for a log, and the operator has one
    expect(await server.stop()).toBe(0);
  });

  test("is reported, asked again, and told of the newest checkpoint once it is there", async () => {
    const { database, vkey } = await newDatabase();
    const before = await witness(vkey);
    await before.stop();
    const server = await serve(database, [before]);
    await record(server.api, 2);
    const { since, detail } = await hasStatus(server, "silent");
    expect(Date.parse(since!)).toBeGreaterThan(Date.now() - 60_000);
    expect(detail).toMatch(/no answer \(ECONNREFUSED\)/);
    expect(await ready(server)).toMatchObject({
      status: 200,
      witnesses: {
        status: "warning",
        detail: expect.stringMatching(/^witness\.example\+\w{8}: silent since .*ECONNREFUSED/),
      },
    });
    for (let i = 0; i < 5; i++) {
      await record(server.api, 1);
      await until(async () => (await checkpoint(server.api)).size === 3 + i);
    }
    await witness(vkey, before);
    await cosigned(server, 7);
    expect(await hasStatus(server, "ok")).toMatchObject({ since: null, detail: null });
    const { rows } = await database.superuser.query(
      "select size from tallystick.cosignatures join tallystick.logs l on l.id = log_id where slug = 'default' order by size",
    );
    expect(rows.map(({ size }) => Number(size))).toEqual([7]); // those between were left out
    expect(server.said.match(/does not answer/g)).toHaveLength(1);
  });

  test("in time is silent, and so is one that is in trouble", async () => {
    const { database } = await newDatabase();
    let answer: (response: ServerResponse) => unknown = () => undefined;
    const troubled = await standIn((_request, response) => answer(response));
    const server = await serve(database, [troubled], { WITNESS_TIMEOUT_MS: "100" });
    await record(server.api, 1);
    expect(await hasStatus(server, "silent")).toMatchObject({ detail: "it did not answer in time" });
    answer = (response) => response.writeHead(503).end("overloaded\u0007\n");
    await until(async () => /it answered 503: overloaded$/.test((await listed(server))[0]!.detail ?? ""));
    answer = (response) => response.writeHead(200).write("— witness.example"); // and never ends
    await until(async () => (await listed(server))[0]!.detail === "it did not answer in time");
  });

  test("is asked for few logs at a time, then for all of them", async () => {
    const { database } = await newDatabase();
    let open = 0;
    let most = 0;
    const held: (() => void)[] = [];
    const slow = await standIn((_request, response, body) => {
      most = Math.max(most, ++open);
      held.push(() => {
        open--;
        response.end(formatSignature(slow.own.cosign(textIn(body), now())));
      });
    });
    const server = await serve(database, [slow], { WITNESS_TIMEOUT_MS: "30000" });
    const tenants = Array.from({ length: 12 }, (_, i) => `tenant-${i}`);
    for (const slug of tenants) {
      expect((await server.operator.post("/v1/tenants", { slug })).status).toBe(201);
      await server.operator.with({ "x-tenant-id": slug }).record(event(1));
    }
    await until(() => open === 4);
    const answering = setInterval(() => held.shift()?.(), 1);
    stops.unshift(async () => clearInterval(answering));
    await until(async () => {
      const { rows } = await database.superuser.query(
        "select count(distinct log_id) from tallystick.cosignatures where size = 1",
      );
      return Number(rows[0].count) === tenants.length;
    });
    expect(most).toBe(4);
    // What is one tenant's is not shown to another.
    const path = `/v1/tenants/${tenants[0]}/log/witnesses`;
    expect(await server.api.get(path)).toMatchObject({ status: 403 });
    expect(await server.api.as({}).get(path)).toMatchObject({ status: 401 });
    expect((await server.operator.get<{ data: Listed[] }>(path)).body.data).toMatchObject([
      { last_size: 1, status: "ok" },
    ]);
  });

  test("with what it knew is trusted on; one that has lost it is reported", async () => {
    const { database, vkey } = await newDatabase();
    const stateDir = await stateDirectory();
    const first = await witnessProcess(vkey, stateDir);
    const server = await serve(database, [first]);
    await record(server.api, 3);
    await cosigned(server, 3);
    await kill(first.child);
    await record(server.api, 3);
    await hasStatus(server, "silent");
    const again = await witnessProcess(vkey, stateDir, first.url);
    expect(again.vkey).toBe(first.vkey);
    await cosigned(server, 6);
    expect(server.said).not.toMatch(/has lost what it knew/);
    await kill(again.child);
    await rm(join(stateDir, "witness.sqlite"));
    await record(server.api, 1);
    await hasStatus(server, "silent");
    await witnessProcess(vkey, stateDir, first.url);
    await cosigned(server, 7);
    expect(server.said).toMatch(/witness\.example\/p\+\w{8} says it has cosigned size 0 of .*, and had cosigned 6/);
  });
});

async function witnessProcess(vkey: string, stateDir: string, at?: string) {
  const port = at === undefined ? "0" : new URL(at).port;
  const options = ["--name", "witness.example/p", "--log", vkey, "--state", stateDir, "--port", port];
  const child = spawn(process.execPath, ["--conditions=source", CLI, "witness", ...options], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  stops.unshift(() => kill(child));
  let url = "";
  for await (const line of createInterface({ input: child.stdout })) {
    url = / listens at (\S+)$/.exec(line)?.[1] ?? url;
    const key = /^verifier key: (\S+)$/.exec(line)?.[1];
    if (key !== undefined) return { child, url, vkey: key };
  }
  throw new Error("the witness ended before it listened");
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

describe("a witness that answers wrong", () => {
  test("for a log that it does not know, or a key that it does not trust, is refusing", async () => {
    const { database } = await newDatabase();
    const other = await newDatabase();
    const strange = formatVerifierKey(verifierKey("other.example/log", randomBytes(32)));
    const unknowing = await witness(strange);
    const distrusting = await witness(other.vkey); // the same name, with another log key
    const server = await serve(database, [unknowing, distrusting]);
    await record(server.api, 1);
    await until(async () => (await listed(server)).every(({ status }) => status === "refused"));
    const [unknown, distrusted] = await listed(server);
    expect(unknown!.detail).toMatch(/does not know this log: give its operator the log's verifier key/);
    expect(distrusted!.detail).toMatch(/it answered 403/);
    expect((await ready(server)).witnesses).toMatchObject({
      status: "warning",
      detail: expect.stringMatching(/refused for .*; .*refused for/),
    });
    await record(server.api, 1);
  });

  const other = cosigner("witness.example", randomBytes(32));
  const answers: Record<
    string,
    { answer: (body: string, own: typeof other) => [number, string, string?]; why: RegExp }
  > = {
    rubbish: { answer: () => [200, "<html>hello</html>\n"], why: /is no cosignature by witness\.example/ },
    nothing: { answer: () => [200, ""], why: /is no cosignature/ },
    "a cosignature by another key": {
      answer: (body) => [200, formatSignature(other.cosign(textIn(body), now()))],
      why: /no cosignature by .*: it is by witness\.example\+/,
    },
    "a cosignature of another checkpoint": {
      answer: (body, own) => [200, formatSignature(own.cosign(`${textIn(body)}more\n`, now()))],
      why: /no cosignature .* is wrong/,
    },
    "a cosignature of a text that its answer brings along": {
      answer: (body, own) => [200, `more\n\n${formatSignature(own.cosign(`${textIn(body)}\nmore\n`, now()))}`],
      why: /no cosignature .* is wrong/,
    },
    "a cosignature without its newline": {
      answer: (body, own) => [200, formatSignature(own.cosign(textIn(body), now())).trimEnd()],
      why: /is no cosignature/,
    },
    "a cosignature of the future": {
      answer: (body, own) => [200, formatSignature(own.cosign(textIn(body), now() + 200_000))],
      why: /its clock is wrong/,
    },
    "a cosignature of no time": {
      answer: (body, own) => [200, formatSignature(own.cosign(textIn(body), 0))],
      why: /its clock is wrong/,
    },
    "too much": { answer: () => [200, "— ".repeat(100_000)], why: /over 65536 bytes/ },
    "a size that is none": { answer: () => [409, "007\n", "text/x.tlog.size"], why: /409 without the size/ },
    "a size of another type": { answer: () => [409, "0\n", "text/plain"], why: /409 without the size/ },
    "the size that it was asked with": {
      answer: () => [409, "0\n", "text/x.tlog.size"],
      why: /409 and 0, the size it was asked with/,
    },
    "that no proof is the wrong proof": { answer: () => [422, ""], why: /422 where no proof is needed/ },
    "that it is elsewhere": { answer: () => [307, ""], why: /it answered 307/ },
  };

  test("is reported with what is wrong, nothing of it is kept, and it is asked again", async () => {
    const { database } = await newDatabase();
    const cases = Object.values(answers);
    let wrong = true;
    const liar = await standIn((_request, response, body) => {
      // A tenant for each answer.
      const [, number] = /\/tenant-(\d+)\n/.exec(body) ?? [];
      if (!wrong || number === undefined) return response.end(formatSignature(liar.own.cosign(textIn(body), now())));
      const [status, said, type = "text/plain"] = cases[Number(number)]!.answer(body, liar.own);
      return response.writeHead(status, { "content-type": type, location: "http://127.0.0.1:1/" }).end(said);
    });
    const server = await serve(database, [liar]);
    for (const [i, { why }] of cases.entries()) {
      const slug = `tenant-${i}`;
      expect((await server.operator.post("/v1/tenants", { slug })).status).toBe(201);
      await server.operator.with({ "x-tenant-id": slug }).record(event(1));
      await hasStatus(server, "invalid", { tenant: slug, detail: why });
    }
    const invalid = `select from tallystick.cosignatures c join tallystick.logs l on l.id = c.log_id where l.slug like 'tenant-%'`;
    expect((await database.superuser.query(invalid)).rows).toEqual([]);
    expect((await ready(server)).witnesses).toMatchObject({
      status: "warning",
      detail: expect.stringMatching(/^witness\.example\+\w{8}: invalid for .*tenant-\d+ and 13 more since /),
    });
    wrong = false;
    for (const i of cases.keys()) await hasStatus(server, "ok", { tenant: `tenant-${i}` });
    await until(async () => (await ready(server)).witnesses?.status === "ok");
  });

  test("with lines by others beside its own is understood, and only its own kept", async () => {
    const { database } = await newDatabase();
    const several = await standIn((_request, response, body) =>
      response.end([other, several.own].map((by) => formatSignature(by.cosign(textIn(body), now()))).join("")),
    );
    const server = await serve(database, [several]);
    await record(server.api, 1);
    const note = await cosigned(server, 1);
    expect(parseNote(note).signatures).toHaveLength(2);
    openCosignatures(note, [several.own.key]);
  });
});

describe("two histories", () => {
  test("that one log key signs are caught by one witness; the second is refused, reported, and goes on recording", async () => {
    const { database: original, vkey } = await newDatabase();
    const watching = await witness(vkey);
    const before = await serve(original, [watching]);
    await record(before.api, 4);
    await cosigned(before, 4);
    await before.stop();
    const copy = await original.copy();
    databases[databases.indexOf(original)] = copy;
    await copyFile(databaseSettings(original).LOG_KEY_PATH, databaseSettings(copy).LOG_KEY_PATH);
    const { dataDir } = before;

    const truth = await serve(original, [watching], {}, dataDir);
    await record(truth.api, 2);
    await cosigned(truth, 6);
    // Its DATA_DIR is another: there is a first key already, so that none is made.
    const own = { SIGN_LOCK_ADOPT: "true", API_KEY: "key-of-the-forger-in-this-test" };
    const forger = await serve(copy, [watching], own, `${dataDir}-forger`);
    // Fewer entries than the witness has seen, as many, more: it cosigns none of it.
    await record(forger.api, 1);
    expect(await hasStatus(forger, "conflict")).toMatchObject({
      last_size: 4,
      detail: expect.stringMatching(/^it has cosigned size 6; published here is size 5 with root [0-9a-f]{64}/),
    });
    await record(forger.api, 1);
    await until(async () => /another root at size 6$/.test((await listed(forger))[0]!.detail!));
    await record(forger.api, 3);
    await until(async () =>
      /cosigned size 6; published here is size 9 .* another root at size 6/.test((await listed(forger))[0]!.detail!),
    );

    expect(forger.said.match(/SAW ANOTHER HISTORY/g)).toHaveLength(1);
    expect(forger.said).toMatch(/docs\/witnesses\.md/);
    const state = await ready(forger);
    expect(state).toMatchObject({
      status: 200,
      witnesses: { status: "warning", detail: expect.stringMatching(/saw another history .*conflict for .*default/) },
    });
    expect((await forger.api.post("/v1/logs", event(1))).status).toBe(201);

    const { conflicts } = (await (await fetch(`${watching.url}/conflicts`)).json()) as {
      conflicts: { kind: string; size: number }[];
    };
    expect(conflicts).toMatchObject([
      { kind: "same_size", size: 6, cosigned_before: expect.stringContaining(`${TEST_ORIGIN}/default\n6\n`) },
      { kind: "no_proof", size: 9 },
    ]);
    await record(truth.api, 5);
    await cosigned(truth, 11);
    expect(truth.said).not.toMatch(/HISTORY/);
  });
});
