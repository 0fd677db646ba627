/** Receipts and consistency proofs, from a server's answers alone: what a client can check without believing it. */
import { fromBase64 } from "@tallystick/core/base64";
import { openCheckpoint } from "@tallystick/core/checkpoint";
import { verifyConsistency } from "@tallystick/core/proof";
import { type VerifiedReceipt, verifyReceipt } from "@tallystick/core/receipt";
import { parseVerifierKey } from "@tallystick/core/verifier-key";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Api, Head, Problem } from "../src/testing/api.ts";
import { checkLog, TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";

type WithReceipt = Head & { readonly receipt: string | null; readonly receipt_problem?: Problem };

const LOG = "/v1/tenants/default/log";
let database: TestDatabase;
let server: TestServer;
let api: Api;

beforeAll(async () => {
  database = await TestDatabase.create();
  server = await startTestServer({ ...databaseSettings(database), CHECKPOINT_INTERVAL_MS: "50" });
  api = server.api;
});
afterAll(async () => {
  await stopTestServers();
  await checkLog(database.database, (await database.tenants.find("default"))!);
  await database.close();
});

const event = (i: number) => ({ action: "order.update", actor: { id: `u-${i}`, name: `Ann ${i}` } });

async function logKey(path = LOG) {
  return parseVerifierKey((await api.get(`${path}/vkey`)).text.trim());
}

async function verified(receipt: string): Promise<Extract<VerifiedReceipt, { understood: true }>> {
  const result = verifyReceipt(receipt, { logKey: await logKey() });
  if (!result.understood) throw new Error("not understood");
  return result;
}

async function recorded(head: WithReceipt): Promise<Extract<VerifiedReceipt, { understood: true }>> {
  expect(head.receipt_problem).toBeUndefined();
  const receipt = await verified(head.receipt!);
  expect(receipt.leaf).toMatchObject({ seq: head.seq, id: head.id, recorded_at: head.recorded_at });
  expect(receipt.checkpoint.size).toBeGreaterThan(head.seq);
  return receipt;
}

describe("the answer to a write", () => {
  test("has a receipt that opens what was sent, when it is asked for", async () => {
    const { status, body } = await api.post<WithReceipt>("/v1/logs?receipt=true", event(1));
    expect(status).toBe(201);
    expect((await recorded(body)).opened.event).toEqual(event(1));
    const preferred = await api.post<WithReceipt>("/v1/logs", event(2), { prefer: "wait=5, return=receipt" });
    expect(preferred.headers["preference-applied"]).toBe("return=receipt");
    await recorded(preferred.body);
    const without = await api.post<WithReceipt>("/v1/logs?receipt=false", event(3));
    expect(without.body).not.toHaveProperty("receipt");
  });

  test("refuses a receipt parameter it does not understand", async () => {
    const { status, body } = await api.post("/v1/logs?receipt=yes", event(1));
    expect(status).toBe(400);
    expect(body.errors).toMatchObject([{ path: "receipt" }]);
  });

  test("has receipts of a bulk request in order, over several tiles, and of those that were there already", async () => {
    const events = Array.from({ length: 700 }, (_, i) => ({ ...event(i), idempotency_key: `bulk-${i}` }));
    const first = await api.post<{ data: WithReceipt[] }>("/v1/logs/bulk?receipt=true", events.slice(0, 600));
    expect(first.status).toBe(201);
    for (const [i, head] of first.body.data.entries())
      expect((await recorded(head)).opened.event.actor).toEqual(events[i]!.actor);
    const again = await api.post<{ data: WithReceipt[] }>("/v1/logs/bulk?receipt=true", events.slice(590));
    expect(again.body.data.map(({ duplicate }) => duplicate)).toEqual(events.slice(590).map((_, i) => i < 10));
    for (const head of again.body.data) await recorded(head);
  });

  test("has receipts of a bulk request that was recorded before as a whole", async () => {
    const events = Array.from({ length: 2_000 }, (_, i) => ({ ...event(i), idempotency_key: `again-${i}` }));
    await api.recordAll(events);
    const again = await api.post<{ data: WithReceipt[] }>("/v1/logs/bulk?receipt=true", events);
    expect(again.body.data.every(({ duplicate, receipt }) => duplicate && receipt !== null)).toBe(true);
    for (const head of [again.body.data[0]!, again.body.data[1_999]!]) await recorded(head);
  });

  test("has a receipt for each event of a partial request that was recorded", async () => {
    const answer = await api.post<{ data: WithReceipt[] }>("/v1/logs/bulk?partial=true&receipt=true", [
      event(1),
      { action: "no actor", actor: {} },
      event(2),
    ]);
    expect(answer.status).toBe(207);
    const [first, refused, last] = answer.body.data;
    expect(refused).toMatchObject({ status: 400 });
    await recorded(first!);
    await recorded(last!);
  });

  test("has receipts for many writers at once", async () => {
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, i) => api.post<WithReceipt>("/v1/logs?receipt=true", event(i))),
    );
    for (const { body } of answers) await recorded(body);
    const sizes = new Set(
      await Promise.all(answers.map(async ({ body }) => (await verified(body.receipt!)).checkpoint.size)),
    );
    expect(sizes.size).toBeLessThan(150); // those that wait together share a checkpoint
  });
});

describe("GET /v1/logs/{id}/receipt", () => {
  test("is for the newest checkpoint, or any kept one that has the entry", async () => {
    const head = await api.record(event(1));
    const newest = await api.get(`/v1/logs/${head.id}/receipt`);
    expect(newest.headers["content-type"]).toBe("text/plain; charset=utf-8");
    const { checkpoint } = await verified(newest.text);
    await api.record(event(2));
    await until(async () => (await newestSize()) > checkpoint.size);
    const kept = await api.get(`/v1/logs/${head.id}/receipt?tree_size=${checkpoint.size}`);
    expect(kept.text).toBe(newest.text);
    expect((await verified((await api.get(`/v1/logs/${head.id}/receipt`)).text)).checkpoint.size).toBeGreaterThan(
      checkpoint.size,
    );
  });

  test("is there for an entry that was recorded while a checkpoint was being signed", async () => {
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let i = 0; i < 25; i++) {
          const { id, seq } = await api.record(event(i));
          const receipt = await api.get(`/v1/logs/${id}/receipt`);
          expect((await verified(receipt.text)).checkpoint.size).toBeGreaterThan(seq);
        }
      }),
    );
  });

  test("says which checkpoints there are not", async () => {
    const head = await api.record(event(1));
    const path = `/v1/logs/${head.id}/receipt`;
    expect(await api.get(`${path}?tree_size=999999999`)).toMatchObject({ status: 404 });
    expect((await api.get(`${path}?tree_size=007`)).body.errors).toMatchObject([{ path: "tree_size" }]);
    const first = await database.superuser.query("select min(size) as size from tallystick.checkpoints where size > 0");
    expect(await api.get(`${path}?tree_size=${first.rows[0].size}`)).toMatchObject({ status: 400 });
    expect(await api.get("/v1/logs/01a20403-9611-7c6c-b548-11acf064acfd/receipt")).toMatchObject({ status: 404 });
  });

  test("leaves an erased value out, and still verifies", async () => {
    const head = await api.record(event(7));
    expect((await verified((await api.get(`/v1/logs/${head.id}/receipt`)).text)).opened.event.actor.name).toBe("Ann 7");
    await database.superuser.query("delete from tallystick.openings where seq = $1", [head.seq]);
    const { opened } = await verified((await api.get(`/v1/logs/${head.id}/receipt`)).text);
    expect(opened.event.actor.name).toMatchObject({ $committed: expect.any(String) });
  });

  test("is not made up where the stored leaf was changed", async () => {
    const tenant = "changed";
    await server.operator.post("/v1/tenants", { slug: tenant });
    const operator = server.operator.with({ "x-tenant-id": tenant });
    const head = await operator.record({ action: "a.b", actor: { id: "x" } });
    const log = (await database.tenants.find(tenant))!;
    await database.tamper("update tallystick.entries set leaf = replace(leaf, 'a.b', 'a.c') where log_id = $1", [
      log.logId,
    ]);
    const answer = await operator.get(`/v1/logs/${head.id}/receipt`);
    expect(answer).toMatchObject({ status: 503, body: { detail: expect.stringContaining("entry 0 of") } });
  });
});

async function newestSize(): Promise<number> {
  const { text } = await api.get(`${LOG}/checkpoint`);
  return openCheckpoint(text, await logKey(), (await logKey()).name).size;
}

describe("consistency", () => {
  test("is proved between any two kept checkpoints, and from any older tree to one", async () => {
    for (let i = 0; i < 6; i++) {
      const before = await newestSize();
      await api.recordAll(Array.from({ length: 1 + i * 90 }, (_, j) => event(j)));
      await until(async () => (await newestSize()) > before);
    }
    const { rows } = await database.superuser.query<{ size: string; note: string }>(
      "select size, note from tallystick.checkpoints where log_id = 1 order by size",
    );
    expect(rows.length).toBeGreaterThan(6);
    const key = await logKey();
    for (const older of rows.slice(-12)) {
      for (const newer of rows.slice(-12)) {
        if (Number(older.size) > Number(newer.size)) continue;
        const { body } = await api.get<{
          from: { checkpoint: string };
          to: { checkpoint: string };
          proof: string[];
        }>(`${LOG}/consistency?from=${older.size}&to=${newer.size}`);
        const [from, to] = [older, newer].map(({ note }) => openCheckpoint(note, key, key.name));
        expect([body.from.checkpoint, body.to.checkpoint]).toEqual([older.note, newer.note]);
        verifyConsistency({
          oldSize: from!.size,
          newSize: to!.size,
          oldRoot: from!.root,
          newRoot: to!.root,
          proof: body.proof.map(fromBase64),
        });
      }
    }
  });

  test("refuses sizes that are not signed, or the wrong way round", async () => {
    expect((await api.get(`${LOG}/consistency`)).body.errors).toMatchObject([{ path: "from" }]);
    expect((await api.get(`${LOG}/consistency?from=0&to=99999999`)).body.errors).toMatchObject([{ path: "to" }]);
    expect((await api.get(`${LOG}/consistency?from=5&to=3`)).body.errors).toMatchObject([{ path: "from" }]);
  });
});
