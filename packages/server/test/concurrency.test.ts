/** Several servers on one database, many writers: one log each, without gap, fork or double. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Api, Head } from "../src/testing/api.ts";
import { Account, checkAccount, randomFrom } from "../src/testing/load.ts";
import { checkLog, TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer } from "../src/testing/server.ts";

const SERVERS = 4;
const WRITERS = 64;
const SERVICES = ["default", "orders", "billing", "auth", "search"];
const SEED = Number(process.env.TALLYSTICK_TEST_SEED ?? Date.now() % 2 ** 31);

let database: TestDatabase;
let servers: TestServer[];

beforeAll(async () => {
  database = await TestDatabase.create();
  const ADMIN_TOKEN = "operator-of-all-the-servers-in-this-test";
  servers = await Promise.all(
    Array.from({ length: SERVERS }, () => startTestServer({ ...databaseSettings(database), ADMIN_TOKEN })),
  );
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

interface Work {
  readonly writer: number;
  readonly requests: number;
  readonly slugs: readonly string[];
  readonly accounts: ReadonlyMap<string, Account>;
}

/** Writes by turns single events and bulk requests, with keys and without, to any server, and some of them twice. */
async function write({ writer, requests, slugs, accounts }: Work): Promise<void> {
  const random = randomFrom(SEED + writer);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
  for (let request = 0; request < requests; request++) {
    const slug = pick(slugs);
    const account = accounts.get(slug)!;
    const operator = () => pick(servers).operator.with({ "x-tenant-id": slug });
    const events = Array.from({ length: random() < 0.6 ? 1 : 1 + Math.floor(random() * 40) }, (_, index) => {
      const tag = `${writer}-${request}-${index}`;
      const service = pick(SERVICES);
      return {
        action: "load.write",
        actor: { id: `writer-${writer}`, ...(random() < 0.2 && { email: "w@example.com" }) },
        metadata: { tag },
        ...(service !== "default" && { service_id: service }),
        ...(random() < 0.5 && { idempotency_key: tag }),
      };
    });
    const keyed = events.every((event) => event.idempotency_key !== undefined);
    // The same again, at the same moment and to another server, where it is safe.
    const answers = await Promise.all(
      Array.from({ length: keyed && random() < 0.3 ? 2 : 1 }, () => send(operator(), events)),
    );
    expect(answers.flat().filter(({ duplicate }) => !duplicate).length).toBe(events.length);
    for (const heads of answers) {
      for (const [index, head] of heads.entries()) account.acknowledge(events[index]!.metadata.tag, head);
    }
  }
}

async function send(api: Api, events: readonly unknown[]): Promise<Head[]> {
  return events.length === 1 ? [await api.record(events[0])] : api.recordAll(events);
}

async function writeAll(requests: number, slugs: readonly string[], accounts: ReadonlyMap<string, Account>) {
  const writers = Array.from({ length: WRITERS }, (_, writer) => write({ writer, requests, slugs, accounts }));
  await Promise.all(writers);
  for (const slug of slugs) {
    const account = accounts.get(slug)!;
    expect(await checkAccount(database.superuser, slug, account), `seed ${SEED}`).toBe(account.heads.size);
    const { size, checked } = await checkLog(database.database, (await database.tenants.find(slug))!);
    expect([size, checked]).toEqual([account.heads.size, account.heads.size]);
  }
  const { rows } = await database.superuser.query<{ deadlocks: string }>(
    "select deadlocks from pg_stat_database where datname = current_database()",
  );
  expect(rows[0]!.deadlocks).toBe("0");
}

test(`${SERVERS} servers, ${WRITERS} writers, one tenant (seed ${SEED})`, async () => {
  const { slug } = await database.tenant("one");
  await writeAll(12, [slug], new Map([[slug, new Account()]]));
});

test(`${SERVERS} servers, ${WRITERS} writers, twenty tenants (seed ${SEED})`, async () => {
  const accounts = new Map<string, Account>();
  for (let index = 0; index < 20; index++) accounts.set((await database.tenant(`many-${index}`)).slug, new Account());
  await writeAll(12, [...accounts.keys()], accounts);
});

test("the servers end in good order, and have nothing to complain of", async () => {
  expect(await Promise.all(servers.map((server) => server.stop()))).toEqual(new Array(SERVERS).fill(0));
  for (const { said } of servers) expect(said).not.toMatch(/"level":50/);
});
