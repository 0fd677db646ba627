/** Evidence over HTTP, from a server in a process of its own, checked by nothing but the file. */
import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EVIDENCE_MEDIA_TYPE } from "@tallystick/core/evidence";
import type { EvidenceReport } from "@tallystick/core/evidence-report";
import { EvidenceVerifier } from "@tallystick/core/evidence-verify";
import type { JsonObject } from "@tallystick/core/json";
import type { SignatureAlgorithm } from "@tallystick/core/public-key";
import { formatVerifierKey, parseCosignerKey, parseVerifierKey, verifierKey } from "@tallystick/core/verifier-key";
import { parseLogKeys } from "@tallystick/witness/log-keys";
import { startWitness } from "@tallystick/witness/start";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Api, Problem } from "../src/testing/api.ts";
import { checkLog, TEST_ORIGIN, TestDatabase } from "../src/testing/log.ts";
import { TestPublisher } from "../src/testing/publisher.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";

let database: TestDatabase;
let server: TestServer;

beforeAll(async () => {
  database = await TestDatabase.create();
  server = await startTestServer(databaseSettings(database));
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

let tenants = 0;

async function newTenant(): Promise<{ slug: string; api: Api; check: (file: string) => Promise<EvidenceReport> }> {
  const slug = `export-${tenants++}`;
  expect((await server.operator.post("/v1/tenants", { slug })).status).toBe(201);
  const secret = await database.newKey(slug, { scopes: ["write", "read", "export", "verify"] });
  const api = server.api.as({ authorization: `Bearer ${secret}` });
  const check = async (file: string) => {
    const { text } = await api.get(`/v1/tenants/${slug}/log/vkey`);
    return checkFile(file, text.trim());
  };
  return { slug, api, check };
}

function checkFile(file: string, key: string): EvidenceReport {
  const verifier = new EvidenceVerifier({ logKey: parseVerifierKey(key) });
  verifier.write(file);
  return verifier.report();
}

const event = (i: number) => ({
  action: i % 2 === 0 ? "order.create" : "user.login",
  actor: { id: `u-${i}`, ...(i % 2 === 1 && { name: `Name ${i}`, email: `u${i}@example.com` }) },
  service_id: i % 3 === 0 ? "orders" : "users",
});
const events = (count: number) => Array.from({ length: count }, (_, i) => event(i));

async function evidence(api: Api, parameters: Readonly<Record<string, string>> = {}) {
  const answer = await api.get(`/v1/logs/export?${new URLSearchParams({ format: "evidence", ...parameters })}`);
  expect(answer.status, answer.text).toBe(200);
  return answer;
}

test("evidence carries what witnesses have cosigned, and their keys", async () => {
  const own = await TestDatabase.create();
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const settings = databaseSettings(own);
  await writeFile(settings.LOG_KEY_PATH, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  const logKey = verifierKey(
    `${TEST_ORIGIN}/default`,
    Buffer.from(publicKey.export({ format: "jwk" }).x!, "base64url"),
  );
  const stateDir = await mkdtemp(join(tmpdir(), "tallystick-witness-"));
  const log = { info: () => undefined, error: () => undefined };
  const logs = parseLogKeys([formatVerifierKey(logKey)]);
  const witness = await startWitness({ name: "witness.example", logs, stateDir, host: "127.0.0.1", port: 0, log });
  let witnessed: TestServer | undefined;
  try {
    witnessed = await startTestServer({
      ...settings,
      CHECKPOINT_INTERVAL_MS: "20",
      WITNESSES: `${witness.url} ${witness.vkey}`,
    });
    const { api } = witnessed;
    await api.recordAll(events(10));
    await until(async () => {
      const { text } = await api.get("/v1/tenants/default/log/checkpoint?cosigned=1");
      return text.includes("\n10\n");
    });
    for (const parameters of [{ cosigned: "1" }, { to_seq: "10" }]) {
      const { text } = await evidence(api, parameters);
      const byFile = new EvidenceVerifier({ logKey });
      byFile.write(text);
      expect(byFile.report()).toMatchObject({
        verdict: "good",
        complete: true,
        cosignatures: [{ witness: "witness.example", key: "file" }],
        unknownSigners: [],
      });
      const given = new EvidenceVerifier({ logKey, witnessKeys: [parseCosignerKey(witness.vkey)], witnessQuorum: 1 });
      given.write(text);
      expect(given.report()).toMatchObject({ verdict: "good", cosignatures: [{ key: "given" }] });
    }
    expect((await api.get("/v1/logs/export?format=evidence&cosigned=2")).status).toBe(404);
  } finally {
    await witness.stop();
    await rm(stateDir, { recursive: true });
    await witnessed?.stop();
    await own.close();
  }
});

describe("evidence of signed entries", () => {
  let numbers = 0;
  const order = (more: JsonObject = {}): JsonObject => ({
    action: "order.paid",
    actor: { id: "u-1" },
    occurred_at: "2026-03-01T09:30:00Z",
    sequence: { epoch: "test", number: ++numbers },
    ...more,
  });
  async function newPublisher(slug: string, algorithm: SignatureAlgorithm = "ed25519") {
    const api = server.operator.with({ "x-tenant-id": slug });
    const publisher = new TestPublisher(algorithm);
    const answer = await api.post<{ key_id: string }>("/v1/admin/keys", publisher.registration("orders"));
    expect(answer.status, answer.text).toBe(201);
    publisher.keyId = answer.body.key_id;
    return { api, publisher };
  }

  test("verifies each signature by the keys' history, whatever part of the log is asked for", async () => {
    const { slug, api: reader, check } = await newTenant();
    const { api, publisher } = await newPublisher(slug);
    await api.record(publisher.signed(order()));
    const next = new TestPublisher("rsa-pss");
    const rotation = { service_id: "orders", new_public_key_pem: next.pem, algorithm: "rsa-pss" };
    const rotated = await api.post<{ key_id: string }>("/v1/admin/keys/rotate", rotation);
    expect(rotated.status, rotated.text).toBe(201);
    next.keyId = rotated.body.key_id;
    await api.record(order());
    await api.record(next.signed(order({ actor: { id: "u-2", name: "Zoë" } })));
    for (const [parameters, valid, keys] of [
      [{}, 2, { "orders:v1": 1, "orders:v2": 1 }],
      [{ from_seq: "4" }, 1, { "orders:v2": 1 }],
      [{ service_id: "orders" }, 2, { "orders:v1": 1, "orders:v2": 1 }],
      [{ actor_id: "u-2" }, 1, { "orders:v2": 1 }],
    ] as const) {
      const report = await check((await evidence(reader, parameters)).text);
      expect(report).toMatchObject({ verdict: "good", signatures: { valid, erased: 0, keys }, keyChanges: 2 });
    }
    const log = (await database.tenants.find(slug))!;
    await database.superuser.query("delete from tallystick.openings where log_id = $1", [log.logId]);
    const erased = await check((await evidence(reader)).text);
    expect(erased).toMatchObject({ verdict: "good", signatures: { valid: 1, erased: 1 } });
  });

  test("finds what was not signed so, though the log itself vouches for it", async () => {
    const { slug, api: reader, check } = await newTenant();
    const { api, publisher } = await newPublisher(slug);
    await api.record(publisher.signed(order()));
    const { text } = await evidence(reader);
    const lines = text.split("\n");
    const withoutKeys = lines.filter((line) => !line.includes('"kind":"key_history"')).join("\n");
    expect(await check(withoutKeys)).toMatchObject({
      signatures: { valid: 0, unchecked: 1 },
      obstacles: [{ code: "unknown_key" }],
    });
    const otherKey = text.replace(JSON.stringify(publisher.pem).slice(1, -1).replaceAll("\\", "\\\\"), () =>
      JSON.stringify(new TestPublisher().pem).slice(1, -1).replaceAll("\\", "\\\\"),
    );
    expect(otherKey).not.toBe(text);
    const { findings } = await check(otherKey);
    expect(findings[0]).toMatchObject({ kind: "key_history", field: "leaf_hash" });
  });

  test("has every change of a key, though somebody hides one from the search", async () => {
    const { slug, api: reader, check } = await newTenant();
    const { api, publisher } = await newPublisher(slug);
    await api.record(publisher.signed(order()));
    await api.record(order());
    const revoked = await api.post<{ entry: { seq: number } }>(
      `/v1/admin/keys/${encodeURIComponent(publisher.keyId)}/revoke`,
      { reason: "stolen" },
    );
    expect(revoked.status, revoked.text).toBe(200);
    await api.record(order());
    const log = (await database.tenants.find(slug))!;
    const hide = "update tallystick.entries set terms = '{}' where log_id = $1 and seq = $2";
    expect(await database.tamper(hide, [log.logId, revoked.body.entry.seq])).toBe(1);
    for (const parameters of [{}, { from_seq: "1" }, { service_id: "orders" }]) {
      const { text } = await evidence(reader, parameters);
      expect(text.match(/"kind":"key_history"/g)).toHaveLength(2);
      const report = await check(text);
      expect(report).toMatchObject({ verdict: "good", signatures: { valid: 1 }, keyChanges: 2, keysComplete: true });
    }
    // The end of the chain and what says how long it is: only an entry that is in the file as well shows that.
    const forget = "delete from tallystick.service_heads where log_id = $1 and service_id = 'tallystick' and seq = 1";
    expect(await database.tamper(forget, [log.logId])).toBe(1);
    const whole = await check((await evidence(reader)).text);
    expect(whole).toMatchObject({
      verdict: "tampered",
      findings: [{ seq: revoked.body.entry.seq, kind: "key_history" }],
    });
    const part = await check((await evidence(reader, { service_id: "orders", to_seq: "2" })).text);
    expect(part).toMatchObject({ verdict: "good", keyChanges: 1, keysComplete: true });
  });

  test("in a successor's log, takes the keys' history from the logs before", async () => {
    const { slug, api: reader, check } = await newTenant();
    const { api, publisher } = await newPublisher(slug);
    for (const reason of ["first", "second"]) {
      await api.record(publisher.signed(order()));
      await evidence(reader); // publishes a checkpoint, which is what the successor is led to
      const answer = await server.operator.post(`/v1/tenants/${slug}/log/succeed`, { reason, force: true });
      expect(answer.status, answer.text).toBe(201);
    }
    await api.record(publisher.signed(order()));
    const { text } = await evidence(reader);
    expect(text.match(/"kind":"predecessor"/g)).toHaveLength(2);
    expect(text.match(/"kind":"key_history"/g)).toHaveLength(3); // the registration, and two successions
    expect(await check(text)).toMatchObject({
      verdict: "good",
      entries: 2,
      signatures: { valid: 1, keys: { "orders:v1": 1 } },
      keyChanges: 1,
      keysComplete: false, // of the logs before, what came behind their last entries of the server's own is not shown
    });
    const lines = text.split("\n");
    lines.splice(1, 1);
    expect((await check(lines.join("\n"))).verdict).toBe("tampered");
  });
});

describe("GET /v1/logs/export?format=evidence", () => {
  test("gives the whole log, proved by a new checkpoint", async () => {
    const { slug, api, check } = await newTenant();
    await api.recordAll(events(600));
    const { headers, text } = await evidence(api);
    expect(headers["content-type"]).toBe(EVIDENCE_MEDIA_TYPE);
    expect(headers["content-disposition"]).toBe(`attachment; filename="${slug}-0-599.evidence.ndjson"`);
    expect(await check(text)).toMatchObject({
      verdict: "good",
      key: { source: "given" },
      entries: 600,
      included: 600,
      complete: true,
      openings: 600,
      chains: { services: 2, links: 600 },
      selection: { kind: "range", from: 0, to: 600, asked: {} },
    });
  });

  test("gives a range by position or by time, whole, and no filter's proofs", async () => {
    const { api, check } = await newTenant();
    await api.recordAll(events(20));
    const [late] = await api.recordAll(events(10));
    for (const [parameters, from, to] of [
      [{ from_seq: "3", to_seq: "17" }, 3, 17],
      [{ to_seq: "1" }, 0, 1],
      [{ from_seq: "29", to_seq: "1000" }, 29, 32], // with the entries of the two exports before
      [{ from: late!.recorded_at }, 20, 33],
      [{ to: late!.recorded_at }, 0, 20],
      [{ from: late!.recorded_at, to_seq: "25" }, 20, 25],
    ] as const) {
      const { text } = await evidence(api, parameters);
      const report = await check(text);
      expect(report).toMatchObject({ verdict: "good", complete: true, selection: { kind: "range", from, to } });
      expect(report.included).toBe(to - from);
      expect(text).not.toContain('"proof":');
    }
  });

  test("gives what a filter lets through, each with its proof", async () => {
    const { api, check } = await newTenant();
    await api.recordAll(events(60));
    const { headers, text } = await evidence(api, { action: "user.*", from_seq: "10" });
    expect(headers["content-disposition"]).toMatch(/-filtered\.evidence\.ndjson"$/);
    expect(await check(text)).toMatchObject({
      verdict: "good",
      entries: 25,
      included: 25,
      complete: false,
      selection: { kind: "filter", from: 10, to: 60, filter: { action: "user.*", from_seq: "10" } },
    });
    const ofService = await check((await evidence(api, { service_id: "orders" })).text);
    expect(ofService).toMatchObject({ verdict: "good", entries: 20, serviceComplete: true });
  });

  test("proves by a kept checkpoint where one is asked for, or covers what is asked for", async () => {
    const { slug, api, check } = await newTenant();
    await api.recordAll(events(10));
    await evidence(api);
    await api.recordAll(events(5));
    const sizeOf = async (parameters: Record<string, string>) =>
      (await check((await evidence(api, parameters)).text)).checkpoint?.size;
    expect(await sizeOf({ tree_size: "10" })).toBe(10);
    expect(await sizeOf({})).toBe(17); // the exports themselves are entries
    // A size that the log never had: those that it had may have been published meanwhile.
    const unknown = await api.get("/v1/logs/export?format=evidence&tree_size=5");
    expect(unknown).toMatchObject({ status: 404, body: { errors: [{ path: "tree_size" }] } });
    expect((await api.get(`/v1/logs/export?format=evidence&log=${slug}-2`)).status).toBe(404);
  });

  test("gives values where there are openings, and proves the rest where they were erased", async () => {
    const { slug, api, check } = await newTenant();
    const heads = await api.recordAll(events(8));
    const log = (await database.tenants.find(slug))!;
    const erased = "delete from tallystick.openings where log_id = $1 and seq = $2 and pointer = '/event/actor/name'";
    await database.superuser.query(erased, [log.logId, heads[3]!.seq]);
    const { text } = await evidence(api);
    expect(await check(text)).toMatchObject({ verdict: "good", complete: true, erased: 1, openings: 7 });
    expect(text).toContain("Name 1");
    expect(text).not.toContain("Name 3");
  });

  test("of a log that a superuser has changed, the file names the entry", async () => {
    const { slug, api, check } = await newTenant();
    await api.recordAll(events(30));
    const log = (await database.tenants.find(slug))!;
    const change = "update tallystick.entries set leaf = replace(leaf, $3, $4) where log_id = $1 and seq = $2";
    await database.tamper(change, [log.logId, 12, "order.create", "order.delete"]);
    for (const parameters of [{}, { service_id: "orders" }]) {
      const report = await check((await evidence(api, parameters)).text);
      expect(report.verdict).toBe("tampered");
      expect(report.findings).toMatchObject([{ seq: 12, kind: "leaf", field: "leaf_hash" }]);
    }
    await database.tamper(change, [log.logId, 12, "order.delete", "order.create"]);
    await database.tamper("delete from tallystick.entries where log_id = $1 and seq = $2", [log.logId, 20]);
    const { findings } = await check((await evidence(api)).text);
    expect(findings[0]).toMatchObject({ seq: 20, kind: "missing" });
  });

  test("is not disturbed by what is recorded meanwhile", async () => {
    const { slug, api, check } = await newTenant();
    await api.recordAll(events(3_000));
    let recording = true;
    const writers = [0, 1].map(async () => {
      while (recording) await api.recordAll(events(50));
    });
    const reports = [];
    for (let i = 0; i < 4; i++)
      reports.push(await check((await evidence(api, i % 2 === 0 ? {} : { actor_id: "u-7" })).text));
    recording = false;
    await Promise.all(writers);
    for (const report of reports) expect(report).toMatchObject({ verdict: "good", findings: [] });
    expect(reports[0]).toMatchObject({ complete: true, included: reports[0]!.checkpoint!.size });
    await checkLog(database.database, (await database.tenants.find(slug))!);
  });

  test("that fails in the middle ends the connection, and leaves a file that is seen to be cut off", async () => {
    const { api, check } = await newTenant();
    for (let i = 0; i < 4; i++) {
      await api.recordAll(events(1_000).map((one) => ({ ...one, metadata: { text: "x".repeat(8_000) } })));
    }
    const received = await cutOff(api, async () => {
      await database.superuser.query("revoke select on tallystick.entries from tallystick_reader");
    });
    await database.superuser.query("grant select on tallystick.entries to tallystick_reader");
    expect(received.ended).toBe(false);
    expect(received.text.length).toBeGreaterThan(0);
    expect(await check(received.text)).toMatchObject({ verdict: "unchecked", obstacles: [{ code: "incomplete" }] });
    await until(() => server.said.includes("an export was cut off"));
    expect((await check((await evidence(api)).text)).verdict).toBe("good");
  });

  test("HEAD says what there would be", async () => {
    const { slug, api } = await newTenant();
    await api.recordAll(events(2));
    const answer = await api.send("HEAD", "/v1/logs/export?format=evidence");
    expect(answer).toMatchObject({ status: 200, text: "" });
    expect(answer.headers["content-disposition"]).toBe(`attachment; filename="${slug}-0-1.evidence.ndjson"`);
    expect((await api.send("HEAD", "/v1/logs/export?format=evidence&actor_id=nobody")).status).toBe(404);
  });

  test("of a log that has a successor is still to be had, by name", async () => {
    const { slug, api } = await newTenant();
    await api.recordAll(events(5));
    const vkey = (await api.get(`/v1/tenants/${slug}/log/vkey`)).text.trim();
    const answer = await server.operator.post(`/v1/tenants/${slug}/log/succeed`, { reason: "test", force: true });
    expect(answer.status, answer.text).toBe(201);
    await evidence(api);
    const { text } = await evidence(api, { log: slug, to_seq: "5" });
    expect(checkFile(text, vkey)).toMatchObject({ verdict: "good", entries: 5, complete: true });
  });

  test("refuses what it does not understand, and answers plainly where there is nothing", async () => {
    const { slug, api } = await newTenant();
    const refused = async (query: string, api_ = api) => {
      const { status, body } = await api_.get<Problem>(`/v1/logs/export${query}`);
      return [status, body.errors?.[0]?.path, body.errors?.[0]?.message ?? body.detail];
    };
    expect(await refused("?format=evidence")).toEqual([404, undefined, expect.stringContaining("nothing to prove")]);
    await api.record(event(0));
    expect(await refused("?format=xml")).toEqual([400, "format", "must be one of csv, ndjson, evidence"]);
    expect(await refused("")).toEqual([400, "format", "is required"]);
    expect(await refused("?format=evidence&actr_id=x")).toEqual([400, "actr_id", expect.anything()]);
    expect(await refused("?format=evidence&from=yesterday")).toEqual([400, "from", expect.anything()]);
    expect(await refused("?format=evidence&from_seq=-1")).toEqual([400, "from_seq", expect.anything()]);
    for (const nothing of [
      "from_seq=1",
      "from_seq=5&to_seq=3",
      "from=2100-01-01",
      "to=2000-01-01",
      "actor_id=nobody",
    ]) {
      expect(await refused(`?format=evidence&${nothing}`), nothing).toEqual([
        404,
        undefined,
        expect.stringContaining("nothing to prove"),
      ]);
    }
    const secret = await database.newKey(slug, { scopes: ["read"] });
    const reader = server.api.as({ authorization: `Bearer ${secret}` });
    expect(await refused("?format=evidence", reader)).toEqual([403, undefined, expect.stringContaining('"export"')]);
  });
});

/** Asks for an export, reads the first of it, lets `then` happen, and reads on. */
async function cutOff(api: Api, then: () => Promise<void>): Promise<{ text: string; ended: boolean }> {
  return new Promise((resolve, reject) => {
    request(`${api.url}/v1/logs/export?format=evidence`, { headers: api.headers }, (incoming) => {
      let text = "";
      incoming.setEncoding("utf8");
      incoming.once("data", () => {
        incoming.pause();
        then().then(() => incoming.resume(), reject);
      });
      incoming.on("data", (piece: string) => (text += piece));
      incoming.on("error", () => {}); // told by `complete`
      incoming.on("close", () => resolve({ text, ended: incoming.complete }));
    })
      .on("error", reject)
      .end();
  });
}
