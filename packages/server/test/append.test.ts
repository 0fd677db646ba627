import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { toHex } from "@tallystick/core/hex";
import { leafHash } from "@tallystick/core/tree";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../src/db/database.ts";
import type { AppendOutcome, Recorded } from "../src/log/append.ts";
import { AppendError } from "../src/log/errors.ts";
import type { TenantLog } from "../src/log/tenants.ts";
import {
  append,
  checkLog,
  recordedIn,
  requestOf,
  TestDatabase,
  type TestEvent,
  testSequencer,
} from "../src/testing/log.ts";

import { until } from "../src/testing/server.ts";

let db: TestDatabase;
const proxies: Unreliable[] = [];
beforeAll(async () => {
  db = await TestDatabase.create();
});
afterAll(async () => {
  await Promise.all(proxies.map((proxy) => proxy.close()));
  await db.close();
});

const event = (i: number, more: Record<string, string> = {}): TestEvent => ({
  action: "order.update",
  actor: { id: `user-${i}`, email: `user-${i}@example.com` },
  ...more,
});
const events = (count: number, more?: Record<string, string>): TestEvent[] =>
  Array.from({ length: count }, (_, i) => event(i, more));

interface Row {
  readonly seq: number;
  readonly id: string;
  readonly hash: string;
  readonly leaf: string;
}

async function rowsOf(log: TenantLog): Promise<Row[]> {
  const { rows } = await db.superuser.query<Row>(
    "select seq::float8 as seq, id, encode(leaf_hash, 'hex') as hash, leaf from tallystick.entries where log_id = $1 order by seq",
    [log.logId],
  );
  return rows;
}

/** What the answers said is what the database has, and nothing else is there. */
async function expectExactly(log: TenantLog, recorded: readonly Recorded[]): Promise<void> {
  const said = recorded
    .map(({ seq, id, leafHash }) => ({ seq, id, hash: toHex(leafHash) }))
    .sort((a, b) => a.seq - b.seq);
  const rows = await rowsOf(log);
  expect(rows.map(({ seq, id, hash }) => ({ seq, id, hash }))).toEqual(said);
  expect(rows.map(({ seq }) => seq)).toEqual(rows.map((_, i) => i));
  for (const { leaf, hash } of rows) expect(toHex(leafHash(leaf))).toBe(hash);
  expect((await checkLog(db.database, log)).size).toBe(rows.length);
}

describe("append()", () => {
  test("numbers entries without gaps and chains each service, across requests, commits and sequencers", async () => {
    const log = await db.tenant();
    const sequencers = [testSequencer(db.database), testSequencer(db.database), testSequencer(db.connect())];
    const outcomes = await Promise.all(
      Array.from({ length: 60 }, (_, i) =>
        append(sequencers[i % 3]!, log, events(1 + (i % 12), { service_id: `service-${i % 4}` })),
      ),
    );
    await expectExactly(log, outcomes.flat());
    const chains = new Map<string, { seq: number; hash: string }>();
    for (const { leaf, hash } of await rowsOf(log)) {
      const { service } = JSON.parse(leaf) as { service: { id: string; seq: number; prev: string } };
      const before = chains.get(service.id);
      expect(service).toMatchObject({
        seq: before === undefined ? 0 : before.seq + 1,
        prev: before?.hash ?? "0".repeat(64),
      });
      chains.set(service.id, { seq: service.seq, hash });
    }
    expect(chains.size).toBe(4);
    expect(sequencers.flatMap(({ errors }) => errors)).toEqual([]);
  });

  test("gives entries the terms that psql can recheck", async () => {
    const log = await db.tenant();
    await append(testSequencer(db.database), log, [{ action: "a.b", actor: { id: "Zoë" }, severity: "ERROR" }]);
    const { rows } = await db.superuser.query<{ rechecked: boolean }>(
      `select terms @> array[tallystick.term(log_id, 'action', 'a.b', seq), tallystick.term(log_id, 'actor_id', 'Zoë', seq),
         tallystick.term(log_id, 'severity', 'ERROR', seq), tallystick.term(log_id, 'service_id', 'default', seq)]
         and cardinality(terms) = 4 as rechecked
       from tallystick.entries where log_id = $1`,
      [log.logId],
    );
    expect(rows).toEqual([{ rechecked: true }]);
  });

  test("keeps the events of a request together and in order", async () => {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database);
    const outcomes = await Promise.all([3, 1, 200, 7].map((count) => append(sequencer, log, events(count))));
    for (const recorded of outcomes)
      expect(recorded.map(({ seq }) => seq)).toEqual(recorded.map((_, i) => recorded[0]!.seq + i));
    await expectExactly(log, outcomes.flat());
  });

  test("writes one commit for the requests of many tenants that arrive together", async () => {
    const logs = await Promise.all(Array.from({ length: 12 }, () => db.tenant()));
    const commits: { events: number; logs: number }[] = [];
    const sequencer = testSequencer(db.database, {
      onCommit: ({ events, edges }) => commits.push({ events, logs: edges.size }),
    });
    const outcomes = await Promise.all(logs.map((log, i) => append(sequencer, log, events(i + 1))));
    expect(commits).toMatchObject([{ logs: 12, events: 78 }]);
    for (const [i, log] of logs.entries()) await expectExactly(log, outcomes[i]!);
  });

  test("does what an entry tells of in the entry's own transaction, or neither", async () => {
    const [log, other] = [await db.tenant(), await db.tenant()];
    const sequencer = testSequencer(db.database);
    const rename = (name: string | null) => ({
      ...requestOf(log, [event(0)]),
      alongside: (client: pg.ClientBase) =>
        client.query("update tallystick.tenants set name = $2 where id = $1", [log.tenantId, name]),
    });
    const [done, refused, beside] = await Promise.all([
      sequencer.append(rename("renamed")),
      sequencer.append(rename(null)),
      sequencer.append(requestOf(other, [event(1)])),
    ]);
    expect(refused).toMatchObject({ code: "refused", cause: { constraint: undefined, code: "23502" } });
    expect((await db.tenants.get(log.slug))?.name).toBe("renamed");
    await expectExactly(log, recordedIn(done));
    await expectExactly(other, recordedIn(beside));
  });

  test("puts nothing on a head that checkHead() refuses, and goes on with the other logs", async () => {
    const [log, other] = [await db.tenant(), await db.tenant()];
    const sequencer = testSequencer(db.database, {
      checkHead: ({ logId, name }, { size }) => {
        if (logId === log.logId && size > 0) throw new AppendError("unsignable", `${name} at ${size}`);
      },
    });
    const recorded = await append(sequencer, log, [event(0)]);
    const [refused, beside] = await Promise.all([
      sequencer.append(requestOf(log, [event(1)])),
      sequencer.append(requestOf(other, [event(1)])),
    ]);
    expect(refused).toMatchObject({ code: "unsignable", message: `${log.name} at 1` });
    await expectExactly(log, recorded);
    await expectExactly(other, recordedIn(beside));
  });

  test("fills tiles across commits of every size", async () => {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database);
    const recorded: Recorded[] = [];
    for (const count of [255, 1, 1, 511, 256, 300]) {
      recorded.push(...(await append(sequencer, log, events(count))));
      await expectExactly(log, recorded);
    }
  });

  test("never lets recorded_at decrease, whatever PostgreSQL's clock does", async () => {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database);
    await append(sequencer, log, [event(0)]);
    // As if the clock had been half a minute ahead, and was set right since. Entry ids carry the same time.
    await db.tamper(
      "update tallystick.heads set recorded_at = recorded_at + interval '30 seconds' where log_id = $1 and size = 1",
      [log.logId],
    );
    const [next] = await append(sequencer, log, [event(1)]);
    const { rows } = await db.superuser.query<{ same: boolean }>(
      "select recorded_at = $2 as same from tallystick.heads where log_id = $1 and size = 1",
      [log.logId, next!.recordedAt],
    );
    expect(rows).toEqual([{ same: true }]);
  });
});

describe("append() with idempotency keys", () => {
  const key = (i: number, name: string, more: Record<string, string> = {}) =>
    event(i, { idempotency_key: name, ...more });

  test("answers the same key and body by the first entry, within a request, a commit and across commits", async () => {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database);
    const [one, again] = await append(sequencer, log, [key(1, "k"), key(1, "k")]);
    expect(again).toEqual({ ...one, duplicate: true });
    expect(one!.duplicate).toBe(false);
    const together = await Promise.all([1, 2, 3].map(() => append(sequencer, log, [key(2, "l")])));
    expect(together.flat().map(({ duplicate }) => duplicate)).toEqual([false, true, true]);
    expect(new Set(together.flat().map(({ id }) => id)).size).toBe(1);
    const elsewhere = await append(testSequencer(db.connect()), log, [key(1, "k")]);
    expect(elsewhere).toEqual([{ ...one, leafHash: Buffer.from(one!.leafHash), duplicate: true }]);
    await expectExactly(log, [one!, together[0]![0]!]);
  });

  test("refuses another body: the whole request, or with partial the event alone", async () => {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database);
    const first = await append(sequencer, log, [key(1, "k")]);
    const refused = await sequencer.append(requestOf(log, [event(5), key(2, "k"), event(6)]));
    expect(refused).toBeInstanceOf(AppendError);
    expect(refused).toMatchObject({ code: "key_reused", index: 1 });
    await expectExactly(log, first);
    const partial = (await sequencer.append(requestOf(log, [event(5), key(2, "k"), event(6)], true))) as (
      | Recorded
      | AppendError
    )[];
    expect(partial[1]).toMatchObject({ code: "key_reused", index: 1 });
    const recorded = partial.filter((one) => !(one instanceof AppendError)) as Recorded[];
    await expectExactly(log, [...first, ...recorded]);
  });

  test("refuses two bodies under one key in one request, and in one commit", async () => {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database);
    expect(await sequencer.append(requestOf(log, [key(1, "k"), key(2, "k")]))).toMatchObject({
      code: "key_reused",
      index: 1,
    });
    await expectExactly(log, []);
    const [one, other, third] = await Promise.all(
      [[key(1, "k")], [key(2, "k")], [event(3)]].map((request) => sequencer.append(requestOf(log, request))),
    );
    expect(other).toMatchObject({ code: "key_reused", index: 0 });
    await expectExactly(log, [...recordedIn(one!), ...recordedIn(third!)]);
  });

  test("knows a key per tenant and per service", async () => {
    const logs = [await db.tenant(), await db.tenant()];
    const sequencer = testSequencer(db.database);
    for (const log of logs) {
      const recorded = await append(sequencer, log, [key(1, "k"), key(2, "k", { service_id: "other" })]);
      expect(recorded.map(({ duplicate }) => duplicate)).toEqual([false, false]);
      await expectExactly(log, recorded);
    }
  });

  test("forgets a key once the window has passed", async () => {
    const log = await db.tenant();
    const [one] = await append(testSequencer(db.database), log, [key(1, "k")]);
    const [two] = await append(testSequencer(db.database, { idempotencyWindowMs: 0 }), log, [key(1, "k")]);
    expect(two!.duplicate).toBe(false);
    await expectExactly(log, [one!, two!]);
  });
});

/** Waits for locks in this file's database. Not from pg_stat_activity, which stays as it was first seen in a transaction. */
async function lockWaits(): Promise<number> {
  const { rows } = await db.superuser.query<{ count: number }>(
    `select count(*)::int as count from pg_locks where not granted and pid in
       (select pid from pg_locks where database = (select oid from pg_database where datname = current_database()))`,
  );
  return rows[0]!.count;
}

describe("append() that fails", () => {
  /** A trigger that refuses entries of one action, as any fault of a single row would. */
  async function refuse(action: string): Promise<void> {
    await db.superuser.query(`
      create or replace function public.refuse_some() returns trigger language plpgsql as $$
        begin if new.action = '${action}' then raise exception 'refused for a test' using errcode = '23514'; end if; return new; end $$;
      create trigger refuse_some before insert on tallystick.entries for each row execute function public.refuse_some()`);
  }

  test("fails alone: the other requests of its commit are recorded", async () => {
    const logs = [await db.tenant(), await db.tenant()] as const;
    await refuse("poison");
    try {
      const sequencer = testSequencer(db.database);
      const [a, bad, b, c] = await Promise.all([
        sequencer.append(requestOf(logs[0], events(3))),
        sequencer.append(requestOf(logs[0], [event(1), { ...(event(2) as object), action: "poison" } as TestEvent])),
        sequencer.append(requestOf(logs[0], events(2))),
        sequencer.append(requestOf(logs[1], events(4))),
      ]);
      expect(bad).toMatchObject({ code: "unavailable" });
      await expectExactly(logs[0], [...recordedIn(a), ...recordedIn(b)]);
      await expectExactly(logs[1], recordedIn(c));
    } finally {
      await db.superuser.query("drop trigger refuse_some on tallystick.entries");
    }
  });

  test("lets nobody wait for a log that someone else holds, and records its requests once it is let go", async () => {
    const held = await db.tenant();
    const free = await db.tenant();
    const sequencer = testSequencer(db.database);
    await db.superuser.query("begin");
    await db.superuser.query("select from tallystick.logs where id = $1 for update", [held.logId]);
    let waiting: Promise<AppendOutcome>;
    try {
      waiting = sequencer.append(requestOf(held, events(2)));
      // Its commit waits alone: what comes now was not in its batch.
      await until(async () => (await lockWaits()) > 0, { what: "the commit waits for the lock" });
      const common = await sequencer.append(requestOf(free, events(3)));
      await expectExactly(free, [
        ...recordedIn(common),
        ...recordedIn(await sequencer.append(requestOf(free, [event(1)]))),
      ]);
    } finally {
      await db.superuser.query("commit");
    }
    const [first, later] = await Promise.all([waiting, sequencer.append(requestOf(held, events(4)))]);
    await expectExactly(held, [...recordedIn(first), ...recordedIn(later)]);
    await sequencer.drain();
  });

  test("gives up a log that is held too long, and takes it up again", async () => {
    const held = await db.tenant();
    const sequencer = testSequencer(db.database);
    await db.superuser.query("begin");
    await db.superuser.query("select from tallystick.logs where id = $1 for update", [held.logId]);
    try {
      expect(await sequencer.append(requestOf(held, events(2)))).toMatchObject({ code: "unavailable" });
    } finally {
      await db.superuser.query("commit");
    }
    await expectExactly(held, await append(sequencer, held, events(2)));
  });

  test("goes on from what another sequencer committed meanwhile", async () => {
    const log = await db.tenant();
    const [one, two] = [testSequencer(db.database), testSequencer(db.connect())];
    const recorded: Recorded[] = [];
    for (let round = 0; round < 4; round++) {
      for (const sequencer of [one, two]) {
        recorded.push(...(await append(sequencer, log, events(130))));
        await expectExactly(log, recorded);
      }
    }
  });

  test("is refused where the clocks differ too much", async () => {
    const log = await db.tenant();
    for (const ahead of [-61_000, 61_000]) {
      const sequencer = testSequencer(db.database, { now: () => Date.now() + ahead });
      expect(await sequencer.append(requestOf(log, [event(1)]))).toMatchObject({ code: "clock_skew" });
    }
    await expectExactly(log, []);
    await expectExactly(
      log,
      await append(testSequencer(db.database, { now: () => Date.now() + 30_000 }), log, [event(1)]),
    );
  });

  test("is refused where more waits than may", async () => {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database, { maxQueuedEvents: 10 });
    const [first, full, second] = await Promise.all([
      sequencer.append(requestOf(log, events(9))),
      sequencer.append(requestOf(log, events(2))),
      sequencer.append(requestOf(log, events(1))),
    ]);
    expect(full).toMatchObject({ code: "overloaded" });
    const bytes = requestOf(log, events(1)).events[0]!.leafBytes;
    const narrow = testSequencer(db.database, { maxQueuedBytes: 2 * bytes });
    const [third, fourth, refused] = await Promise.all(
      [1, 1, 1].map((count) => narrow.append(requestOf(log, events(count)))),
    );
    expect(refused).toMatchObject({ code: "overloaded" });
    await expectExactly(log, [first, second, third!, fourth!].flatMap(recordedIn));
    // A request that is larger than the queue is taken where nothing waits.
    await expect(append(sequencer, log, events(50))).resolves.toHaveLength(50);
  });

  test("is refused on top of hashes that do not give the head's root", async () => {
    const log = await db.tenant();
    const recorded = await append(testSequencer(db.database), log, events(3));
    await db.tamper("update tallystick.entries set leaf_hash = sha256('') where log_id = $1 and seq = 1", [log.logId]);
    const sequencer = testSequencer(db.database);
    expect(await sequencer.append(requestOf(log, [event(4)]))).toMatchObject({ code: "inconsistent" });
    expect(await rowsOf(log)).toHaveLength(3);
    await db.tamper("update tallystick.entries set leaf_hash = $2 where log_id = $1 and seq = 1", [
      log.logId,
      Buffer.from(recorded[1]!.leafHash),
    ]);
    recorded.push(...(await append(sequencer, log, [event(4)])));
    await expectExactly(log, recorded);
  });

  test("is refused once the server drains, after all that was accepted has been answered", async () => {
    const log = await db.tenant();
    const sequencer = testSequencer(db.database);
    const accepted = [append(sequencer, log, events(2)), append(sequencer, log, events(3))];
    const drained = sequencer.drain();
    expect(await sequencer.append(requestOf(log, [event(1)]))).toMatchObject({ code: "unavailable" });
    await drained;
    await expectExactly(log, (await Promise.all(accepted)).flat());
  });
});

describe("append() whose COMMIT is not answered", () => {
  test("before PostgreSQL has seen it: the entries are recorded once", async () => {
    const { proxy, database, log } = await throughProxy();
    const sequencer = testSequencer(database);
    const first = await append(sequencer, log, events(3));
    proxy.cut = "before";
    const second = await append(sequencer, log, events(300));
    expect(proxy.cuts).toBe(1);
    const third = await append(sequencer, log, events(2));
    await expectExactly(log, [...first, ...second, ...third]);
    await database.close();
  });

  test("after PostgreSQL has seen it: the answer names the entries that are there", async () => {
    const { proxy, database, log } = await throughProxy();
    const sequencer = testSequencer(database);
    const first = await append(sequencer, log, events(3));
    proxy.cut = "after";
    const second = await append(sequencer, log, events(300));
    expect(proxy.cuts).toBe(1);
    const third = await append(sequencer, log, events(2));
    await expectExactly(log, [...first, ...second, ...third]);
    await database.close();
  });

  test("settles each commit anew when it happens again and again, to many logs at once", async () => {
    const { proxy, database, log } = await throughProxy();
    const other = await db.tenant();
    const sequencer = testSequencer(database);
    const recorded: Recorded[] = [];
    const others: Recorded[] = [];
    for (const cut of ["after", "before", "after", "after", "before"] as const) {
      proxy.cut = cut;
      const [ours, theirs] = await Promise.all([
        append(sequencer, log, events(90)),
        append(sequencer, other, events(7)),
      ]);
      recorded.push(...ours);
      others.push(...theirs);
      await expectExactly(log, recorded);
      await expectExactly(other, others);
    }
    expect(proxy.cuts).toBe(5);
    await database.close();
  });

  test.each(["before", "after"] as const)(
    "%s PostgreSQL has seen it, and cannot be asked: outcome unknown, and the key settles it",
    async (cut) => {
      const { proxy, database, log } = await throughProxy();
      const sequencer = testSequencer(database);
      const first = await append(sequencer, log, events(3));
      const request = () => requestOf(log, [event(9, { idempotency_key: "retry" })]);
      proxy.cut = cut;
      proxy.refuseAfterCut = true;
      expect(await sequencer.append(request())).toMatchObject({ code: "outcome_unknown" });
      proxy.refuse = false;
      const retried = recordedIn(await sequencer.append(request()));
      expect(retried[0]!.duplicate).toBe(cut === "after");
      const more = await append(sequencer, log, events(4));
      await expectExactly(log, [...first, ...retried, ...more]);
      await database.close();
    },
  );

  test("a COMMIT that is answered with a warning is no acknowledgement", async () => {
    // Waiting for a standby that is not there is cancelled with a warning: committed here, and nowhere else.
    const log = await db.tenant();
    const first = await append(testSequencer(db.database), log, events(2));
    const { proxy, database } = await throughProxy();
    const sequencer = testSequencer(database);
    await append(sequencer, log, [event(5)]).then((recorded) => first.push(...recorded));
    proxy.warn = true;
    expect(await sequencer.append(requestOf(log, [event(1, { idempotency_key: "w" })]))).toMatchObject({
      code: "outcome_unknown",
    });
    proxy.warn = false;
    const retried = await append(sequencer, log, [event(1, { idempotency_key: "w" })]);
    expect(retried[0]!.duplicate).toBe(true);
    await expectExactly(log, [...first, ...retried]);
    await database.close();
  });
});

async function throughProxy(): Promise<{ proxy: Unreliable; database: Database; log: TenantLog }> {
  const proxy = await Unreliable.to(db.url());
  proxies.push(proxy);
  return { proxy, database: db.connect((url) => proxy.through(url)), log: await db.tenant() };
}

/** A simple query, as the driver sends it. */
const COMMIT = Buffer.from("commit\0");

/** Between a server and PostgreSQL, and not to be relied on. */
class Unreliable {
  /** What to do to the next connection that sends COMMIT. */
  cut: "before" | "after" | undefined;
  /** From the next cut on nobody gets through. */
  refuseAfterCut = false;
  refuse = false;
  /** Puts a warning in front of each answer to COMMIT. */
  warn = false;
  cuts = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, target: { host: string; port: number }) {
    this.#server = server;
    server.on("connection", (near) => {
      if (this.refuse) {
        near.on("error", () => {});
        near.destroy();
        return;
      }
      this.#join(near, connect(target));
    });
  }

  static async to(url: string): Promise<Unreliable> {
    const { hostname: host, port } = new URL(url);
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Unreliable(server, { host, port: Number(port) });
  }

  through(url: string): string {
    const through = new URL(url);
    through.hostname = "127.0.0.1";
    through.port = String((this.#server.address() as AddressInfo).port);
    return through.href;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(near: Socket, far: Socket): void {
    let cutting = false;
    const cut = () => {
      this.cuts++;
      if (this.refuseAfterCut) this.refuse = true;
      near.resetAndDestroy();
    };
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    near.on("data", (sent: Buffer) => {
      if (this.cut !== undefined && sent.includes(COMMIT)) {
        const before = this.cut === "before";
        this.cut = undefined;
        if (before) {
          cut();
          return;
        }
        cutting = true;
      }
      far.write(sent);
    });
    far.on("data", (answered: Buffer) => {
      // Its tag says that COMMIT is done; what comes before it answers the statements before it.
      const tag = answered.indexOf("COMMIT\0");
      if (tag !== -1 && cutting) cut();
      else if (tag !== -1 && this.warn)
        near.write(Buffer.concat([answered.subarray(0, tag - 5), WARNING, answered.subarray(tag - 5)]));
      else if (!cutting) near.write(answered);
    });
  }
}

/** NoticeResponse: fields, each a letter and a text. */
const WARNING = (() => {
  const fields = Buffer.from(
    "SWARNING\0VWARNING\0C01000\0Mcanceling wait for synchronous replication due to user request\0\0",
  );
  const header = Buffer.alloc(5);
  header.write("N");
  header.writeInt32BE(4 + fields.length, 1);
  return Buffer.concat([header, fields]);
})();
