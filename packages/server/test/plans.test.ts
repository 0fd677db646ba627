/**
 * How PostgreSQL goes about each documented query: as the role that reads, by an index, and over no more rows than a page needs. The
 * statements inside functions are explained too (auto_explain), on a log whose tables nobody has analysed, and again when somebody has.
 *
 * TALLYSTICK_PLAN_ENTRIES=1000000 makes the log as large as that.
 */
import { readFile } from "node:fs/promises";
import { filterOf } from "@tallystick/core/filter-parameters";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { Reader } from "../src/log/reader.ts";
import type { TenantLog } from "../src/log/tenants.ts";
import { indexLog } from "../src/testing/indexing.ts";
import { append, TestDatabase, type TestEvent, testSequencer } from "../src/testing/log.ts";

const ENTRIES = Number(process.env.TALLYSTICK_PLAN_ENTRIES ?? 20_000);
/** Rows that a page may look at: what is read in order before an index is asked, and what is found by it. */
const MOST_ROWS = 10_000;

const document = await readFile(new URL("../../../docs/searching.md", import.meta.url), "utf8");
const QUERIES = /```query\n([\s\S]*?)```/.exec(document)![1]!.trim().split("\n");

let database: TestDatabase;
let log: TenantLog;
/** Plans that PostgreSQL has told of. */
const plans: string[] = [];

beforeAll(async () => {
  database = await TestDatabase.create();
  log = await database.tenant();
  const sequencer = testSequencer(database.database);
  for (let start = 0; start < ENTRIES; start += 2_000) {
    await append(
      sequencer,
      log,
      Array.from({ length: 2_000 }, (_, i) => eventAt(start + i)),
    );
  }
  await indexLog(database.database, log);
  await database.database.close();
  for (const [name, value] of Object.entries({
    session_preload_libraries: "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    client_min_messages: "log",
  })) {
    await database.superuser.query(
      `alter role tallystick_reader in database ${database.name} set ${name} = '${value}'`,
    );
  }
  const emit = pg.Client.prototype.emit;
  vi.spyOn(pg.Client.prototype, "emit").mockImplementation(function (this: pg.Client, event, ...rest) {
    if (event === "notice") plans.push(String((rest[0] as { message?: string }).message));
    return emit.call(this, event, ...rest);
  });
}, 600_000);
afterAll(async () => {
  vi.restoreAllMocks();
  await database.superuser.query(`alter role tallystick_reader in database ${database.name} reset all`);
  await database.superuser.end();
});

describe.each(["that nobody has analysed", "that somebody has analysed"])(
  `in a log of ${ENTRIES} entries %s`,
  (state) => {
    let reader: Reader;
    beforeAll(async () => {
      if (state === "that somebody has analysed") await database.superuser.query("analyze");
      reader = new Reader(database.connect());
    });

    test.each(QUERIES)("%s", async (query) => {
      const filter = filterOf({ q: query }, []);
      for (const options of [
        { order: "desc" as const, limit: 50 },
        { order: "asc" as const, limit: 50, after: { seq: Math.floor(ENTRIES / 2) } },
      ]) {
        plans.length = 0;
        await reader.page(log, filter, options);
        const nodes = plans.flatMap((message) => nodesOf(message));
        expect(nodes.length).toBeGreaterThan(2);
        for (const node of nodes) expect(isWholeTable(node), `${query}: ${JSON.stringify(node)}`).toBe(false);
        const read = nodes.reduce((sum, node) => sum + rowsReadBy(node), 0);
        expect(read, query).toBeLessThan(MOST_ROWS);
      }
    });
  },
);

interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Actual Rows"?: number;
  readonly "Actual Loops"?: number;
  readonly "Rows Removed by Filter"?: number;
  readonly Plans?: readonly PlanNode[];
}

function nodesOf(message: string): PlanNode[] {
  const plan = /plan:\n([\s\S]*)$/.exec(message)?.[1];
  if (plan === undefined) return [];
  const flat = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(flat)];
  return flat((JSON.parse(plan) as { Plan: PlanNode }).Plan);
}

function rowsReadBy(node: PlanNode): number {
  if (node["Relation Name"] === undefined) return 0;
  return ((node["Actual Rows"] ?? 0) + (node["Rows Removed by Filter"] ?? 0)) * (node["Actual Loops"] ?? 1);
}

/** Whether a table that grows with the log is read from its beginning to its end; one that has hardly begun may be. */
function isWholeTable(node: PlanNode): boolean {
  const { "Node Type": type, "Relation Name": relation = "" } = node;
  return (
    type === "Seq Scan" &&
    rowsReadBy(node) > 500 &&
    /^(entries|openings|heads|text_segments|text_openings)/.test(relation)
  );
}

/** One in a hundred has what a rare query asks for. */
function eventAt(n: number): TestEvent {
  const rare = n % 100 === 0;
  return {
    action: rare ? "user.login" : `document.${["view", "edit", "share"][n % 3]}`,
    actor: {
      id: rare ? "u-17" : `u-${100 + (n % 500)}`,
      ...(rare && { name: "Alice Smith", email: "alice@example.com", type: "agent", on_behalf_of: { id: "u-9" } }),
    },
    resource: { type: rare ? "order" : "document", id: rare ? "o-17" : `d-${n % 5_000}` },
    ...(rare && { outcome: "failure", severity: "CRITICAL", operation: "DELETE", event_type: "security" }),
    service_id: rare ? "billing" : "shop",
    description: rare ? "the refund: card declined at 東京" : `page ${n % 977} was shown`,
    metadata: { plan: rare ? "gold" : "free", n: n % 1_000 },
    ...(rare && { changes: { before: { status: "new" }, after: { status: "paid" } } }),
    context: {
      ip: rare ? "192.0.2.7" : `198.51.${(n >> 8) % 100}.${n % 256}`,
      request_id: rare ? "r-1" : `r-${n}`,
      session_id: rare ? "s-1" : `s-${n % 3_000}`,
      trace_id: rare ? "t-1" : `t-${n}`,
    },
  };
}
