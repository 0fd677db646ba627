import { randomBytes } from "node:crypto";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Answer, Api, Problem } from "../src/testing/api.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";
import type { VerifyReport } from "../src/verify/report.ts";
import type { Verification } from "../src/verify/verifications.ts";

let db: TestDatabase;
let server: TestServer;
let api: Api;
beforeAll(async () => {
  db = await TestDatabase.create();
  server = await startTestServer(databaseSettings(db));
  api = server.api;
  await api.recordAll(Array.from({ length: 300 }, (_, i) => ({ ...event, actor: { id: `user-${i}` } })));
});
afterAll(async () => {
  await stopTestServers();
  await db.close();
});

const event = { action: "order.create", actor: { id: "alice" }, service_id: "orders" };
const PATH = "/v1/admin/verify-chain";
const UUID = "01890000-0000-7000-8000-000000000000";

/** Any of the three answers. */
type Any = Omit<Verification, "status"> & VerifyReport & Omit<Problem, "status"> & { readonly status: unknown };
const verify = (wait: string, path = PATH, by: Api = api) => by.post<Any>(path, undefined, { prefer: wait });
const state = async (id: string, by: Api = api) => {
  const answer = await by.get<Verification>(`/v1/admin/verifications/${id}`);
  expect(answer.status, answer.text).toBe(200);
  return answer.body;
};
const ended = async (id: string, by: Api = api, deadlineMs = 20_000): Promise<Verification> => {
  let newest: Verification | undefined;
  await until(
    async () => {
      newest = await state(id, by);
      return newest.status !== "queued" && newest.status !== "running";
    },
    { what: `verification ${id} ends`, deadlineMs },
  );
  return newest!;
};

/** Keeps every verification from going on, as long as `work` runs. */
async function whileBlocked<T>(work: (release: () => Promise<void>) => Promise<T>): Promise<T> {
  const blocker = new pg.Client(db.url());
  await blocker.connect();
  let held = true;
  const release = async () => {
    if (held) await blocker.query("rollback");
    held = false;
  };
  try {
    await blocker.query("begin; lock table tallystick.tiles in access exclusive mode");
    return await work(release);
  } finally {
    await release();
    await blocker.end();
  }
}

describe("Prefer: wait", () => {
  test("is answered by the report where that is there in time", async () => {
    const answer = await verify("wait=30");
    expect(answer.status, answer.text).toBe(200);
    expect(answer.headers["preference-applied"]).toBe("wait=30");
    expect(answer.body).toMatchObject({ ok: true, tenant: "default", size: 300, checked: 300, problems: [] });
  });

  test("is answered by 202 and where to ask where it is not, and the verification goes on", async () => {
    const started = await whileBlocked(async (release) => {
      const answer = await verify("wait=1");
      expect(answer.status, answer.text).toBe(202);
      expect(answer.headers["preference-applied"]).toBe("wait=1");
      expect(answer.headers.location).toBe(`/v1/admin/verifications/${answer.body.id}`);
      expect(answer.body).toMatchObject({ status: "running", service_id: null, ok: null, finished_at: null });
      expect(answer.body.log).toMatch(/\/default$/);
      expect(await state(answer.body.id)).toMatchObject({ status: "running" });
      await release();
      return answer.body;
    });
    const done = await ended(started.id);
    expect(done).toMatchObject({
      status: "done",
      ok: true,
      progress: { checked: 301, size: 301 }, // with the entry of the verification before
      report: { ok: true, tenant: "default", checked: 301 },
    });
    expect(done.started_at! <= done.finished_at!).toBe(true);
  });

  test("respond-async does not wait; another preference, or one that makes no sense, changes nothing", async () => {
    const answer = await verify("respond-async");
    expect(answer.status).toBe(202);
    expect(answer.headers["preference-applied"]).toBe("respond-async");
    expect(["queued", "running", "done"]).toContain(answer.body.status);
    expect((await ended(answer.body.id)).status).toBe("done");
    expect((await verify('respond-async, wait="20"')).headers["preference-applied"]).toBe("wait=20");
    expect((await verify("foo; bar=1, Wait = 7")).headers["preference-applied"]).toBe("wait=7");
    expect((await verify("wait=100000")).headers["preference-applied"]).toBe("wait=600");
    for (const prefer of ["return=minimal", "wait=soon", "wait=-1", ""]) {
      const plain = await verify(prefer);
      expect([prefer, plain.status, plain.headers["preference-applied"]]).toEqual([prefer, 200, undefined]);
      expect(plain.body.ok).toBe(true);
    }
  });

  test("of a service, and of one that is not there", async () => {
    const good = await verify("wait=30", `${PATH}?service_id=orders`);
    expect(good.body).toMatchObject({ ok: true, checked: 300 });
    const typo = await verify("wait=30", `${PATH}?service_id=ordres`);
    expect(typo.status).toBe(404);
    expect(typo.body.detail).toContain("ordres");
    const later = await verify("wait=0", `${PATH}?service_id=ordres`);
    expect(later.status).toBe(202);
    const failed = await ended(later.body.id);
    expect(failed).toMatchObject({
      status: "failed",
      service_id: "ordres",
      problem: { type: "urn:tallystick:problem:not-found", status: 404 },
    });
  });

  test("names what was tampered with", async () => {
    const slug = await tenant();
    const own = server.operator.with({ "x-tenant-id": slug });
    const { seq, id } = await own.record(event);
    await db.tamper(
      `update tallystick.entries set action = 'x' where seq = ${seq} and log_id = (select id from tallystick.logs where slug = '${slug}')`,
    );
    const { body } = await verify("respond-async", PATH, own);
    expect(await ended(body.id, own)).toMatchObject({
      status: "done",
      ok: false,
      report: {
        ok: false,
        tenant: slug,
        problems: [{ seq, id, field: "action", stored: "x", expected: "order.create" }],
      },
    });
  });
});

describe("verifications", () => {
  test("are the tenant's own, and take the scope verify", async () => {
    const { body } = await verify("respond-async");
    const other = server.operator.with({ "x-tenant-id": await tenant() });
    expect((await other.get(`/v1/admin/verifications/${body.id}`)).status).toBe(404);
    expect((await api.get(`/v1/admin/verifications/${UUID}`)).status).toBe(404);
    expect((await api.get("/v1/admin/verifications/x")).status).toBe(400);
    expect((await other.get<{ data: unknown[] }>("/v1/admin/verifications")).body.data).toEqual([]);
    const listed = await api.get<{ data: Verification[] }>("/v1/admin/verifications");
    expect(listed.body.data[0]).toMatchObject({ id: body.id });
    expect(listed.body.data[0]).not.toHaveProperty("report");
    const created = await api.post<{ secret: string }>("/v1/admin/api-keys", { name: "reader", scopes: ["read"] });
    const reader = api.as({ authorization: `Bearer ${created.body.secret}` });
    expect((await reader.get("/v1/admin/verifications")).status).toBe(403);
    expect((await reader.get(`/v1/admin/verifications/${body.id}`)).status).toBe(403);
    await ended(body.id);
  });

  test("go on when the client goes away; without Prefer they do not", async () => {
    await whileBlocked(async (release) => {
      const gone = new AbortController();
      const asked = fetch(server.url + PATH, {
        method: "POST",
        headers: { ...api.headers, prefer: "wait=60" },
        signal: gone.signal,
      });
      let newest: Verification | undefined;
      await until(async () => {
        newest = (await api.get<{ data: Verification[] }>("/v1/admin/verifications")).body.data[0];
        return newest?.status === "running";
      });
      gone.abort();
      await expect(asked).rejects.toThrow();
      await release();
      expect((await ended(newest!.id)).status).toBe("done");
    });
  });

  test("are bounded: three of a tenant, twenty of a server", async () => {
    await whileBlocked(async (release) => {
      const all: [Api, Answer<Any>][] = [];
      const take = async (by: Api) => {
        const answer = await verify("respond-async", PATH, by);
        if (answer.status === 202) all.push([by, answer]);
        return answer;
      };
      for (let i = 0; i < 3; i++) expect((await take(api)).status).toBe(202);
      const fourth = await take(api);
      expect(fourth.status).toBe(429);
      expect(fourth.headers["retry-after"]).toBe("10");
      for (let i = 3; i < 20; i++) {
        expect((await take(server.operator.with({ "x-tenant-id": await tenant() }))).status).toBe(202);
      }
      const beyond = await take(server.operator.with({ "x-tenant-id": await tenant() }));
      expect(beyond.status).toBe(503);
      expect(beyond.headers["retry-after"]).toBe("10");
      await release();
      for (const [by, { body }] of all) expect((await ended(body.id, by)).status).toBe("done");
    });
    expect((await verify("wait=30")).status).toBe(200);
  });

  test("only the newest hundred of a tenant are kept", async () => {
    const slug = await tenant();
    const own = server.operator.with({ "x-tenant-id": slug });
    await db.superuser.query(
      `insert into tallystick.verifications (tenant_id, log_id, status, finished_at, report)
       select tenant_id, id, 'done', now(), '{"ok":true}' from tallystick.logs cross join generate_series(1, 150) where slug = $1`,
      [slug],
    );
    const { body } = await verify("respond-async", PATH, own);
    await ended(body.id, own);
    const { data } = (await own.get<{ data: Verification[] }>("/v1/admin/verifications")).body;
    expect(data.length).toBe(100);
    expect(data[0]!.id).toBe(body.id);
    const { rows } = await db.superuser.query(
      "select from tallystick.verifications v join tallystick.logs l on l.id = v.log_id where l.slug = $1",
      [slug],
    );
    expect(rows.length).toBe(100);
  });
});

describe("servers", () => {
  test("any of them tells of a verification; one that stops says that it is lost, and answers who waits", async () => {
    const other = await startTestServer({ ...databaseSettings(db), API_KEY: server.credentials.api_key });
    await whileBlocked(async () => {
      const { body } = await verify("respond-async", PATH, other.api);
      const queued = await verify("respond-async", PATH, other.api);
      await until(async () => (await state(body.id)).status === "running");
      expect((await state(queued.body.id)).status).toBe("queued");
      const waiting = verify("wait=600", PATH, other.api);
      await until(async () => (await liveOnes()).length === 3);
      expect(await other.stop()).toBe(0);
      const answer = await waiting;
      expect(answer.status).toBe(503);
      expect(answer.body.detail).toContain("stopped");
      for (const { id } of [body, queued.body]) {
        expect(await state(id)).toMatchObject({
          status: "lost",
          problem: { detail: expect.stringContaining("stopped") },
        });
      }
    });
  });

  test("a server that is killed leaves verifications that read as lost", async () => {
    const other = await startTestServer({ ...databaseSettings(db), API_KEY: server.credentials.api_key });
    await whileBlocked(async () => {
      const { body } = await verify("respond-async", PATH, other.api);
      await until(async () => (await state(body.id)).status === "running");
      await other.kill();
      expect((await state(body.id)).status).toBe("running");
      expect(await ended(body.id, api, 30_000)).toMatchObject({
        status: "lost",
        finished_at: null,
        problem: { detail: expect.stringContaining("died") },
      });
    });
  });
});

async function liveOnes(): Promise<Verification[]> {
  const { data } = (await api.get<{ data: Verification[] }>("/v1/admin/verifications")).body;
  return data.filter(({ status }) => status === "queued" || status === "running");
}

async function tenant(): Promise<string> {
  const slug = `t-${randomBytes(5).toString("hex")}`;
  const answer = await server.operator.post("/v1/tenants", { slug });
  expect(answer.status, answer.text).toBe(201);
  return slug;
}
