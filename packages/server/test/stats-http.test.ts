/** GET /v1/logs/stats and /v1/logs/history, with the worker beside them. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Answer, Api, Problem } from "../src/testing/api.ts";
import { indexLog } from "../src/testing/indexing.ts";
import { TestDatabase } from "../src/testing/log.ts";
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

async function apiOfNewTenant(): Promise<{ api: Api; slug: string }> {
  const { slug } = await database.tenant();
  const api = server.api.as({ authorization: `Bearer ${await database.newKey(slug)}` });
  return { api, slug };
}

interface Stats {
  readonly as_of: { readonly size: number; readonly recorded_at: string | null };
  readonly rolled_up: number;
  readonly entries: number;
  readonly values?: readonly { readonly value: string; readonly entries: number }[];
  readonly other?: number;
  readonly without?: number;
  readonly buckets?: readonly Readonly<Record<string, unknown>>[];
}

async function stats(api: Api, query: string): Promise<Stats> {
  const answer = await api.get<Stats>(`/v1/logs/stats?${query}`);
  expect(answer.status, answer.text).toBe(200);
  return answer.body;
}

describe("statistics", () => {
  test("count what was acknowledged, rolled up or not", async () => {
    const { api, slug } = await apiOfNewTenant();
    const event = (n: number) => ({
      action: `order.${["create", "update", "ship"][n % 3]}`,
      actor: { id: `u-${n % 20}` },
      ...(n % 2 === 0 && { resource: { type: "order", id: `${n}` } }),
    });
    for (let n = 0; n < 700; n += 100) await api.recordAll(Array.from({ length: 100 }, (_, i) => event(n + i)));
    const counted = await stats(api, "by=action&interval=hour&time_zone=Asia/Kathmandu");
    expect(counted).toMatchObject({
      as_of: { size: 700 },
      entries: 700,
      values: [
        { value: "order.create", entries: 234 },
        { value: "order.update", entries: 233 },
        { value: "order.ship", entries: 233 },
      ],
      other: 0,
      without: 0,
    });
    const log = (await database.tenants.find(slug))!;
    await until(async () => (await stats(api, "")).rolled_up === 512, { what: "two segments are rolled up" });
    expect(await stats(api, "by=action&interval=hour&time_zone=Asia/Kathmandu")).toEqual({
      ...counted,
      rolled_up: 512,
    });
    expect(await stats(api, "by=resource_type&top=1")).toMatchObject({
      values: [{ value: "order", entries: 350 }],
      other: 0,
      without: 350,
    });
    expect(await stats(api, "by=actor&top=3")).toMatchObject({
      values: ["u-0", "u-1", "u-2"].map((value) => ({ value, entries: 35 })),
      other: 595,
    });
    // Of anything but the one field: entry by entry.
    expect(await stats(api, "by=action&actor_id=u-3&resource_type=order")).toMatchObject({ entries: 0, values: [] });
    expect(await stats(api, "by=action&actor_id=u-3")).toMatchObject({ entries: 35, other: 0, without: 0 });

    // What was taken away is made again with the next entries, whichever part it is.
    for (const tables of ["rollups, tallystick.rollup_values", "text_segments"]) {
      await database.tamper(`truncate tallystick.${tables}`);
      if (tables === "text_segments") await database.tamper("delete from tallystick.text_openings");
      await api.recordAll(Array.from({ length: 256 }, (_, i) => event(i)));
      await indexLog(database.database, log);
    }
    // Where the server's own worker has just taken the log, it is the one that goes on.
    await until(async () => (await stats(api, "")).rolled_up === 1_024, {
      what: "all whole segments are rolled up again",
    });
    const again = await stats(api, "by=severity");
    expect(again).toMatchObject({ entries: 1_212, values: [{ value: "INFO", entries: 1_212 }] });
  });

  test("of an empty log are zeros", async () => {
    const { api } = await apiOfNewTenant();
    const nothing = { as_of: { size: 0, recorded_at: null }, rolled_up: 0, entries: 0 };
    expect(await stats(api, "")).toMatchObject({ ...nothing, from: null, to: null });
    expect(await stats(api, "interval=day&by=actor")).toMatchObject({ ...nothing, values: [], buckets: [] });
    const days = await stats(api, "interval=day&by=actor&from=2026-03-07&to=2026-03-08&time_zone=America/New_York");
    expect(days).toMatchObject({
      ...nothing,
      buckets: [
        { start: "2026-03-06T05:00:00.000000Z", local: "2026-03-06T00:00:00", entries: 0, counts: [] },
        { start: "2026-03-07T05:00:00.000000Z", local: "2026-03-07T00:00:00", entries: 0, other: 0, without: 0 },
        { start: "2026-03-08T05:00:00.000000Z", local: "2026-03-08T00:00:00", entries: 0 },
      ],
    });
  });

  test("say where and what would be right", async () => {
    const refused = async (query: string) => {
      const answer: Answer<Problem> = await server.api.get(`/v1/logs/stats?${query}`);
      expect(answer.status, query).toBe(400);
      return answer.body.errors!.map(({ path, message }) => `${path} ${message}`).join("\n");
    };
    for (const zone of ["Mars/Olympus", "%2B05:30", "FOO5", ":", "1", "Europe/Berlin;drop"]) {
      expect(await refused(`time_zone=${zone}`)).toMatch(/^time_zone must be the IANA name of a time zone such as/);
    }
    expect(await refused("interval=year")).toBe("interval must be one of minute, hour, day, week, month");
    expect(await refused("by=metadata")).toMatch(/^by must be one of action, actor/);
    expect(await refused("top=0")).toBe('top must be a whole number from 1 to 100, not "0"');
    expect(await refused("top=101")).toMatch(/^top must be a whole number from 1 to 100/);
    expect(await refused("from=yesterday")).toMatch(/^from must be an RFC 3339 time such as .*, not "yesterday"$/);
    expect(await refused("q=colour:red")).toMatch(/^q character 1: "colour" is no field/);
    for (const interval of [
      "minute&from=2026-01-01&to=2026-01-03",
      "hour&from=2026-01-01&to=2026-03-31",
      "day&from=1900-01-01&to=2026-01-01",
    ]) {
      expect(await refused(`interval=${interval}`)).toMatch(
        /^interval must be longer than \w+, or from and to closer together: .* 2000/,
      );
    }
    expect(await refused("time_zone=x&top=x&by=action")).toMatch(/^top must/);
  });
});

interface History {
  readonly last_set?: { readonly actor: { readonly id: string }; readonly after?: unknown } | null;
  readonly data: readonly { readonly seq: number; readonly before?: unknown; readonly after?: unknown }[];
  readonly next_cursor: string | null;
}

describe("the history of a field", () => {
  const history = async (api: Api, query: string): Promise<History> => {
    const answer = await api.get<History>(`/v1/logs/history?${query}`);
    expect(answer.status, answer.text).toBe(200);
    return answer.body;
  };

  test("is every change, the newest first, in pages", async () => {
    const { api } = await apiOfNewTenant();
    const change = (actor: string, changes: object, id = "o-17", more: object = {}) => ({
      ...{ action: "order.update", actor: { id: actor }, resource: { type: "order", id }, changes, ...more },
    });
    const heads = await api.recordAll([
      change("alice", { after: { status: "new", "a.b": { c: 1 } } }),
      change("bob", { before: { status: "new" }, after: { status: "paid" } }),
      change("bob", { before: { status: "x" }, after: { status: "y" } }, "o-18"),
      { action: "order.view", actor: { id: "eve" }, resource: { type: "order", id: "o-17" } },
      change("carol", { before: { status: "paid", note: null }, after: { status: "paid", note: ["a"] } }),
      change("dan", { before: { status: "q" }, after: { status: "r" } }, "c-1", {
        resource: { type: "customer", id: "c-1" },
        related: [{ type: "order", id: "o-17" }],
      }),
      change("erin", { before: { status: "paid" }, after: { total: 3 } }),
    ]);
    expect(await history(api, "resource=order:o-17&field=status")).toMatchObject({
      last_set: { actor: { id: "erin" }, before: "paid", action: "order.update" },
      data: [
        { seq: 6, id: heads[6]!.id, before: "paid" },
        { seq: 1, before: "new", after: "paid" },
        { seq: 0, after: "new" },
      ],
      next_cursor: null,
    });
    const seqs: number[] = [];
    let next: string | null = "";
    for (let pages = 0; next !== null; pages++) {
      const path: string = next === "" ? "" : `&cursor=${next}`;
      const page = await history(api, `resource=order:o-17&field=status&limit=1${path}`);
      expect("last_set" in page).toBe(pages === 0);
      seqs.push(...page.data.map(({ seq }) => seq));
      next = page.next_cursor;
    }
    expect(seqs).toEqual([6, 1, 0]);
    expect((await history(api, "resource=order:o-17&field=note")).data).toMatchObject([{ before: null, after: ["a"] }]);
    expect((await history(api, "resource=order:o-17&field=note.0")).data).toMatchObject([{ after: "a" }]);
    expect((await history(api, 'resource=order:o-17&field="a.b".c')).data).toMatchObject([{ after: 1 }]);
    expect(await history(api, "resource=order:o-17&field=length")).toEqual({
      last_set: null,
      data: [],
      next_cursor: null,
    });
    expect((await history(api, `resource=order:o-17&field=status&to=${heads[1]!.recorded_at}`)).data).toEqual([]);
  });

  test("says where and what would be right", async () => {
    const { api } = await apiOfNewTenant();
    const events = Array.from({ length: 3 }, (_, n) => ({
      ...{ action: "a.b", actor: { id: "u" }, resource: { type: "t", id: "1" }, changes: { after: { n } } },
    }));
    await api.recordAll(events);
    const { next_cursor } = await history(api, "resource=t:1&field=n&limit=1");
    const refused = async (query: string) => {
      const { status, body }: Answer<Problem> = await api.get(`/v1/logs/history?${query}`);
      expect(status, query).toBe(400);
      return body.errors!.map(({ path, message }) => `${path} ${message}`).join("\n");
    };
    expect(await refused("resource=t:1")).toMatch(/^field/);
    expect(await refused("field=n")).toMatch(/^resource/);
    for (const resource of ["t", "t:", ":1"]) {
      expect(await refused(`resource=${resource}&field=n`)).toMatch(/^resource must be type:id, as in order:o-17, not/);
    }
    for (const field of [".", "a.", ".a", "a..b", '"a', 'a"b', '"a"b']) {
      expect(await refused(`resource=t:1&field=${encodeURIComponent(field)}`)).toMatch(/^field must be a path of keys/);
    }
    expect(await refused("resource=t:1&field=n&limit=0")).toMatch(/^limit must be a whole number from 1 to 1000/);
    expect(await refused("resource=t:1&field=n&from=2026-13-01")).toMatch(/^from must be/);
    expect(await refused("resource=t:1&field=n&cursor=x")).toMatch(/^cursor must be a next_cursor, unchanged/);
    expect(await refused(`resource=t:1&field=m&cursor=${next_cursor}`)).toMatch(/^cursor is another list's/);
    const list = await api.get<History>("/v1/logs?limit=1");
    expect(await refused(`resource=t:1&field=n&cursor=${list.body.next_cursor}`)).toMatch(/^cursor is another list's/);
  });
});
