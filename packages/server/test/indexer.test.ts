/**
 * Indexing: what is made of a log, what a second worker or an erasure at the wrong moment leaves, and what verification says of an index
 * that somebody has changed.
 */

import { filterOf } from "@tallystick/core/filter-parameters";
import type { Leaf } from "@tallystick/core/leaf";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Reader } from "../src/log/reader.ts";
import type { TenantLog } from "../src/log/tenants.ts";
import { indexRun, reopenRun } from "../src/search/index-run.ts";
import { Indexer } from "../src/search/indexer.ts";
import { readLag } from "../src/search/lag.ts";
import type { SegmentLog } from "../src/search/segment-rows.ts";
import { SegmentTexts } from "../src/search/segment-text.ts";
import { phraseTerms } from "../src/search/text-terms.ts";
import { countDirectly } from "../src/stats/direct-count.ts";
import { RollupTally } from "../src/stats/rollup-tally.ts";
import { indexLog } from "../src/testing/indexing.ts";
import { append, checkLog, reportOf, TestDatabase, type TestEvent, testSequencer } from "../src/testing/log.ts";
import { ProblemList } from "../src/verify/report.ts";
import { checkSplitSegment } from "../src/verify/segments.ts";

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

async function filled(count: number): Promise<TenantLog> {
  const log = await db.tenant();
  await append(
    testSequencer(db.database),
    log,
    Array.from({ length: count }, (_, n) => event(n)),
  );
  return log;
}

async function search(log: TenantLog, q: string): Promise<number[]> {
  const errors: never[] = [];
  const { entries } = await new Reader(db.database).page(log, filterOf({ q }, errors), { order: "asc", limit: 1_000 });
  expect(errors).toEqual([]);
  return entries.map(({ seq }) => seq);
}

/** A worker's connection. */
async function connection(): Promise<{ client: pg.Client; begin: string }> {
  const { url, begin } = db.database.writeAccess();
  const client = new pg.Client(url);
  await client.connect();
  return { client, begin };
}

const optionsOf = (log: TenantLog, begin: string) => ({ begin, texts: new SegmentTexts(log.logId) });

describe("the index", () => {
  test("has every full segment, nothing of the last one, and of committed values nothing beside what is opened", async () => {
    const log = await filled(1_000);
    await indexLog(db.database, log);
    const rows = await db.as<{ segment: string; text: string; opened: string }>(
      "postgres",
      `select s.segment, s.text, o.text as opened from tallystick.text_segments s
       join tallystick.text_openings o using (log_id, segment) where log_id = ${log.logId} order by segment`,
    );
    expect(rows.map(({ segment }) => segment)).toEqual(["0", "1", "2"]);
    expect(rows[0]!.text.split("\n").slice(0, 3)).toEqual([
      " order ship \t0-255",
      " パ ス ワ ー ド を 変 更 し ま し た \t0,50,100,150,200,250",
      " nested \t0-255",
    ]);
    expect(rows[0]!.text).not.toMatch(/alice|example/);
    expect(rows[0]!.opened.split("\n")[0]).toMatch(/^ a0 example com \t0,3,6,9,.*,255$/);
    await checkLog(db.database, log);
  });

  test("finds a substring in Japanese, phrases and beginnings, in what is indexed and in what is not yet", async () => {
    const log = await filled(300);
    const passwords = [0, 50, 100, 150, 200, 250];
    for (const indexes of [false, true]) {
      if (indexes) await indexLog(db.database, log);
      expect(await search(log, "スワード")).toEqual(passwords);
      expect(await search(log, "変更")).toEqual(passwords);
      expect(await search(log, "更変")).toEqual([]);
      expect(await search(log, '"the night"')).toHaveLength(294);
      expect(await search(log, "nig*")).toHaveLength(294);
      expect(await search(log, "n*")).toHaveLength(300); // nested, and night
      expect(await search(log, '"night the"')).toEqual([]);
      expect(await search(log, '"alice 2" 変更')).toEqual([50, 200]);
      expect(await search(log, "ip:10.0.2.0/24 変更")).toEqual([50, 150, 250]);
      expect(await search(log, "metadata.nested.list:3 metadata.plan:silver")).toHaveLength(30);
      expect(await search(log, "metadata.nested.list:true 変更 actor_id:u-1")).toEqual([50]);
    }
  });

  test("has the entries that say it in the more telling place first, where rank is asked for", async () => {
    const log = await db.tenant();
    const sent: TestEvent[] = [
      { action: "a.b", actor: { id: "u" }, metadata: { note: "refund" } },
      { action: "refund.make", actor: { id: "u" }, description: "a refund" },
      { action: "a.b", actor: { id: "u", name: "Refund Desk" } },
      { action: "a.b", actor: { id: "u" }, reason: "refund" },
      { action: "refund.make", actor: { id: "u" } },
      { action: "a.b", actor: { id: "u" } },
    ];
    await append(testSequencer(db.database), log, sent);
    const ranked = await new Reader(db.database).ranked(log, filterOf({ q: "refund" }, []), 4);
    expect(ranked.map(({ seq }) => seq)).toEqual([1, 4, 2, 3]);
  });

  test("takes so much of a segment's text, and loses nothing of the rest", async () => {
    const log = await db.tenant();
    // Each character is eighteen as words.
    const wide = (n: number) => `n${n} ${"\ufdfa".repeat(2_600)} needle${n}`;
    const events = Array.from({ length: 256 }, (_, n) => ({
      action: "order.ship",
      actor: { id: "u" },
      description: n % 8 === 0 ? wide(n) : `shipped ${n}`,
    }));
    await append(testSequencer(db.database), log, events);
    await indexLog(db.database, log);
    const [row] = await db.as<{ bytes: number; marked: boolean }>(
      "postgres",
      `select octet_length(text) as bytes, text like '% * %' as marked from tallystick.text_segments where log_id = ${log.logId}`,
    );
    expect(row!.bytes).toBeLessThan(2 * 1024 ** 2);
    expect(row!.marked).toBe(true);
    for (const n of [0, 8, 128, 248]) expect(await search(log, `needle${n}`)).toEqual([n]);
    await checkLog(db.database, log);
  });

  test("has nothing due of a segment that is not full", async () => {
    const log = await filled(10);
    await db.as(
      "postgres",
      `insert into tallystick.text_openings_due (log_id, segment, tenant_id) values (${log.logId}, 0, '${log.tenantId}')`,
    );
    const due = `select due from tallystick.index_progress(array[${log.logId}])`;
    expect(await db.as("postgres", due)).toEqual([{ due: false }]);
  });

  test("has terms that an auditor can derive with psql", async () => {
    const log = await filled(256);
    await indexLog(db.database, log);
    const [row] = await db.as<{ has: boolean }>(
      "postgres",
      `select terms @> array[('x' || encode(substring(sha256(convert_to('${log.logId}', 'UTF8') || '\\x00'::bytea || 'pair' || '\\x00'::bytea || 'night shift') for 4), 'hex'))::bit(32)::bigint] as has
       from tallystick.text_segments where log_id = ${log.logId}`,
    );
    expect(row).toEqual({ has: true });
    expect(phraseTerms(log.logId, ["night", "shift"], false)).toHaveLength(1);
  });

  test("goes on behind a leaf that is none and a position without an entry", async () => {
    const log = await filled(256);
    await db.tamper("update tallystick.entries set leaf = '{' where log_id = $1 and seq = 3", [log.logId]);
    await db.tamper("delete from tallystick.entries where log_id = $1 and seq = 255", [log.logId]);
    await indexLog(db.database, log);
    const [row] = await db.as<{ text: string }>(
      "postgres",
      `select text from tallystick.text_segments where log_id = ${log.logId}`,
    );
    expect(row!.text.split("\n")[0]).toBe(" order ship \t0-2,4-254");
    const seqs: number[] = [];
    await db.database.read(log.tenantId, (client) =>
      countDirectly(client, log.logId, { from: 0, to: 256 }, { add: (seq) => seqs.push(seq), deadline: Infinity }),
    );
    expect(seqs).toHaveLength(254);
  });

  test("of two workers each log has one at a time, and what it counts is counted once", async () => {
    const log = await filled(256 * 20);
    const [one, other] = [await connection(), await connection()];
    let counted = 0;
    let tallies = 0;
    const startTally = (one: SegmentLog) => {
      const rollup = new RollupTally(one);
      let entries = 0;
      tallies++;
      return {
        add: (leaf: Leaf) => {
          entries++;
          rollup.add(leaf);
        },
        write: async (...written: Parameters<RollupTally["write"]>) => {
          counted += entries;
          await rollup.write(...written);
        },
      };
    };
    const work = async ({ client, begin }: typeof one) => {
      const options = { ...optionsOf(log, begin), startTally };
      while ((await indexRun(client, log, options)) > 0);
    };
    await Promise.all([work(one), work(other)]);
    await indexLog(db.database, log);
    await Promise.all([one.client.end(), other.client.end()]);
    expect(counted).toBe(256 * 20);
    expect(tallies).toBeGreaterThan(0);
    await checkLog(db.database, log);
  });

  test("takes nothing back of a transaction whose count fails", async () => {
    const log = await filled(256);
    const { client, begin } = await connection();
    const startTally = () => ({
      add: () => {},
      write: async () => {
        throw new Error("the count failed");
      },
    });
    await expect(indexRun(client, log, { ...optionsOf(log, begin), startTally })).rejects.toThrow("the count failed");
    await client.end();
    expect(await db.as("postgres", `select from tallystick.text_segments where log_id = ${log.logId}`)).toEqual([]);
    await indexLog(db.database, log);
  });
});

describe("what is erased", () => {
  const opened = async (log: TenantLog): Promise<string> => {
    const [row] = await db.as<{ text: string | null }>(
      "postgres",
      `select string_agg(text, '|') as text from tallystick.text_openings where log_id = ${log.logId}`,
    );
    return row!.text ?? "";
  };
  const erase = (client: pg.ClientBase, log: TenantLog) =>
    client.query(`delete from tallystick.openings where log_id = $1 and value like '%lice 2%'`, [log.logId]);

  test("is out of the index with the commit that erases it, and no more found", async () => {
    const log = await filled(256);
    await indexLog(db.database, log);
    expect(await search(log, '"alice 2"')).toHaveLength(85);
    await erase(db.superuser, log);
    expect(await opened(log)).toBe("");
    expect(await search(log, '"alice 2"')).toEqual([]);
    expect(await search(log, '"alice 1"')).toHaveLength(85);
    await checkLog(db.database, log);
    await indexLog(db.database, log);
    expect(await opened(log)).toContain("alice 1");
    expect(await opened(log)).not.toContain("alice 2");
    expect(await search(log, '"alice 1"')).toHaveLength(85);
    await checkLog(db.database, log);
  });

  test("is not brought back by a worker that had read it before, whichever commits first", async () => {
    for (const workerFirst of [true, false]) {
      const log = await filled(256);
      const { client, begin } = await connection();
      const eraser = new pg.Client(db.url("postgres"));
      await eraser.connect();
      await eraser.query("begin");
      await erase(eraser, log); // in a transaction that the worker does not see
      let beforeCommit: () => Promise<unknown> = async () => {};
      const startTally = () => ({ add: () => {}, write: () => beforeCommit() as Promise<void> });
      if (!workerFirst) beforeCommit = () => eraser.query("commit");
      expect(await indexRun(client, log, { ...optionsOf(log, begin), startTally })).toBe(256);
      if (workerFirst) await eraser.query("commit");
      expect(await search(log, '"alice 2"')).toEqual([]); // though the row still has it
      expect(await reopenRun(client, log, optionsOf(log, begin))).toBe(1);
      expect(await opened(log)).not.toContain("alice 2");
      expect(await opened(log)).toContain("alice 1");
      await checkLog(db.database, log);
      await Promise.all([client.end(), eraser.end()]);
    }
  });

  test("two who erase in opposite orders do not wait for each other", async () => {
    const log = await filled(512);
    await indexLog(db.database, log);
    const clients = [new pg.Client(db.url("postgres")), new pg.Client(db.url("postgres"))];
    const at = (client: pg.Client, seq: number) =>
      client.query("delete from tallystick.openings where log_id = $1 and seq = $2", [log.logId, seq]);
    for (const client of clients) {
      await client.connect();
      await client.query("set lock_timeout = '1s'; begin");
    }
    await at(clients[0]!, 1);
    await at(clients[1]!, 300);
    await at(clients[0]!, 301);
    await at(clients[1]!, 2);
    for (const client of clients) {
      await client.query("commit");
      await client.end();
    }
    expect(await opened(log)).toBe("");
    await indexLog(db.database, log);
    await checkLog(db.database, log);
  });
});

describe("a worker", () => {
  test("indexes what is recorded while it runs, tells of its lag, and goes on after its connection is ended", async () => {
    const log = await filled(256);
    expect(await readLag(db.database)).toMatchObject({ entries: 256 });
    expect((await readLag(db.database)).seconds).toBeGreaterThan(0);
    const failures: unknown[] = [];
    let heard = () => {};
    const indexer = new Indexer({
      access: () => db.database.writeAccess(),
      onFailure: (error) => failures.push(error),
      onRecovery: () => {},
      onIndexed: () => heard(),
      sweepMs: 20,
    });
    const indexed = () =>
      new Promise<void>((resolve) => {
        heard = resolve;
      });
    const first = indexed();
    indexer.start();
    await first;
    expect(await readLag(db.database)).toEqual({ entries: 0, seconds: 0 });
    await db.superuser.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tallystick index' and datname = current_database()",
    );
    const second = indexed();
    await append(
      testSequencer(db.database),
      log,
      Array.from({ length: 256 }, (_, n) => event(n)),
    );
    await second;
    await indexer.stop();
    expect(failures.length).toBeLessThanOrEqual(1); // one for a row of them; none where it was idle
    await checkLog(db.database, log);
  });
});

describe("verification names an index that does not say what the entries do", () => {
  test.each([
    [
      "update tallystick.text_segments set text = replace(text, 'silver', 'golden') where log_id = $1 and segment = 1",
      { seq: 257, kind: "text_index", field: "text_segments.text", stored: expect.stringMatching(/^ golden \t1,3,/) },
    ],
    [
      "update tallystick.text_segments set terms = terms[2:] where log_id = $1 and segment = 1",
      { seq: 256, kind: "text_index", field: "text_segments.terms" },
    ],
    [
      "delete from tallystick.text_segments where log_id = $1 and segment = 0",
      { seq: 0, kind: "text_index", field: "text_segments.segment" },
    ],
    [
      "update tallystick.text_segments set tenant_id = gen_random_uuid() where log_id = $1 and segment = 1",
      { seq: 256, kind: "text_index", field: "text_segments.tenant_id" },
    ],
    [
      "update tallystick.text_segments set version = 99 where log_id = $1 and segment = 1",
      { seq: 256, kind: "unknown_version", field: "text_segments.version" },
    ],
    [
      "delete from tallystick.text_openings where log_id = $1 and segment = 1",
      { seq: 256, kind: "text_index", field: "text_openings.segment" },
    ],
    [
      "update tallystick.text_openings set text = replace(text, 'alice', 'mallory') where log_id = $1 and segment = 0",
      { seq: 0, kind: "text_index", field: "text_openings.text" },
    ],
    [
      "update tallystick.text_openings set terms = '{}' where log_id = $1 and segment = 0",
      { seq: 0, kind: "text_index", field: "text_openings.terms" },
    ],
    [
      "insert into tallystick.text_openings select log_id, 2, tenant_id, version, terms, text from tallystick.text_openings where log_id = $1 and segment = 0",
      { seq: 512, kind: "text_index", field: "segment" },
    ],
  ])("%s", async (statement, problem) => {
    const log = await filled(600);
    await indexLog(db.database, log);
    await checkLog(db.database, log);
    await db.tamper(statement, [log.logId]);
    for (const role of ["tallystick_auditor", "postgres"] as const) {
      const { problems } = await reportOf(db, log, role);
      expect(problems).toEqual([expect.objectContaining(problem)]);
      if (problem.field.startsWith("text_openings")) expect(JSON.stringify(problems)).not.toMatch(/alice|mallory/);
    }
  });

  test("also of a segment that a month's end goes through, which no batch has as a whole", async () => {
    const log = await filled(600);
    await indexLog(db.database, log);
    const problems = new ProblemList();
    await checkSplitSegment(db.superuser, log, 0, problems);
    expect(problems.list()).toEqual([]);
    await db.tamper("update tallystick.text_segments set text = 'x' || text where log_id = $1 and segment = 0", [
      log.logId,
    ]);
    await checkSplitSegment(db.superuser, log, 0, problems);
    expect(problems.list()).toEqual([expect.objectContaining({ seq: 0, kind: "text_index" })]);
  });
});

describe("roll-ups", () => {
  test("of a log are forgotten by their owner, and made again by the worker", async () => {
    const log = await filled(600);
    await indexLog(db.database, log);
    const rows = async () => {
      const { rows } = await db.superuser.query(
        "select level, bucket, entries, end_seq, action, actor from tallystick.rollups where log_id = $1 order by level, bucket",
        [log.logId],
      );
      return rows;
    };
    const before = await rows();
    expect(before.length).toBeGreaterThan(0);
    await expect(db.as("tallystick_writer", `select tallystick.forget_rollups(${log.logId})`)).rejects.toThrow(
      "permission denied",
    );
    await db.superuser.query("select tallystick.forget_rollups($1)", [log.logId]);
    expect(await rows()).toEqual([]);
    await checkLog(db.database, log);
    await indexLog(db.database, log);
    expect(await rows()).toEqual(before);
    await checkLog(db.database, log);
  });

  test.each([
    ["infinity", 1n, "rollups_bucket_range"],
    ["9000-01-01", 1n, "rollups_bucket_range"],
    ["1969-12-31", 1n, "rollups_bucket_range"],
    ["2030-01-01", 2n ** 63n - 1n, "rollups_end_seq_range"],
  ])("of %s up to %s are refused", async (bucket, end, constraint) => {
    const log = await db.tenant();
    const statement = `insert into tallystick.rollups (log_id, level, bucket, tenant_id, entries, end_seq, action, actor, resource_type, outcome, severity, service_id)
      values (${log.logId}, 0, '${bucket}', '${log.tenantId}', 1, ${end}, '', '', '', '', '', '')`;
    const tenant = `select set_config('tallystick.tenant_id', '${log.tenantId}', false)`;
    await expect(db.as("tallystick_writer", tenant, statement)).rejects.toThrow(constraint);
  });
});

describe("verification names roll-ups that are not what the entries make", () => {
  const forged = (bucket: string, end: number, level = 0) =>
    `insert into tallystick.rollups select $1, ${level}, '${bucket}', tenant_id, 1, ${end}, action, actor, resource_type, outcome, severity, service_id
     from tallystick.rollups where log_id = $1 and level = 0 order by bucket limit 1`;
  test.each([
    [forged("2030-01-01", 1_000_000_000), "bucket"],
    [forged("2030-01-01", 600), "bucket"],
    [forged("2001-01-01", 1), "bucket"],
    [forged("2001-01-01", 1, 3), "bucket"],
    [forged("2030-01-01", 512, 4), "bucket"],
    ["delete from tallystick.rollup_values where log_id = $1 and field = 'action'", "rollup_values"],
    [
      "insert into tallystick.rollup_values select $1, 'action', 2147483647, tenant_id, 'x' from tallystick.rollup_values where log_id = $1 limit 1",
      "rollup_values",
    ],
    ["update tallystick.rollup_values set value = value || 'x' where log_id = $1 and field = 'actor'", "actor"],
    ["update tallystick.rollups set entries = entries + 1 where log_id = $1", "entries"],
    ["update tallystick.rollups set end_seq = end_seq - 1 where log_id = $1", "entries"],
    ["update tallystick.rollups set action = '' where log_id = $1", "action"],
    ["update tallystick.rollups set severity = '\\x01' where log_id = $1", "severity"],
  ])("%s", async (statement, field) => {
    const log = await filled(600);
    await indexLog(db.database, log);
    await checkLog(db.database, log);
    await db.tamper(statement, [log.logId]);
    for (const role of ["tallystick_auditor", "postgres"] as const) {
      const { problems } = await reportOf(db, log, role);
      expect(problems).toContainEqual(expect.objectContaining({ kind: "rollup", field }));
      expect(problems.filter(({ kind }) => kind !== "rollup")).toEqual([]);
    }
    await db.superuser.query("select tallystick.forget_rollups($1)", [log.logId]);
    await checkLog(db.database, log);
    await indexLog(db.database, log);
    await checkLog(db.database, log);
    const { rows } = await db.superuser.query(
      "select max(end_seq)::integer as n from tallystick.rollups where log_id = $1",
      [log.logId],
    );
    expect(rows).toEqual([{ n: 512 }]);
  });
});
