/**
 * Section 8 of the specification, row by row, acted out: what each attacker does is really done, and what is said to meet it does.
 */
import { chmod, copyFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fromBase64 } from "@tallystick/core/base64";
import { openCheckpoint } from "@tallystick/core/checkpoint";
import { ProofError, verifyConsistency } from "@tallystick/core/proof";
import { verifyReceipt } from "@tallystick/core/receipt";
import { parseCosignerKey, parseVerifierKey } from "@tallystick/core/verifier-key";
import type { Api, Head } from "@tallystick/server/testing/api";
import { checkLog, TestDatabase } from "@tallystick/server/testing/log";
import { TestPublisher } from "@tallystick/server/testing/publisher";
import {
  databaseSettings,
  startTestServer,
  stopTestServers,
  type TestServer,
  until,
} from "@tallystick/server/testing/server";
import { parseLogKeys } from "@tallystick/witness/log-keys";
import { type RunningWitness, startWitness } from "@tallystick/witness/start";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cleanUp, run, temporaryDirectory } from "./cli.ts";

type Receipted = Head & { readonly receipt: string };

const LOG = "/v1/tenants/default/log";
const WITNESS = "witness.example/w1";
const SETTINGS = {
  CHECKPOINT_INTERVAL_MS: "20",
  ADMIN_TOKEN: "the-admin-token-of-all-servers",
  API_KEY: "tally_the-first-key-of-all-servers",
};

let database: TestDatabase;
let server: TestServer;
let api: Api;
let witness: RunningWitness;
let cwd: string;
let vkey: string;
const publisher = new TestPublisher();
const paid = (number: number, amount = 100) => ({
  action: "invoice.paid",
  actor: { id: "billing" },
  occurred_at: "2026-05-01T10:00:00Z",
  sequence: { epoch: "billing-1", number },
  metadata: { amount },
});
const event = (number: number) => ({ action: "order.update", actor: { id: `u-${number}` }, metadata: { number } });

/** What the clients and the auditor keep: the stick's other half. */
const kept: Receipted[] = [];

async function serve(of: TestDatabase, more: Readonly<Record<string, string>> = {}): Promise<TestServer> {
  return startTestServer({ ...databaseSettings(of), ...SETTINGS, ...more });
}

async function record(to: Api, what: object): Promise<Receipted> {
  const answer = await to.post<Receipted>("/v1/logs?receipt=true", what);
  expect(answer.status, answer.text).toBe(201);
  return answer.body;
}

async function newestSize(of: Api): Promise<number> {
  const key = parseVerifierKey(vkey);
  return openCheckpoint((await of.get(`${LOG}/checkpoint`)).text, key, key.name).size;
}

const cli = (args: readonly string[]) =>
  run(args, { DATA_DIR: join(cwd, "no-data"), ADMIN_TOKEN: SETTINGS.ADMIN_TOKEN }, cwd);

beforeAll(async () => {
  database = await TestDatabase.create();
  cwd = await temporaryDirectory();
  const first = await serve(database);
  vkey = (await first.api.get(`${LOG}/vkey`)).text.trim();
  await first.stop();
  witness = await startWitness({
    name: WITNESS,
    logs: parseLogKeys([vkey]),
    stateDir: join(cwd, "witness"),
    host: "127.0.0.1",
    port: 0,
    log: { info: () => {}, error: () => {} } as never,
  });
  server = await serve(database, { WITNESSES: `${witness.url} ${witness.vkey}` });
  api = server.api;
  const registered = await api.post<{ key_id: string }>("/v1/admin/keys", publisher.registration("billing"));
  publisher.keyId = registered.body.key_id;
  expect((await api.patch("/v1/admin/services/billing", { signed_only: true })).status).toBe(200);
  for (let i = 0; i < 4; i++) {
    kept.push(await record(api, event(i)));
    kept.push(await record(api, publisher.signed(paid(i))));
  }
  await until(async () => (await api.get(`${LOG}/checkpoint?cosigned=1`)).status === 200);
  await until(async () => (await newestSize(api)) === 10);
});
afterAll(async () => {
  await stopTestServers();
  await witness?.stop();
  await database?.close();
  await cleanUp();
});

describe("the application, or someone with its password", () => {
  test("rewrites or deletes an entry: the database refuses", async () => {
    for (const statement of [
      "update tallystick.entries set leaf = replace(leaf, '100', '900') where seq = 3",
      "delete from tallystick.entries where seq = 3",
      "truncate tallystick.entries",
      "update tallystick.heads set root = sha256('x')",
      "delete from tallystick.checkpoints",
    ]) {
      for (const role of ["tallystick_writer", "tallystick_owner", "postgres"] as const)
        await expect(database.as(role, statement), `${role}: ${statement}`).rejects.toThrow(
          /refused|permission denied/,
        );
    }
    await checkLog(database.database, (await database.tenants.find("default"))!);
  });
});

describe("a DBA", () => {
  /** What the auditor's command says of a copy in which a superuser has done this. */
  async function verifyAfter(statement: string): Promise<{ code: number | null; stdout: string }> {
    await database.superuser.query("begin");
    try {
      const triggers = await database.superuser.query<{ statement: string }>(
        `select format('alter table %s disable trigger %I', tgrelid::regclass, tgname) as statement from pg_trigger
         where not tgisinternal and tgrelid in (select relid from pg_partition_tree('tallystick.entries'))`,
      );
      for (const { statement: disable } of triggers.rows) await database.superuser.query(disable);
      expect((await database.superuser.query(statement)).rowCount).toBe(1);
      for (const { statement: disable } of triggers.rows)
        await database.superuser.query(disable.replace(" disable ", " enable always "));
      await database.superuser.query("commit");
      return await cli(["verify", "--database", database.url("tallystick_auditor")]);
    } catch (error) {
      await database.superuser.query("rollback");
      throw error;
    }
  }

  // In this order: each one is undone by the next.
  const changes: readonly (readonly [what: string, statement: string, seq: number, found: readonly RegExp[]])[] = [
    [
      "rewrites an entry",
      "update tallystick.entries set leaf = replace(leaf, '\"number\":1', '\"number\":7') where seq = 4",
      4,
      [/leaf \(leaf\): the leaf was changed/, /stored {3}[0-9a-f]{64}/, /expected [0-9a-f]{64}/],
    ],
    [
      "puts it back, and rewrites a searchable column",
      "update tallystick.entries set leaf = replace(leaf, '\"number\":7', '\"number\":1'), action = 'order.view' where seq = 4",
      4,
      [/column \(action\)/, /stored {3}order\.view/, /expected order\.update/],
    ],
    ["deletes an entry", "delete from tallystick.entries where seq = 4", 4, [/missing \(seq\): entry 4 is missing/]],
    [
      "puts it back",
      "insert into tallystick.entries select seq, recorded_at, occurred_at, tenant_id, id, log_id, columns_version, leaf_hash, terms, 'order.update', leaf from public.gone",
      -1,
      [],
    ],
    [
      "inserts an entry at the end",
      "insert into tallystick.entries select 10, recorded_at, occurred_at, tenant_id, gen_random_uuid(), log_id, columns_version, leaf_hash, terms, action, leaf from tallystick.entries where seq = 4",
      10,
      [/extra: the entry lies beyond the newest head/],
    ],
  ];
  test.each(changes)("%s: verify names the entry", async (what, statement, seq, found) => {
    if (what === "deletes an entry")
      await database.superuser.query("create table public.gone as select * from tallystick.entries where seq = 4");
    const { code, stdout } = await verifyAfter(statement);
    if (seq < 0) return expect(code, stdout).toBe(0);
    expect(code).toBe(1);
    expect(stdout).toContain(`tenant default, seq ${seq}`);
    for (const what of found) expect(stdout).toMatch(what);
    // The command that stands with it works as it stands.
    const next = /see it: (.*)/.exec(stdout)![1]!;
    expect(next).toMatch(/sql/);
  });

  test("takes it all back", async () => {
    await database.tamper("delete from tallystick.entries where seq = 10");
    await database.superuser.query("drop table public.gone");
    await checkLog(database.database, (await database.tenants.find("default"))!);
  });
});

describe("somebody who holds the database and the log's key", () => {
  let forged: TestDatabase;
  let forger: TestServer;

  beforeAll(async () => {
    await server.stop();
    forged = await database.copy();
    // Everything that was recorded goes; then another history is written, by the server itself, with the stolen key.
    for (const table of [
      "cosignatures",
      "checkpoints",
      "service_heads",
      "tiles",
      "entries",
      "openings",
      "publisher_keys",
    ])
      await forged.tamper(`delete from tallystick.${table}`);
    await forged.tamper("delete from tallystick.heads where size > 0");
    await forged.tamper("delete from tallystick.services");
    await forged.superuser.query("delete from tallystick.idempotency_keys");
    const stolen = join(forged.signingDirectory, "log-key.pem");
    await copyFile(join(database.signingDirectory, "log-key.pem"), stolen);
    await chmod(stolen, 0o600);
    forger = await serve(forged, { WITNESSES: `${witness.url} ${witness.vkey}` });
    for (let i = 0; i < 12; i++) await record(forger.api, i % 2 === 0 ? event(i) : paid(i, 999));
    await until(async () => (await newestSize(forger.api)) === 12);
  });

  test("rewrites the whole log: the database alone does not tell", async () => {
    const { code } = await cli(["verify", "--database", forged.url("tallystick_auditor")]);
    expect(code).toBe(0); // this is what receipts, witnesses and publishers are for
  });

  test("is contradicted by every receipt that a client has kept", async () => {
    const logKey = parseVerifierKey(vkey);
    for (const { receipt, seq } of kept) {
      const { checkpoint, leafText } = verifyReceipt(receipt, { logKey }); // signed by the very same key
      const { body } = await forger.api.get<{
        from: { root: string };
        to: { size: number; root: string };
        proof: string[];
      }>(`${LOG}/consistency?from=${checkpoint.size}`);
      const claim = {
        oldSize: checkpoint.size,
        newSize: body.to.size,
        oldRoot: checkpoint.root,
        newRoot: Buffer.from(body.to.root, "hex"),
        proof: body.proof.map(fromBase64),
      };
      expect(() => verifyConsistency(claim), `seq ${seq}`).toThrow(ProofError);
      const { data } = (await forger.api.get<{ data: { leaf?: string; id: string }[] }>("/v1/logs?limit=50")).body;
      const there = await forger.api.get<{ leaf: string }>(`/v1/logs/${data[0]!.id}`);
      expect(there.body.leaf).not.toBe(leafText);
    }
  });

  test("is told from the log by an auditor who kept one checkpoint", async () => {
    const file = join(cwd, "kept.checkpoint");
    const note = kept.at(-1)!.receipt.split("\n\n").slice(1).join("\n\n");
    await writeFile(file, note);
    const checked = await cli(["log", "check", file, "--key", vkey, "--server", forger.url]);
    expect(checked).toMatchObject({ code: 1, stdout: expect.stringContaining("history was changed") });
    expect(await readFile(file, "utf8")).toBe(note);
  });

  test("gets no cosignature: the witness has seen another history, and keeps the proof", async () => {
    await until(async () => {
      const { body } = await forger.api.get<{ checks: Record<string, { status: string }> }>("/health/ready");
      return body.checks.witnesses?.status !== "ok";
    });
    expect(await forger.api.get(`${LOG}/checkpoint?cosigned=1`)).toMatchObject({ status: 404 });
    const answer = await fetch(`${witness.url}/conflicts`);
    const { conflicts } = (await answer.json()) as { conflicts: { checkpoint: string; cosigned_before: string }[] };
    expect(conflicts.length).toBeGreaterThan(0);
    const key = parseVerifierKey(vkey);
    for (const { checkpoint, cosigned_before } of conflicts) {
      const [theirs, ours] = [checkpoint, cosigned_before].map((note) => openCheckpoint(note, key, key.name));
      expect(ours!.size).toBe(10);
      expect(theirs!.root).not.toEqual(ours!.root); // both signed by the log's key: whoever sees them is convinced
    }
    const shown = await cli(["log", "witnesses", "--server", forger.url]);
    expect(shown).toMatchObject({ code: 0, stdout: expect.stringMatching(/ conflict .* it has cosigned size 10; /) });
  });

  test("has no publisher's signature for what the publisher never said", async () => {
    const forgedEvent = (await forger.api.listAll({ service_id: "default", action: "invoice.paid" }))[0]!;
    const entry = await forger.api.get<{ publisher?: object }>(`/v1/logs/${forgedEvent.id}`);
    expect(entry.body.publisher).toBeUndefined();
    const signed = verifyReceipt(kept[1]!.receipt, { logKey: parseVerifierKey(vkey) });
    expect(signed).toMatchObject({ understood: true, opened: { publisher: { key_id: publisher.keyId } } });
    // A signature cannot be carried over to another amount either.
    const other = { ...publisher.signed(paid(1)), metadata: { amount: 999 } };
    expect((await forger.api.post("/v1/logs", other)).status).toBe(422);
  });

  test("cannot have the true server go on from it: its sign-lock knows what was signed", async () => {
    const lock = { SIGN_LOCK_PATH: join(database.signingDirectory, "sign-lock.db") };
    const restored = await serve(forged, lock);
    const write = await restored.api.post("/v1/logs", event(1));
    expect(write).toMatchObject({ status: 503, body: { type: "urn:tallystick:problem:unsignable" } });
    expect((await restored.api.get("/health/ready")).status).toBe(503);
    await restored.stop();
    await forger.stop();
    await forged.close();
    database = await database.reopen();
    server = await serve(database, { WITNESSES: `${witness.url} ${witness.vkey}` });
    api = server.api;
  });
});

describe("different answers to different auditors", () => {
  test("are two notes of one key for one size, which any C2SP tool shows", async () => {
    const note = kept.at(-1)!.receipt.split("\n\n").slice(1).join("\n\n");
    const key = parseVerifierKey(vkey);
    const { size } = openCheckpoint(note, key, key.name);
    await until(async () => (await newestSize(api)) >= size);
    const { body } = await api.get<{ from: { root: string } }>(`${LOG}/consistency?from=${size}`);
    expect(body.from.root).toBe(Buffer.from(openCheckpoint(note, key, key.name).root).toString("hex"));
  });
});

describe("backdating", () => {
  test("an entry's time is the database's, and does not go back: a cosignature bounds it from above", async () => {
    const before = await api.listAll({ order: "asc" });
    const backdated = await record(api, { ...event(50), occurred_at: "2001-01-01T00:00:00Z" });
    expect(backdated.recorded_at >= before.at(-1)!.recorded_at).toBe(true);
    await until(async () => (await newestSize(api)) > backdated.seq);
    await until(async () => {
      const { text } = await api.get(`/v1/logs/${backdated.id}/receipt?cosigned=1`);
      if (!text.includes(`— ${WITNESS}`)) return false;
      const { cosignatures } = verifyReceipt(text, {
        logKey: parseVerifierKey(vkey),
        witnessKeys: [parseCosignerKey(witness.vkey)],
        witnessQuorum: 1,
      });
      return cosignatures[0]!.time + 1 >= Date.parse(backdated.recorded_at) / 1000;
    });
  });
});

describe("replay of a signed event", () => {
  test("gets the first answer, under whatever key it is sent", async () => {
    const first = await record(api, publisher.signed(paid(77)));
    for (const headers of [{}, { "idempotency-key": "another" }]) {
      const again = await api.post<Head>("/v1/logs", publisher.signed(paid(77)), headers);
      expect(again.body).toMatchObject({ id: first.id, seq: first.seq, duplicate: true });
    }
  });
});

describe("a client", () => {
  test("forges no entry of the server's own", async () => {
    for (const forged of [
      { action: "tallystick.publisher_key.revoked", actor: { id: "x" } },
      { action: "a.b", actor: { id: "x" }, service_id: "tallystick" },
      { action: "TALLYSTICK.log.succeeded", actor: { id: "x" } },
    ])
      expect(await api.post("/v1/logs", forged)).toMatchObject({
        status: 403,
        body: { type: "urn:tallystick:problem:reserved-name" },
      });
  });

  test("reads nothing of another tenant's", async () => {
    await server.operator.post("/v1/tenants", { slug: "theirs" });
    const theirs = server.operator.with({ "x-tenant-id": "theirs" });
    const { id } = await theirs.record(event(1));
    for (const path of [`/v1/logs/${id}`, `/v1/logs/${id}/receipt`])
      expect((await api.get(path)).status, path).toBe(404);
    for (const path of ["checkpoint", "vkey", "consistency?from=0", "tile/0/000.p/1", "tile/entries/000.p/1"])
      expect((await api.get(`/v1/tenants/theirs/log/${path}`)).status, path).toBe(403);
    expect((await api.get("/v1/logs", { "x-tenant-id": "theirs" })).status).toBe(403);
    const rows = await database.as(
      "tallystick_reader",
      "begin",
      `select set_config('tallystick.tenant_id', '${(await database.tenants.find("default"))!.tenantId}', true)`,
      `select from tallystick.entries where id = '${id}'`,
    );
    expect(rows).toEqual([]);
  });
});

test("after all of it, the log is what was recorded", async () => {
  await checkLog(database.database, (await database.tenants.find("default"))!);
  for (const { id, leaf_hash } of kept) expect((await api.get<Head>(`/v1/logs/${id}`)).body.leaf_hash).toBe(leaf_hash);
});
