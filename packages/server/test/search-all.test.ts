/** All entries that match, where pages may take too long: the whole search goes on, over fewer positions at a time. */
import { type Filter, NO_FILTER } from "@tallystick/core/filter";
import { filterOf } from "@tallystick/core/filter-parameters";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SearchTimeoutError } from "../src/log/find.ts";
import { Reader } from "../src/log/reader.ts";
import { LogSearch } from "../src/log/search.ts";
import type { TenantLog } from "../src/log/tenants.ts";
import { append, TestDatabase, testSequencer } from "../src/testing/log.ts";

const SIZE = 1_200;

let db: TestDatabase;
let log: TenantLog;
beforeAll(async () => {
  db = await TestDatabase.create();
  log = await db.tenant();
  const events = Array.from({ length: SIZE }, (_, n) => ({ action: "order.ship", actor: { id: `u-${n % 400}` } }));
  await append(testSequencer(db.database), log, events);
});
afterAll(() => db.close());

/** A reader for which anything is too much that goes over more positions than this, and what it was asked for. */
function readerOf(most: number, fail: () => unknown = () => new SearchTimeoutError()) {
  const reader = new Reader(db.database);
  const spans: number[] = [];
  const page: Reader["page"] = async (log, filter, options) => {
    const span = options.before! - options.after!.seq - 1;
    spans.push(span);
    if (span > most) throw fail();
    return reader.page(log, filter, options);
  };
  return { spans, search: new LogSearch(db.database, { page }) };
}

async function found(search: LogSearch, filter: Filter, range: { from: number; to: number }): Promise<number[]> {
  const all: number[] = [];
  for await (const entries of search.entries(log, { filter, ...range })) {
    expect(entries.length).toBeGreaterThan(0);
    all.push(...entries.map(({ seq }) => seq));
  }
  return all;
}

const rare = filterOf({ actor_id: "u-7" }, []);
// Of the positions behind the log's end there is nothing, and they are looked through all the same.
const range = { from: 5, to: 100_000 };

describe("LogSearch.entries()", () => {
  test.each([
    ["a page that was stopped by the reader", () => new SearchTimeoutError()],
    ["a statement that was stopped by PostgreSQL", () => Object.assign(new Error("canceled"), { code: "57014" })],
  ])("goes over fewer positions after %s, and finds the same", async (_, fail) => {
    const { search, spans } = readerOf(3_000, fail);
    expect(await found(search, rare, range)).toEqual([7, 407, 807]);
    expect(Math.max(...spans)).toBeGreaterThan(3_000);
    const all = await found(readerOf(3_000).search, NO_FILTER, { from: 5, to: SIZE });
    expect(all).toEqual(Array.from({ length: SIZE - 5 }, (_, n) => n + 5));
  });

  test("goes over more positions while pages are quick", async () => {
    const { search, spans } = readerOf(Number.POSITIVE_INFINITY);
    expect(await found(search, rare, { from: 0, to: 1_000_000 })).toEqual([7, 407, 807]);
    expect(spans.length).toBeLessThan(12);
  });

  test("fails where even the fewest are too many, and with whatever else goes wrong", async () => {
    await expect(found(readerOf(100).search, rare, range)).rejects.toBeInstanceOf(SearchTimeoutError);
    const lost = readerOf(100, () => new Error("lost"));
    await expect(found(lost.search, rare, range)).rejects.toThrow("lost");
  });

  test("ends when nobody waits for it any more, also where nothing was found", async () => {
    const gone = new AbortController();
    const { search, spans } = readerOf(Number.POSITIVE_INFINITY);
    const all = search.entries(log, { filter: NO_FILTER, from: 0, to: SIZE, signal: gone.signal });
    expect((await all.next()).done).toBe(false);
    gone.abort(new Error("gone"));
    await expect(all.next()).rejects.toThrow("gone");
    expect(spans.length).toBeLessThanOrEqual(2);
  });
});
