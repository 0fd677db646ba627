/**
 * The index worker: what it makes of a log, and what a crash, a second worker or an erasure leaves.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TenantLog } from "../src/log/tenants.ts";
import { indexLog } from "../src/testing/indexing.ts";
import { append, checkLog, TestDatabase, type TestEvent, testSequencer } from "../src/testing/log.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await TestDatabase.create();
});
afterAll(() => db.close());

const event = (n: number): TestEvent => ({
  action: "order.ship",
  actor: { id: `u-${n % 7}`, name: `Alice ${n % 3}`, email: `a${n % 3}@example.com` },
  description: n % 50 === 0 ? "パスワードを変更しました" : "shipped by the night shift",
  metadata: { plan: ["gold", "silver"][n % 2]!, nested: { list: [n % 5, true, null] } },
  context: { ip: `10.0.${n % 4}.1` },
});

async function fill(log: TenantLog, count: number, from = 0): Promise<void> {
  const sequencer = testSequencer(db.database);
  await append(
    sequencer,
    log,
    Array.from({ length: count }, (_, i) => event(from + i)),
  );
}

test("the worker indexes every full segment, and nothing of the last one", async () => {
  const log = await db.tenant();
  await fill(log, 1_000);
  await indexLog(db.database, log);
  const rows = await db.as<{ segment: string; lines: number; opened: string }>(
    "postgres",
    `select s.segment, cardinality(string_to_array(s.text, E'\\n')) as lines, split_part(o.text, E'\\n', 1) as opened
     from tallystick.text_segments s join tallystick.text_openings o using (log_id, segment) where log_id = ${log.logId} order by segment`,
  );
  expect(rows).toEqual(
    [0, 1, 2].map((segment) => ({
      segment: `${segment}`,
      lines: 256,
      opened: expect.stringMatching(/ alice \d \t a\d example com | a\d example com \t alice \d /),
    })),
  );
  await checkLog(db.database, log);
});
