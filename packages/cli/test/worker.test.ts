/**
 * `tallystick worker`, killed at any moment: the index has everything once, and is what it would be without a kill.
 */

import type { TenantLog } from "@tallystick/server/log/tenants";
import { indexLog } from "@tallystick/server/testing/indexing";
import { randomFrom } from "@tallystick/server/testing/load";
import { append, checkLog, TestDatabase, type TestEvent, testSequencer } from "@tallystick/server/testing/log";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cleanUp, type Program, start, temporaryDirectory } from "./cli.ts";

const SEED = Number(process.env.TALLYSTICK_TEST_SEED ?? Date.now() % 2 ** 31);
/** TALLYSTICK_TEST_KILLS=200 makes it a long campaign. */
const KILLS = Number(process.env.TALLYSTICK_TEST_KILLS ?? 6);
const ENTRIES_A_KILL = 3_000;
const LOGS = 3;

let db: TestDatabase;
beforeAll(async () => {
  db = await TestDatabase.create();
});
afterAll(async () => {
  await cleanUp();
  await db.close();
});

const WORDS = ["shipped", "order", "gold", "東京都に出荷", "refund", "Ångström", "late", "42", "1234"];

function eventOf(n: number, random: () => number): TestEvent {
  const word = () => WORDS[Math.floor(random() * WORDS.length)]!;
  return {
    action: "order.ship",
    actor: { id: `u-${n % 5}`, ...(n % 4 === 0 && { name: `${word()} ${word()}`, email: "a@example.com" }) },
    description: `${word()} ${word()} ${word()}`,
    metadata: { plan: word(), n },
    ...(n % 8 === 0 && { context: { ip: `10.0.${n % 200}.1` } }),
  };
}

test(`kill -9, ${KILLS} times while entries are recorded and erased (seed ${SEED})`, {
  timeout: 60_000 + KILLS * 10_000,
}, async () => {
  const random = randomFrom(SEED);
  const sequencer = testSequencer(db.database);
  const logs: TenantLog[] = [];
  for (let n = 0; n < LOGS; n++) logs.push(await db.tenant());
  const directory = await temporaryDirectory();
  const startWorker = (): Program =>
    start(["worker"], { DATABASE_URL: db.url("tallystick_writer"), LOG_LEVEL: "WARNING" }, directory);

  let recorded = 0;
  const record = async (count: number) => {
    for (const end = recorded + count; recorded < end; ) {
      const size = 1 + Math.floor(random() * 400);
      const log = logs[Math.floor(random() * LOGS)]!;
      await append(
        sequencer,
        log,
        Array.from({ length: size }, () => eventOf(recorded++, random)),
      );
    }
  };
  const erase = () =>
    db.superuser.query("delete from tallystick.openings where seq % 97 = $1", [Math.floor(random() * 97)]);

  for (let kill = 0; kill < KILLS; kill++) {
    const worker = startWorker();
    await worker.said("is indexing");
    const before = await segmentCount();
    const recording = record(ENTRIES_A_KILL);
    // At a random moment while it has work: somewhere in the next segments that it makes, before it has made all of them.
    const goal = before + Math.floor(random() * 8);
    while ((await segmentCount()) < goal && worker.child.exitCode === null);
    if (random() < 0.5) await erase();
    for (let turns = Math.floor(random() * 30); turns > 0; turns--) await new Promise(setImmediate);
    worker.child.kill("SIGKILL");
    await worker.ended;
    await recording;
  }

  const worker = startWorker();
  let left: number;
  do {
    // Of a tail's openings nothing is indexed yet, and nothing to be made again.
    const { rows } = await db.superuser.query<{ left: number }>(
      `select (sum(p.size / 256 - p.segments) + count(d))::int as left from tallystick.index_progress(null) p
       left join tallystick.text_openings_due d on d.log_id = p.log_id and d.segment < p.segments`,
    );
    const row = rows[0];
    left = row!.left;
  } while (left > 0 && worker.child.exitCode === null);
  worker.child.kill("SIGTERM");
  expect((await worker.ended).code).toBe(0);

  const index = await rows();
  expect(index.length).toBe((await sizes()).reduce((sum, size) => sum + Math.floor(size / 256), 0));
  for (const log of logs) await checkLog(db.database, log);
  // The whole of it again, by nobody who was killed.
  await db.tamper("delete from tallystick.text_segments");
  await db.tamper("delete from tallystick.text_openings");
  for (const log of logs) await indexLog(db.database, log);
  expect(await rows()).toEqual(index);
});

async function segmentCount(): Promise<number> {
  const { rows } = await db.superuser.query<{ count: number }>(
    "select count(*)::int as count from tallystick.text_segments",
  );
  return rows[0]!.count;
}

async function sizes(): Promise<number[]> {
  const { rows } = await db.superuser.query<{ size: number }>(
    "select max(size)::int as size from tallystick.heads group by log_id",
  );
  return rows.map(({ size }) => size);
}

/** A digest of each row of the index. */
async function rows(): Promise<unknown[]> {
  const { rows } = await db.superuser.query(
    `select s.log_id, s.segment, md5(s.text || s.terms::text || s.version) as said, md5(o.text || o.terms::text || o.version) as opened
     from tallystick.text_segments s left join tallystick.text_openings o using (log_id, segment) order by 1, 2`,
  );
  return rows;
}
