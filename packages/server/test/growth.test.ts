/**
 * The growth signal, between processes of one database: a wake-up that comes, comes once for many commits, and may be lost.
 */
import { once } from "node:events";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Growth, type GrowthOptions } from "../src/stream/growth.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { until } from "../src/testing/server.ts";

let db: TestDatabase;
const opened: Growth[] = [];

beforeAll(async () => {
  db = await TestDatabase.create();
});
afterEach(async () => {
  for (const growth of opened.splice(0)) await growth.stop();
});
afterAll(async () => {
  await db.close();
});

/** A signal as a server has it, once it listens, and what it has told its listeners. */
async function open(options: Partial<GrowthOptions> = {}) {
  const heard: number[] = [];
  const errors: unknown[] = [];
  let listening = 0;
  const growth = new Growth({
    url: () => db.url("tallystick_writer"),
    send: (statement, values) => db.database.query(statement, values),
    onError: (error) => errors.push(error),
    onListening: () => listening++,
    ...options,
  });
  opened.push(growth);
  growth.onGrowth((logId) => heard.push(logId));
  growth.start();
  if (!("url" in options)) await until(() => listening > 0);
  return { growth, heard, errors, listening: () => listening };
}

test("what one server records wakes the followers of another, and its own once", async () => {
  const [a, b] = await Promise.all([open(), open()]);
  a.growth.grew(7);
  await until(() => b.heard.includes(7));
  expect(a.heard).toEqual([7]); // its own notification says nothing new
  b.growth.grew(8);
  await until(() => a.heard.includes(8));
  expect(a.heard).toEqual([7, 8]);
  expect(b.heard).toEqual([7, 8]);
});

test("many commits are told together, each log once", async () => {
  const sent: string[] = [];
  const a = await open({ send: async (_, values) => void sent.push(values[1]!) });
  for (let round = 0; round < 1_000; round++) for (const logId of [1, 2, 3]) a.growth.grew(logId);
  await until(() => sent.length > 0);
  expect(a.heard).toEqual([1, 2, 3]);
  expect(sent).toEqual([expect.stringMatching(/^[0-9a-f]{16}:1,2,3$/)]);
  // Of more logs than a payload holds, several are sent.
  for (let logId = 0; logId < 1_200; logId++) a.growth.grew(100_000 + logId);
  await until(() => sent.length === 4);
  for (const payload of sent) expect(payload.length).toBeLessThan(8_000);
});

test("it listens again after its connection was ended, and says so once", async () => {
  const [a, b] = await Promise.all([open(), open()]);
  const ended = once(db.superuser, "notification");
  await db.superuser.query("listen tallystick_growth");
  await db.superuser.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tallystick listener' and datname = current_database()",
  );
  await until(() => a.listening() === 2 && b.listening() === 2);
  expect(a.errors).toHaveLength(1);
  a.growth.grew(9);
  await until(() => b.heard.includes(9));
  await ended;
  await db.superuser.query("unlisten *");
});

test("a payload that is not one of ours wakes nobody and harms nothing", async () => {
  const a = await open();
  for (const payload of ["", ":", "x", "x:,,", "x:abc,1e999,-", "x:5"]) {
    await db.superuser.query("select pg_notify('tallystick_growth', $1)", [payload]);
  }
  await until(() => a.heard.length > 0);
  expect(a.heard).toEqual([5]);
});

test("without LISTEN its own commits are told, and a listener that has gone is told nothing", async () => {
  const a = await open({ url: undefined });
  const other: number[] = [];
  const stop = a.growth.onGrowth((logId) => other.push(logId));
  a.growth.grew(1);
  await until(() => a.heard.length === 1);
  stop();
  a.growth.grew(2);
  await until(() => a.heard.length === 2);
  expect(other).toEqual([1]);
  expect(a.errors).toEqual([]);
});
