/** What is wrong is refused, in the same words whatever it is; nothing of it is stored, and the server goes on. */
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import fc from "fast-check";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../src/db/embedded.ts";
import type { Answer, Head, List, Problem } from "../src/testing/api.ts";
import { checkLog, TestDatabase } from "../src/testing/log.ts";
import { TcpProxy } from "../src/testing/proxy.ts";
import {
  databaseSettings,
  startTestServer,
  stopTestServers,
  type TestServer,
  temporaryDirectory,
  until,
} from "../src/testing/server.ts";

const MAX_EVENT_BODY_BYTES = 1024 * 1024;
// Printed by fast-check where a run fails; set it to see that run again.
const SEED = Number(process.env.TALLYSTICK_TEST_SEED ?? Date.now() % 2 ** 31);

let database: TestDatabase;
let server: TestServer;
const running: EmbeddedPostgres[] = [];

beforeAll(async () => {
  database = await TestDatabase.create();
  server = await startTestServer(databaseSettings(database));
});
afterAll(async () => {
  await stopTestServers();
  for (const postgres of running) await postgres.stop({ force: true });
  await database.close();
});

function event(more: Readonly<Record<string, unknown>> = {}) {
  return { action: "user.login", actor: { id: "alice" }, ...more };
}

async function logSize(from: TestServer = server): Promise<number> {
  const { body } = await from.api.get<List>("/v1/logs?limit=1");
  return body.data.length === 0 ? 0 : body.data[0]!.seq + 1;
}

/** That an answer is a refusal of 4xx, in the form of RFC 9457. */
function expectRefusal(answer: Answer<unknown>, what: string): Problem {
  const problem = answer.body as Problem;
  expect(answer.status, `${what}: ${answer.text}`).toBeGreaterThanOrEqual(400);
  expect(answer.status, `${what}: ${answer.text}`).toBeLessThan(500);
  expect(answer.headers["content-type"], what).toMatch(/^application\/problem\+json/);
  expect(problem, what).toMatchObject({
    type: expect.stringMatching(/^urn:tallystick:problem:[a-z-]+$/),
    status: answer.status,
    title: expect.stringMatching(/./),
    detail: expect.stringMatching(/./),
    request_id: answer.headers["x-request-id"],
  });
  return problem;
}

interface Rejected {
  readonly name: string;
  readonly input: string;
  readonly code: string;
  readonly paths?: readonly string[];
}

describe("every rule of the specification's section 2, broken once (vectors/event/reject.json)", () => {
  const vectors: Rejected[] = JSON.parse(
    readFileSync(new URL("../../../vectors/event/reject.json", import.meta.url), "utf8"),
  );

  test("as one event", async () => {
    const before = await logSize();
    for (const { name, input, code, paths } of vectors) {
      const problem = expectRefusal(await server.api.post("/v1/logs", input), name);
      expect(problem.status, name).toBe(code === "reserved" ? 403 : 400);
      const found = (problem.errors ?? []).map(({ path }) => path).sort();
      if (paths !== undefined && input !== "") expect(found, name).toEqual(paths);
      expect(found.length, name).toBeGreaterThan(0);
    }
    expect(await logSize()).toBe(before);
  });

  test("as an item of a bulk request, whose good items are not stored either", async () => {
    const before = await logSize();
    const good = JSON.stringify(event());
    for (const { name, input, code, paths } of vectors) {
      const problem = expectRefusal(await server.api.post("/v1/logs/bulk", `[${good},${input},${good}]`), name);
      if (code === "syntax" || paths === undefined) continue;
      expect(problem.status, name).toBe(code === "reserved" ? 403 : 400);
      expect((problem.errors ?? []).map(({ path }) => path).sort(), name).toEqual(paths.map((path) => `/1${path}`));
    }
    expect(await logSize()).toBe(before);
  });

  test("as a line of NDJSON with partial=true, whose good lines are stored", async () => {
    const before = await logSize();
    const onOneLine = vectors.filter(({ input }) => !/[\r\n]/.test(input) && input.trim() !== "");
    const lines = onOneLine.flatMap(({ input }) => [input, JSON.stringify(event())]).join("\n");
    const answer = await server.api.post<{ data: (Head | Problem)[] }>("/v1/logs/bulk?partial=true", lines, {
      "content-type": "application/x-ndjson",
    });
    expect(answer.status, answer.text).toBe(207);
    expect(answer.body.data.length).toBe(onOneLine.length * 2);
    for (const [index, item] of answer.body.data.entries()) {
      if (index % 2 === 1) expect(item).toMatchObject({ seq: before + (index - 1) / 2 });
      else expect([400, 403], onOneLine[index / 2]!.name).toContain((item as Problem).status);
    }
    expect(await logSize()).toBe(before + onOneLine.length);
  });
});

describe("rubbish", () => {
  const good = JSON.stringify(event({ metadata: { n: 1, s: "ü", deep: [{}] }, idempotency_key: "k" }));
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 200 }).map((array) => Buffer.from(array));
  /** The good event with a few of its bytes put elsewhere, taken out, or made others. */
  const mutated = fc
    .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255), fc.nat(2)), { minLength: 1, maxLength: 4 })
    .map((changes) => {
      let body = Buffer.from(good);
      for (const [at, byte, how] of changes) {
        if (how === 0) body[at % body.length] = byte;
        else
          body = Buffer.concat([
            body.subarray(0, at),
            how === 1 ? Buffer.of(byte) : Buffer.of(),
            body.subarray(at + 1),
          ]);
      }
      return body;
    });
  const field = fc.constantFrom(
    "action",
    "actor",
    "resource",
    "related",
    "outcome",
    "changes",
    "metadata",
    "attachments",
    "context",
    "sequence",
    "occurred_at",
    "version",
    "idempotency_key",
    "service_id",
    "timestamp",
    "user_id",
    "ip",
    "tenant_id",
    "__proto__",
    "constructor",
  );
  const evil = fc.constantFrom(
    '"\\u0000"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    "1e400",
    "-1e400",
    "9007199254740992",
    "1e999999999",
    "-0",
    "{}",
    "[]",
    "null",
    "true",
    '{"a":1,"a":2}',
    '{"__proto__":{"x":1}}',
    '{"\\u005f_proto__":1}',
    '{"$committed":"x"}',
    '{"$masked":"x"}',
    '""',
    '"\u2028\u2029\ufeff"',
    "[".repeat(40) + "]".repeat(40),
    '{"a":'.repeat(100_000),
    "[".repeat(500_000),
    `"${"x".repeat(70_000)}"`,
    `"${"\\u0041".repeat(20_000)}"`,
    "1".repeat(5_000),
    `0.${"0".repeat(5_000)}1`,
    "NaN",
    "Infinity",
    "undefined",
    "'x'",
    "\ufeff1",
  );
  const body = fc.oneof(
    { weight: 2, arbitrary: bytes },
    { weight: 5, arbitrary: mutated },
    { weight: 2, arbitrary: fc.json({ maxDepth: 6 }) },
    {
      weight: 4,
      arbitrary: fc.tuple(field, evil).map(([name, value]) => `{"action":"a.b","actor":{"id":"x"},"${name}":${value}}`),
    },
    {
      weight: 3,
      arbitrary: fc.tuple(field, fc.json()).map(([name, value]) => `{"actor":{"id":"x"},"${name}":${value}}`),
    },
    { weight: 1, arbitrary: evil },
  );
  const type = fc.oneof(
    { weight: 6, arbitrary: fc.constant("application/json") },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        "application/x-ndjson",
        "application/cloudevents+json",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        'application/json;charset="iso-8859-1"',
        "x",
        "",
      ),
    },
  );

  test("as a body is refused or is an event, and never a 5xx", async () => {
    const size = await logSize();
    let recorded = 0;
    await fc.assert(
      fc.asyncProperty(body, type, fc.boolean(), async (sent, contentType, bulk) => {
        const path = bulk ? "/v1/logs/bulk" : "/v1/logs";
        const answer = await server.api.post<Head | { data: Head[] } | Problem>(path, sent, {
          "content-type": contentType,
        });
        if (answer.status !== 201) {
          expectRefusal(answer, String(sent).slice(0, 200));
          return;
        }
        const heads = "data" in answer.body ? answer.body.data : [answer.body as Head];
        recorded += heads.filter(({ duplicate }) => !duplicate).length;
      }),
      { numRuns: 600, seed: SEED },
    );
    expect(await logSize()).toBe(size + recorded);
  });

  test("as parameters and paths", async () => {
    const piece = fc.oneof(
      fc.string({ unit: "binary", maxLength: 20 }).map((text) => encodeURIComponent(text.toWellFormed())),
      fc.constantFrom(
        "%",
        "%zz",
        "%00",
        "%ff%fe",
        "%c0%80",
        "%ed%a0%80",
        "..",
        "../..",
        "a=b",
        "&",
        "%0d%0a",
        "'",
        "--",
        "x".repeat(3_000),
        "[]",
        "[a]=1",
      ),
    );
    const name = fc.constantFrom(
      "actor_id",
      "action",
      "ip",
      "from",
      "to",
      "cursor",
      "limit",
      "order",
      "request_id",
      "tenant_id",
      "resource_id",
      "__proto__",
      "constructor",
      "toString",
    );
    const size = await logSize();
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom("/v1/logs?", "/audit-log?", "/v1/logs/", "/v1/", "/", "/v1/admin/api-keys/", "/v1/tenants?"),
        name,
        piece,
        async (path, parameter, value) => {
          const answer = await server.api.get(path.endsWith("?") ? `${path}${parameter}=${value}` : `${path}${value}`);
          // `..` leads elsewhere, perhaps to a page that there is.
          if (![200, 302].includes(answer.status)) expectRefusal(answer, `${path}${parameter}=${value}`);
        },
      ),
      { numRuns: 400, seed: SEED },
    );
    expect(await logSize()).toBe(size);
  });

  test("as headers", async () => {
    const latin = fc
      .string({ unit: "binary-ascii", maxLength: 40 })
      .map((text) => text.replace(/[^\t\x20-\x7e]/g, "\xe9").trim());
    const name = fc.constantFrom(
      "authorization",
      "x-api-key",
      "x-admin-token",
      "x-tenant-id",
      "idempotency-key",
      "x-request-id",
      "content-type",
      "accept",
      "content-encoding",
      "prefer",
      "origin",
      "cookie",
      "host",
    );
    const size = await logSize();
    let recorded = 0;
    await fc.assert(
      fc.asyncProperty(name, latin, async (header, value) => {
        const answer = await server.api.post<Head>("/v1/logs", event(), { [header]: value });
        if (answer.status !== 201) expectRefusal(answer, `${header}: ${value}`);
        else if (!answer.body.duplicate) recorded++;
      }),
      { numRuns: 300, seed: SEED },
    );
    expect(await logSize()).toBe(size + recorded);
  });

  test("in charsets and codings that are not read is a 415", async () => {
    for (const [name, value] of [
      ["content-type", "application/json; charset=utf-16"],
      ["content-type", 'application/json; charset="ISO-8859-1"'],
      ["content-type", "application/xml"],
      ["content-type", "application/x-www-form-urlencoded"],
      ["content-type", "multipart/form-data; boundary=x"],
      ["content-encoding", "gzip"],
      ["content-encoding", "br"],
    ] as const) {
      const answer = await server.api.post("/v1/logs", event(), { [name]: value });
      expect(expectRefusal(answer, value).errors?.[0]?.path.toLowerCase()).toBe(name);
      expect(answer.status).toBe(415);
    }
    for (const value of [
      "application/json; charset=UTF-8",
      'application/json;charset="utf-8"',
      "application/cloudevents+json",
    ]) {
      await server.api.record(event(), { "content-type": value });
    }
  });

  test("larger than the limits is a 413, and memory is not spent on it", async () => {
    const size = await logSize();
    for (const [path, bytes] of [
      ["/v1/logs", MAX_EVENT_BODY_BYTES + 1],
      ["/v1/logs/bulk", 16 * MAX_EVENT_BODY_BYTES + 1],
    ] as const) {
      expect(expectRefusal(await server.api.post(path, Buffer.alloc(bytes, " ")), path).status).toBe(413);
      // The same without a Content-Length that says so.
      const chunked = { "transfer-encoding": "chunked", "content-length": "" };
      expect(expectRefusal(await server.api.post(path, Buffer.alloc(bytes, " "), chunked), path).status).toBe(413);
    }
    expect(await logSize()).toBe(size);
  });
});

interface RawAnswer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/** Sends pieces over a socket of its own, each when the one before is out, and reads answers until the server closes. */
async function raw(url: string, pieces: readonly (string | Buffer)[], { end = false } = {}): Promise<RawAnswer[]> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.setNoDelay(true);
  let received = "";
  socket.setEncoding("utf8");
  socket.on("data", (chunk) => {
    received += chunk;
  });
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  socket.setTimeout(10_000, () => socket.destroy());
  socket.on("error", () => {}); // closing while we send is the server's right
  for (const piece of pieces) {
    if (socket.destroyed) break;
    await new Promise<void>((resolve) => socket.write(piece, () => resolve()));
  }
  if (end) socket.end();
  await closed;
  const answers: RawAnswer[] = [];
  for (let rest = received; rest !== ""; ) {
    const split = rest.indexOf("\r\n\r\n");
    const head = rest.slice(0, split);
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
    answers.push({ status: Number(head.split(" ")[1]), head, body: rest.slice(split + 4, split + 4 + length) });
    rest = rest.slice(split + 4 + length);
  }
  return answers;
}

function expectRawRefusal(answer: RawAnswer | undefined, status: number, what: string): void {
  expect(answer?.status, what).toBe(status);
  expect(answer!.head, what).toMatch(/content-type: application\/problem\+json/i);
  const problem = JSON.parse(answer!.body) as Problem;
  expect(problem.status, what).toBe(status);
  expect(problem.request_id, what).toBe(/x-request-id: (\S+)/i.exec(answer!.head)?.[1]);
}

describe("HTTP that is not HTTP", () => {
  const authorized = () => `authorization: Bearer ${server.credentials.api_key}\r\ncontent-type: application/json\r\n`;
  const json = JSON.stringify(event());
  const post = (headers: string, body = "") =>
    `POST /v1/logs HTTP/1.1\r\nhost: x\r\n${authorized()}${headers}\r\n${body}`;

  test("is refused, and nothing is stored", async () => {
    const size = await logSize();
    for (const [what, request, status] of [
      ["no HTTP", "hello\r\n\r\n", 400],
      ["TLS", Buffer.from("16030100a5010000a10303", "hex"), 400],
      ["no host", "GET /v1/logs HTTP/1.1\r\nconnection: close\r\n\r\n", 400],
      ["an unknown method", "BREW /v1/logs HTTP/1.1\r\nhost: x\r\n\r\n", 400],
      ["a header without a colon", "GET /v1/logs HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", 400],
      ["NUL in a header", "GET /v1/logs HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n", 400],
      ["huge headers", `GET /v1/logs HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(40_000)}\r\n\r\n`, 431],
      ["a huge URL", `GET /v1/logs?actor_id=${"y".repeat(40_000)} HTTP/1.1\r\nhost: x\r\n\r\n`, 431],
      ["a length that is none", post("content-length: ten\r\n", json), 400],
      ["a negative length", post("content-length: -1\r\n", json), 400],
      ["two lengths", post(`content-length: ${json.length}\r\ncontent-length: 5\r\n`, json), 400],
      ["a length and chunks", post(`content-length: ${json.length}\r\ntransfer-encoding: chunked\r\n`, json), 400],
      ["an unknown coding", post("transfer-encoding: gzip\r\n", json), 400],
      ["chunks without a size", post("transfer-encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"), 400],
      ["chunks that are longer than they say", post("transfer-encoding: chunked\r\n", "2\r\n{}{}\r\n0\r\n\r\n"), 400],
      [
        "an expectation",
        post(`expect: the-unexpected\r\ncontent-length: ${json.length}\r\nconnection: close\r\n`, json),
        417,
      ],
    ] as const) {
      const answers = await raw(server.url, [request]);
      expectRawRefusal(answers[0], status, what);
      expect(answers.length, what).toBe(1);
    }
    expect(await logSize()).toBe(size);
  });

  test("a body that ends too early is not an event", async () => {
    const size = await logSize();
    // It would be one, if a part of it were.
    for (const length of [json.length + 1, json.length + 100]) {
      const answers = await raw(server.url, [post(`content-length: ${length}\r\n`, json)], { end: true });
      for (const answer of answers) expectRawRefusal(answer, 400, "too early");
    }
    const open = post("transfer-encoding: chunked\r\n", `${json.length.toString(16)}\r\n${json}\r\n`);
    for (const answer of await raw(server.url, [open], { end: true }))
      expectRawRefusal(answer, 400, "chunks too early");
    expect(await logSize()).toBe(size);
  });

  test("a body longer than its length is an event, and rubbish behind it", async () => {
    const size = await logSize();
    const answers = await raw(server.url, [
      post(`content-length: ${json.length}\r\n`, `${json}\x01\x02rubbish\r\n\r\n`),
    ]);
    expect(answers[0]?.status).toBe(201);
    expectRawRefusal(answers[1], 400, "what follows");
    expect(await logSize()).toBe(size + 1);
  });

  test("requests behind each other are answered in order", async () => {
    const size = await logSize();
    const requests = Array.from({ length: 20 }, (_, index) => {
      const body = JSON.stringify(event({ reason: `${index}` }));
      return post(`content-length: ${body.length}\r\n`, body);
    }).join("");
    const answers = await raw(server.url, [`${requests}GET /v1/logs/nothing HTTP/1.1\r\nhost: x\r\n\r\n\x00\x00`]);
    expect(answers.map(({ status }) => status)).toEqual([...new Array<number>(20).fill(201), 401, 400]);
    expect(await logSize()).toBe(size + 20);
  });

  test("chunks of one byte are as good as one", async () => {
    const size = await logSize();
    const pieces = [...json].map((letter) => `1\r\n${letter}\r\n`);
    const head = post("transfer-encoding: chunked\r\nconnection: close\r\n");
    const answers = await raw(server.url, [head, ...pieces, "0\r\n\r\n"]);
    expect(answers.map(({ status }) => status)).toEqual([201]);
    expect(await logSize()).toBe(size + 1);
  });

  test("what never arrives whole is a 408", async () => {
    const REQUEST_TIMEOUT_MS = "300";
    const impatient = await startTestServer({
      ...databaseSettings(database),
      API_KEY: server.credentials.api_key,
      REQUEST_TIMEOUT_MS,
    });
    const size = await logSize();
    for (const [what, request] of [
      ["headers", "POST /v1/logs HTTP/1.1\r\nhost: x\r\n"],
      ["body", post(`content-length: ${json.length + 1}\r\n`, json)],
      ["chunks", post("transfer-encoding: chunked\r\n", "1\r\n{\r\n")],
    ] as const) {
      const startedAt = performance.now();
      const answers = await raw(impatient.url, [request]);
      expectRawRefusal(answers[0], 408, what);
      expect(performance.now() - startedAt, what).toBeLessThan(5_000);
    }
    expect(await logSize()).toBe(size);
    await impatient.api.record(event());
    expect(await impatient.stop()).toBe(0);
  });
});

describe("PostgreSQL that is away", () => {
  /** That every route that needs the database says 503 at once, and that the process lives. */
  async function expectUnavailable(down: TestServer): Promise<void> {
    await until(async () => (await down.api.get("/v1/logs")).status === 503); // a cached key is good for a second
    for (const send of [
      () => down.api.post("/v1/logs", event({ reason: "lost" })),
      () => down.api.post("/v1/logs/bulk", [event({ reason: "lost" })]),
      () => down.operator.post("/v1/logs", event({ reason: "lost" })),
      () => down.api.get("/v1/logs"),
      () => down.api.get("/v1/logs/0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"),
      () => down.operator.get("/v1/tenants"),
    ]) {
      const startedAt = performance.now();
      const answer = await send();
      expect(performance.now() - startedAt).toBeLessThan(5_000);
      expect(answer.status, answer.text).toBe(503);
      expect(answer.headers["content-type"]).toMatch(/^application\/problem\+json/);
      expect(Number(answer.headers["retry-after"])).toBeGreaterThanOrEqual(1);
    }
    expect((await down.api.get("/health/live")).status).toBe(200);
    await untilReady(down, 503);
  }

  /** What is said is up to a second old. */
  async function untilReady(of: TestServer, status: number): Promise<void> {
    await until(async () => (await of.api.get("/health/ready")).status === status, { deadlineMs: 3_000 });
  }

  test("is a 503 with Retry-After, and the server needs no restart (connections refused)", async () => {
    const proxy = await TcpProxy.to(database.url());
    const API_KEY = server.credentials.api_key;
    const behind = await startTestServer({ ...databaseSettings(database, (url) => proxy.through(url)), API_KEY });
    for (let round = 0; round < 3; round++) {
      const kept = await behind.api.record(event({ reason: `kept ${round}` }));
      proxy.set("refuse");
      await expectUnavailable(behind);
      proxy.set("pass");
      // At the first request: no pooled connection that died may fail it.
      const next = await behind.api.record(event({ reason: `next ${round}` }));
      expect(next.seq).toBe(kept.seq + 1);
      expect((await behind.api.get(`/v1/logs/${kept.id}`)).status).toBe(200);
      await untilReady(behind, 200);
    }
    await checkLog(database.database, (await database.tenants.find("default"))!);
    expect(await behind.stop()).toBe(0);
    await proxy.close();
  });

  test("kill -9 of all its processes loses nothing that was acknowledged", async () => {
    const postgres = await startEmbeddedPostgres({ dataDir: join(await temporaryDirectory(), "data") });
    running.push(postgres);
    const own = await startTestServer({ DATABASE_URL: postgres.adminUrl });
    const heads: Head[] = [];
    for (let round = 0; round < 2; round++) {
      heads.push(...(await own.api.recordAll(Array.from({ length: 50 }, () => event()))));
      const postmaster = Number.parseInt(await readFile(join(postgres.clusterDirectory, "postmaster.pid"), "utf8"), 10);
      const client = new pg.Client(postgres.adminUrl);
      client.on("error", () => {});
      await client.connect();
      const { rows } = await client.query<{ pid: number }>("select pid from pg_stat_activity");
      for (const pid of [postmaster, ...rows.map((row) => row.pid)]) {
        try {
          process.kill(pid, "SIGKILL");
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error; // it went with the postmaster
        }
      }
      await client.end().catch(() => {});
      await expectUnavailable(own);
      expect(await postgres.ensureRunning()).toBe(true);
      const next = await own.api.record(event());
      expect(next.seq).toBe(heads.length);
      heads.push(next);
    }
    const entries = await own.api.listAll({ order: "asc", limit: "1000" });
    expect(entries.map(({ id, leaf_hash }) => [id, leaf_hash])).toEqual(
      heads.map(({ id, leaf_hash }) => [id, leaf_hash]),
    );
    expect(await own.stop()).toBe(0);
  });
});

describe("a clock that is an hour off", () => {
  /** Moves the server's clock by an hour, at once or at SIGUSR2 and back at the next. */
  const preload = (atOnce: boolean) =>
    `data:text/javascript,${encodeURIComponent(`
      const now = Date.now;
      let off = ${atOnce};
      Date.now = () => now() + (off ? 3_600_000 : 0);
      process.on("SIGUSR2", () => { off = !off; });`)}`;

  test("is refused at the start, in words", async () => {
    await expect(
      startTestServer(databaseSettings(database), { execArgv: ["--import", preload(true)] }),
    ).rejects.toThrow(/clock is 3600 s behind.*NTP/s);
  });

  test("is refused while running, and taken again when it is right", async () => {
    const API_KEY = server.credentials.api_key;
    const own = await startTestServer(
      { ...databaseSettings(database), API_KEY },
      { execArgv: ["--import", preload(false)] },
    );
    const { seq } = await own.api.record(event());
    process.kill(own.pid, "SIGUSR2");
    await until(async () => (await own.api.get("/health/ready")).status === 503);
    const refused = await own.api.post("/v1/logs", event());
    expect([refused.status, refused.body.detail]).toEqual([503, expect.stringMatching(/clock.*NTP/)]);
    expect(Number(refused.headers["retry-after"])).toBeGreaterThanOrEqual(1);
    expect((await own.api.get("/v1/logs")).status).toBe(200);
    process.kill(own.pid, "SIGUSR2");
    await until(async () => (await own.api.get("/health/ready")).status === 200);
    expect((await own.api.record(event())).seq).toBe(seq + 1);
    expect(await own.stop()).toBe(0);
  });
});

test("after all of this the server answers, and its log verifies", async () => {
  await server.api.record(event());
  await checkLog(database.database, (await database.tenants.find("default"))!);
  expect(server.said).not.toMatch(/"level":60/);
  expect(await server.stop()).toBe(0);
});
