import { canonicalize } from "@tallystick/core/canonical";
import { parseEvent } from "@tallystick/core/event";
import type { JsonObject } from "@tallystick/core/json";
import { parsePublicKeyPem } from "@tallystick/core/public-key";
import { publisherOf } from "@tallystick/core/publisher";
import { parseSubmission } from "@tallystick/core/signed-event";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { prepareEvent } from "../src/log/prepare.ts";
import { replaySecret } from "../src/log/replay-hash.ts";
import type { Sequencer } from "../src/log/sequencer.ts";
import type { TenantLog } from "../src/log/tenants.ts";
import { PublisherKeys } from "../src/publisher/publisher-keys.ts";
import { Publishers } from "../src/publisher/publishers.ts";
import { append, checkLog, recordedIn, reportOf, requestOf, TestDatabase, testSequencer } from "../src/testing/log.ts";
import { TestPublisher } from "../src/testing/publisher.ts";
import { openAccess } from "../src/verify/access.ts";
import { type VerifyOptions, verifyLog } from "../src/verify/log.ts";
import type { VerifyReport } from "../src/verify/report.ts";
import type { Snapshot } from "../src/verify/sql.ts";
import { VerifyWorkers } from "../src/verify/workers.ts";

const OPERATOR = { actor: { id: "operator", type: "user" } } as const;

let db: TestDatabase;
let sequencer: Sequencer;
let keys: PublisherKeys;
let workers: VerifyWorkers;
let auditor: ReturnType<typeof openAccess>;
beforeAll(async () => {
  db = await TestDatabase.create();
  sequencer = testSequencer(db.database);
  keys = new PublisherKeys({ database: db.database, sequencer, publishers: new Publishers(db.database) });
  workers = new VerifyWorkers(db.url());
  auditor = openAccess(db.url());
});
afterAll(async () => {
  await workers.close();
  await auditor.pool.end();
  await db.close();
});

const BEGIN = "begin isolation level repeatable read read only";
const asSuperuser: Snapshot = (work) => auditor.snapshot(BEGIN, work);

let numbers = 0;
const eventOf = (more: JsonObject = {}): JsonObject => ({
  action: "order.paid",
  actor: { id: "u-1" },
  sequence: { epoch: "test", number: ++numbers },
  ...more,
});

/** What a server records that verifies nothing: a publisher's member as it is given. */
function forged(log: TenantLog, event: JsonObject, sent: JsonObject, key: string, serviceId = "orders") {
  const { event: parsed } = parseEvent(event);
  const { signed } = parseSubmission(sent);
  const publisher = publisherOf(signed!, "ed25519", parsed);
  const by = { publisher, text: signed!.text, key };
  return prepareEvent(log, parsed, serviceId, { secret: replaySecret(Buffer.alloc(32)), key: undefined, signed: by });
}

interface Case {
  readonly log: TenantLog;
  readonly publisher: TestPublisher;
  /** Id of its row. */
  readonly key: string;
  /** Records a submission as a server without a check would. */
  readonly record: (event: JsonObject, sent: JsonObject, serviceId?: string) => Promise<number>;
}

async function newCase(): Promise<Case> {
  const log = await db.tenant();
  const publisher = new TestPublisher();
  const { changed } = await keys.register(log, OPERATOR, {
    serviceId: "orders",
    publicKey: parsePublicKeyPem(publisher.pem),
  });
  publisher.keyId = changed.key_id;
  const record: Case["record"] = async (event, sent, serviceId) => {
    const prepared = forged(log, event, sent, changed.id, serviceId);
    const [recorded] = recordedIn(await sequencer.append({ logId: log.logId, partial: false, events: [prepared] }));
    return recorded!.seq;
  };
  for (let i = 0; i < 3; i++) {
    const event = eventOf(i === 0 ? { actor: { id: "u", name: "Zoë" } } : {});
    await record(event, publisher.signed(event));
  }
  return { log, publisher, key: changed.id, record };
}

/** The report, the same whoever makes it: this thread, others, or the command line. */
async function verified({ log }: Case): Promise<VerifyReport> {
  const report = await verifyLog(asSuperuser, log);
  const inThreads: VerifyOptions = { threads: { workers, begin: BEGIN }, threadsFrom: 0, batchSize: 256 };
  expect(await verifyLog(asSuperuser, log, inThreads)).toEqual(report);
  expect(await reportOf(db, log, "tallystick_auditor")).toEqual(report);
  const asReader: Snapshot = (work) => db.database.read(log.tenantId, work);
  expect(await verifyLog(asReader, log)).toEqual(report);
  return report;
}

test("verifyLog() verifies every signature, in threads as well, and counts those that are erased", async () => {
  const signed = await newCase();
  await append(sequencer, signed.log, [eventOf()]);
  expect(await verified(signed)).toMatchObject({
    ok: true,
    checked: 5,
    erased: 0,
    signatures: { valid: 3, erased: 0 },
  });
  expect(await verifyLog(asSuperuser, signed.log, { serviceId: "orders" })).toMatchObject({
    ok: true,
    checked: 3,
    signatures: { valid: 3, erased: 0 },
  });
  const { rows } = await db.superuser.query("select * from tallystick.check_log($1)", [signed.log.slug]);
  expect(rows).toEqual([]); // what an auditor with only psql runs
  // The name alone, the signature alone, then everything.
  await db.superuser.query("delete from tallystick.openings where log_id = $1 and pointer = '/event/actor/name'", [
    signed.log.logId,
  ]);
  expect(await verified(signed)).toMatchObject({ ok: true, erased: 1, signatures: { valid: 2, erased: 1 } });
  await db.superuser.query("delete from tallystick.openings where log_id = $1", [signed.log.logId]);
  expect(await verified(signed)).toMatchObject({ ok: true, erased: 2, signatures: { valid: 2, erased: 1 } });
});

describe("a log that was rewritten as a whole, as by whoever holds its key, is found by the signatures", () => {
  test.each<[string, string, (one: Case) => Promise<number>]>([
    [
      "another event",
      "publisher/signature",
      async ({ publisher, record }) => {
        const sent = publisher.signed(eventOf());
        const { signature, public_key_id, ...event } = sent;
        return record({ ...event, reason: "rewritten" }, { ...sent, reason: "rewritten" });
      },
    ],
    [
      "another event beside the text that was signed",
      "event",
      async ({ publisher, record }) => {
        const event = eventOf();
        return record({ ...event, reason: "rewritten" }, publisher.signedText(JSON.stringify(event, undefined, 1)));
      },
    ],
    [
      "another personal value, its signature committed",
      "event",
      async ({ publisher, record }) => {
        const event = eventOf({ actor: { id: "u", name: "Zoë" } });
        return record({ ...event, actor: { id: "u", name: "Zoe" } }, publisher.signed(event));
      },
    ],
    [
      "a key that nobody registered",
      "publisher/key_id",
      async ({ publisher, record }) => {
        const event = eventOf();
        return record(event, publisher.signed(event, "orders:v7"));
      },
    ],
    [
      "a key of another service",
      "service/id",
      async ({ publisher, record }) => {
        const event = eventOf();
        return record(event, publisher.signed(event), "billing");
      },
    ],
  ])("%s", async (_, field, rewrite) => {
    const one = await newCase();
    const seq = await rewrite(one);
    const report = await verified(one);
    expect(report.problems).toMatchObject([{ seq, kind: "publisher", field, detail: expect.any(String) }]);
    expect(report.signatures.valid).toBe(3);
    expect(report.ok).toBe(false);
  });
});

test("a report says nothing of personal values: it is kept where no erasure reaches it", async () => {
  const one = await newCase();
  const { publisher, record } = one;
  const event = eventOf({ actor: { id: "u", name: "Zoë Personal" } });
  const other = { ...event, actor: { id: "u", name: "Zoe Personal" } };
  const signed = publisher.signedText(JSON.stringify(event, undefined, 1));
  await record(other, signed); // another event than the text makes
  await record(event, { ...publisher.signed(event), signature: publisher.sign("else") });
  const payload = JSON.stringify({ ...event, "Zoë Personal": 1, action: "Zoë Personal" }); // makes no event
  const forgery = {
    algorithm: "ed25519",
    key_id: publisher.keyId,
    payload,
    signature: publisher.sign(payload),
  } as const;
  const by = { publisher: forgery, text: payload, key: one.key };
  const sent = { secret: replaySecret(Buffer.alloc(32)), key: undefined, signed: by };
  const prepared = prepareEvent(one.log, parseEvent(event).event, "orders", sent);
  recordedIn(await sequencer.append({ logId: one.log.logId, partial: false, events: [prepared] }));
  const { problems } = await verified(one);
  expect(problems.map(({ field }) => field)).toEqual(["event", "publisher/signature", "publisher/payload"]);
  expect(JSON.stringify(problems)).not.toContain("Personal");
  expect(problems.some((problem) => "stored" in problem || "expected" in problem)).toBe(false);
});

describe("publisher_keys that a superuser has changed", () => {
  test.each<[string, string, string]>([
    ["a later end", "update tallystick.publisher_keys set valid_to = null where tenant_id = $1", "valid_to"],
    ["an end", "update tallystick.publisher_keys set valid_to = '2030-01-01' where tenant_id = $1", "valid_to"],
    ["a revocation", "update tallystick.publisher_keys set revoked_at = now() where tenant_id = $1", "revoked_at"],
    [
      "an earlier beginning",
      "update tallystick.publisher_keys set valid_from = '2020-01-01' where tenant_id = $1",
      "valid_from",
    ],
    ["another service", "update tallystick.publisher_keys set service_id = 'billing' where tenant_id = $1", "key_id"],
    ["another key", "update tallystick.publisher_keys set public_key_pem = 'x' where tenant_id = $1", "public_key_pem"],
    ["deleted", "delete from tallystick.publisher_keys where tenant_id = $1", "key_id"],
    [
      "slipped in",
      "insert into tallystick.publisher_keys (tenant_id, service_id, version, algorithm, public_key_pem, valid_from, created_at) values ($1, 'orders', 9, 'ed25519', 'x', now(), now())",
      "key_id",
    ],
  ])("%s", async (name, statement, field) => {
    const one = await newCase();
    const changed = await db.tamper(statement, [one.log.tenantId]);
    expect(changed).toBe(1);
    const { problems, ok } = await verified(one);
    if (name === "a later end") {
      expect(problems).toEqual([]); // it had none
      return;
    }
    expect(ok).toBe(false);
    expect(problems[0]).toMatchObject({ kind: "publisher_key", field });
    expect(problems.every(({ kind }) => kind === "publisher_key")).toBe(true);
  });

  test("the entry of a registration, taken out of the index of terms: its key is missed by name", async () => {
    const one = await newCase();
    await db.tamper("update tallystick.entries set terms = '{}' where log_id = $1 and seq = 0", [one.log.logId]);
    const { problems } = await verified(one);
    expect(problems.map(({ seq, kind, field }) => [seq, kind, field])).toEqual(
      expect.arrayContaining([
        [0, "column", "terms"],
        [1, "publisher", "publisher/key_id"],
        [null, "publisher_key", "terms"],
      ]),
    );
  });
});

describe("a service that was set to signed only", () => {
  const setOf = async (one: Case) => {
    await append(sequencer, one.log, [eventOf({ service_id: "orders" })]);
    const { entry } = await keys.setSignedOnly(one.log, OPERATOR, "orders", true);
    return entry!.seq;
  };

  test("takes no unsigned event, in the commit of the change or behind it, until it is set back", async () => {
    const one = await newCase();
    const unsigned = () => sequencer.append(requestOf(one.log, [eventOf({ service_id: "orders" })]));
    await setOf(one);
    expect(await unsigned()).toMatchObject({ code: "signature_required" });
    expect(await sequencer.append(requestOf(one.log, [eventOf({ service_id: "orders" })], true))).toMatchObject([
      { code: "signature_required" },
    ]);
    await append(sequencer, one.log, [eventOf({ service_id: "billing" })]);
    const event = eventOf();
    await one.record(event, one.publisher.signed(event));
    // Whatever meets in a commit, no unsigned entry stands where the log says that there is none.
    await Promise.all(
      [false, true, false, true].flatMap((signedOnly) => [
        keys.setSignedOnly(one.log, OPERATOR, "orders", signedOnly),
        ...Array.from({ length: 5 }, unsigned),
      ]),
    );
    expect((await verified(one)).problems).toEqual([]);
    await keys.setSignedOnly(one.log, OPERATOR, "orders", false);
    recordedIn(await unsigned());
    expect((await verified(one)).problems).toEqual([]);
  });

  test("and quietly set back in the database: the row is named, and each unsigned entry", async () => {
    const one = await newCase();
    const told = await setOf(one);
    await db.as(
      "tallystick_writer",
      `select set_config('tallystick.tenant_id', '${one.log.tenantId}', false)`,
      "update tallystick.services set signed_only = false",
    );
    const [unsigned] = await append(sequencer, one.log, [eventOf({ service_id: "orders" })]);
    const { problems } = await verified(one);
    expect(problems).toMatchObject([
      { seq: told, kind: "service", field: "signed_only", stored: "false", expected: "true" },
      { seq: unsigned!.seq, kind: "publisher", field: "publisher" },
    ]);
    await db.tamper("update tallystick.services set signed_only = true where tenant_id = $1", [one.log.tenantId]);
    expect((await verified(one)).problems).toMatchObject([{ seq: unsigned!.seq, kind: "publisher" }]);
  });

  test.each<[string, string, string]>([
    ["another time", "update tallystick.services set changed_at = now() where tenant_id = $1", "changed_at"],
    ["deleted", "delete from tallystick.services where tenant_id = $1", "service_id"],
    [
      "slipped in",
      "insert into tallystick.services (tenant_id, service_id, signed_only, changed_at) values ($1, 'tallystick', true, now())",
      "service_id",
    ],
  ])("and its row: %s", async (_, statement, field) => {
    const one = await newCase();
    await setOf(one);
    expect(await db.tamper(statement, [one.log.tenantId])).toBe(1);
    await keys.revoke(one.log, OPERATOR, one.publisher.keyId, "lost"); // the server's own entries go on
    expect((await verified(one)).problems).toMatchObject([{ kind: "service", field }]);
  });

  test("its entry taken out of the index of terms is missed by name", async () => {
    const one = await newCase();
    const told = await setOf(one);
    await db.tamper(`update tallystick.entries set terms = '{}' where log_id = $1 and seq = ${told}`, [one.log.logId]);
    expect((await verified(one)).problems.map(({ seq, kind, field }) => [seq, kind, field])).toEqual(
      expect.arrayContaining([
        [told, "column", "terms"],
        [null, "publisher_key", "terms"],
        [null, "service", "service_id"],
      ]),
    );
  });
});

test("a key that is revoked, or ends, between a signature's check and its entry signs nothing any more", async () => {
  const { log, publisher, record } = await newCase();
  const event = eventOf();
  const sent = publisher.signed(event);
  // In one commit, whichever comes first in it.
  const [revocation, refused] = await Promise.all([
    keys.revoke(log, OPERATOR, publisher.keyId, "lost"),
    record(event, sent).catch((error: unknown) => error),
  ]);
  expect(revocation.changed.revoked_at).not.toBeNull();
  if (typeof refused === "number") expect(refused).toBeLessThan(revocation.entry!.seq);
  else expect(refused).toMatchObject({ code: "key_revoked" });
  const later = eventOf();
  await expect(record(later, publisher.signed(later))).rejects.toMatchObject({ code: "key_revoked" });
  await checkLog(db.database, log);
});

test("nothing a client sends is recorded as the server's own change of a key", () => {
  const metadata = { key_id: "orders:v1" };
  const claim = { action: "tallystick.publisher_key.revoked", actor: { id: "x" }, metadata };
  expect(() => parseSubmission(claim)).toThrow(expect.objectContaining({ code: "reserved" }));
  const publisher = new TestPublisher();
  expect(() => parseSubmission(publisher.signed({ ...claim, action: "a" }, "tallystick:v1"))).toThrow(/public_key_id/);
  expect(() => parseSubmission(publisher.signedText(canonicalize(claim), {}, "orders:v1"))).toThrow(
    expect.objectContaining({ code: "reserved" }),
  );
});

test("requestOf() and a signed event share a batch, in the order of arrival", async () => {
  const { log, publisher, record } = await newCase();
  const event = eventOf();
  const [plain, seq] = await Promise.all([
    sequencer.append(requestOf(log, [eventOf(), eventOf()])),
    record(event, publisher.signed(event)),
  ]);
  expect(recordedIn(plain).map((one) => one.seq)).toEqual([4, 5]);
  expect(seq).toBe(6);
  await checkLog(db.database, log);
});
