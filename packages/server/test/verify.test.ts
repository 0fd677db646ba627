import { afterAll, beforeAll, expect, test } from "vitest";
import { append, checkLog, reportOf, TestDatabase, testSequencer } from "../src/testing/log.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await TestDatabase.create();
});
afterAll(() => db.close());

test("smoke", async () => {
  const log = await db.tenant();
  const sequencer = testSequencer(db.database);
  for (let i = 0; i < 7; i++) {
    await append(
      sequencer,
      log,
      Array.from({ length: 100 }, (_, j) => ({
        action: "a.b",
        actor: { id: `u${j}`, email: "x@example.com" },
        service_id: `s${j % 3}`,
        occurred_at: "2024-01-01T00:00:00.5Z",
      })),
    );
  }
  console.log(await checkLog(db.database, log));
  console.log(await reportOf(db, log));
});
