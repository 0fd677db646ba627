/** Exports as CSV and NDJSON over HTTP, read back by other people's programs. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { text as textOf } from "node:stream/consumers";
import { constants, gunzipSync } from "node:zlib";
import type { ExportManifest, ExportType } from "@tallystick/core/export-file";
import { type ExportReport, ExportVerifier } from "@tallystick/core/export-verify";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEFAULT_COLUMNS } from "../src/export/columns.ts";
import type { Api, Problem } from "../src/testing/api.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";

let database: TestDatabase;
let server: TestServer;

beforeAll(async () => {
  database = await TestDatabase.create();
  // What the indexer reads would be taken for what exports read.
  server = await startTestServer({ ...databaseSettings(database), INDEX_WORKER: "false" });
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
});

let tenants = 0;

async function newTenant(): Promise<{ slug: string; api: Api }> {
  const slug = `file-${tenants++}`;
  expect((await server.operator.post("/v1/tenants", { slug })).status).toBe(201);
  const secret = await database.newKey(slug, { scopes: ["write", "read", "export"] });
  return { slug, api: server.api.as({ authorization: `Bearer ${secret}` }) };
}

async function exported(api: Api, query: string) {
  const answer = await api.get(`/v1/logs/export?${query}`);
  expect(answer.status, answer.text).toBe(200);
  return answer;
}

function check(type: ExportType, file: string | Uint8Array): ExportReport {
  const verifier = new ExportVerifier(type);
  verifier.write(typeof file === "string" ? Buffer.from(file) : file);
  return verifier.report();
}

/** A complete file's records by Python's csv module, the header first and the manifest left out. */
async function records(file: string): Promise<string[][]> {
  expect(check("csv", file)).toMatchObject({ state: "complete" });
  const python = spawn("python3", [
    "-c",
    'import csv, io, json, sys; print(json.dumps(list(csv.reader(io.TextIOWrapper(sys.stdin.buffer, "utf-8", newline=""), strict=True))))',
  ]);
  python.stdin.end(file);
  const [out] = await Promise.all([textOf(python.stdout), once(python, "close")]);
  const all = JSON.parse(out) as string[][];
  expect(new Set(all.map((record) => record.length)).size, "every record has as many cells").toBe(1);
  expect(all.pop()![0]).toMatch(/^#manifest /);
  return all;
}

async function rows(file: string): Promise<Record<string, string>[]> {
  const [header, ...others] = await records(file);
  return others.map((record) => Object.fromEntries(record.map((cell, i) => [header![i]!, cell])));
}

function lines(file: string): { entries: Record<string, unknown>[]; manifest: ExportManifest } {
  const all = file
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const { manifest } = all.pop() as unknown as { manifest: ExportManifest };
  return { entries: all, manifest };
}

const event = (i: number) => ({
  action: i % 2 === 0 ? "order.create" : "user.login",
  actor: { id: `u-${i}`, ...(i % 2 === 1 && { name: `Name ${i}` }) },
  service_id: i % 3 === 0 ? "orders" : "users",
});
const events = (count: number) => Array.from({ length: count }, (_, i) => event(i));

describe("CSV", () => {
  test("has a row for every entry, with the usual columns and their defaults", async () => {
    const { slug, api } = await newTenant();
    const [head] = await api.recordAll([
      {
        action: "order.refund",
        actor: { id: "a-1", type: "agent", name: 'Zoë, "Z"', email: "z@example.com", on_behalf_of: { id: "u-9" } },
        resource: { type: "order", id: "o-17", name: "Order\r\n17" },
        related: [{ type: "invoice", id: "i-1" }],
        reason: '=HYPERLINK("http://evil.example")',
        context: { ip: "203.0.113.9", request_id: "r-1" },
        changes: { before: { status: "paid" }, after: { status: "refunded" } },
        metadata: { amount: -12.5, plan: { name: "gold" }, tags: ["a", "b"] },
      },
      event(0),
    ]);
    const { headers, text } = await exported(api, "format=csv");
    expect(headers["content-type"]).toBe("text/csv; charset=utf-8; header=present");
    expect(headers["content-disposition"]).toBe(`attachment; filename="${slug}-0-1.csv"`);
    const [header] = await records(text);
    expect(header).toEqual(DEFAULT_COLUMNS);
    expect(text.startsWith("seq,id,")).toBe(true); // no byte order mark
    const [first, second] = await rows(text);
    expect(first).toEqual({
      seq: "0",
      id: head!.id,
      recorded_at: head!.recorded_at,
      occurred_at: head!.recorded_at,
      service_id: "default",
      action: "order.refund",
      actor_type: "agent",
      actor_id: "a-1",
      actor_name: 'Zoë, "Z"',
      actor_email: "z@example.com",
      on_behalf_of_id: "u-9",
      resource_type: "order",
      resource_id: "o-17",
      resource_name: "Order\r\n17",
      outcome: "success",
      severity: "INFO",
      operation: "",
      event_type: "",
      reason: '\'=HYPERLINK("http://evil.example")',
      description: "",
      request_id: "r-1",
      session_id: "",
      trace_id: "",
      ip: "203.0.113.9",
      user_agent: "",
      related: '[{"id":"i-1","type":"invoice"}]',
      changes: '{"after":{"status":"refunded"},"before":{"status":"paid"}}',
      metadata: '{"amount":-12.5,"plan":{"name":"gold"},"tags":["a","b"]}',
      leaf_hash: head!.leaf_hash,
    });
    expect(second).toMatchObject({ actor_type: "user", actor_id: "u-0", service_id: "orders", metadata: "" });
  });

  test("has the columns that are chosen, members of objects among them", async () => {
    const { api } = await newTenant();
    await api.recordAll([
      {
        ...event(0),
        metadata: { plan: { name: "gold" }, "http.method": "GET", n: -5, "a.b": { c: null }, list: [1, "x"] },
      },
      event(1),
    ]);
    const columns = [
      ...["action", "metadata.plan.name", "metadata.http.method", "metadata.n"],
      ...["metadata.plan", "metadata.list.1", "changes.after.status"],
    ];
    const expected = [columns, ["order.create", "gold", "GET", "-5", '{"name":"gold"}', "x", ""]];
    expect((await records((await exported(api, `format=csv&columns=${columns.join(",")}`)).text)).slice(0, 2)).toEqual(
      expected,
    );
    const several = columns.map((name) => `columns=${name}`).join("&");
    expect((await records((await exported(api, `format=csv&${several}`)).text)).slice(0, 2)).toEqual(expected);
    // A record of one empty cell is no empty line.
    const single = (await exported(api, "format=csv&columns=metadata.n&to_seq=2")).text;
    expect(single).toMatch(/^metadata\.n\r\n-5\r\n""\r\n"#manifest /);
    expect(check("csv", single)).toMatchObject({ state: "complete", rows: 2 });
  });

  test("shows what was masked and what was erased, as lists do", async () => {
    const { slug, api } = await newTenant();
    await api.recordAll([{ ...event(1), metadata: { password: "hunter22" } }, event(3)]);
    const log = (await database.tenants.find(slug))!;
    await database.superuser.query("delete from tallystick.openings where log_id = $1 and seq = 1", [log.logId]);
    const [masked, erased] = await rows((await exported(api, "format=csv")).text);
    expect(masked).toMatchObject({ actor_name: "Name 1", metadata: '{"password":{"$masked":"password"}}' });
    expect(erased!.actor_name).toMatch(/^\{"\$committed":"[0-9a-f]{64}"\}$/);
  });

  test("gives any value back: random texts and JSON, by another program", async () => {
    const { api } = await newTenant();
    const seed = Number(process.env.EXPORT_SEED ?? Date.now() % 2 ** 31);
    const hostile = fc.constantFrom(
      ...["=", "+", "-", "@", "\t", "\r", "\n", "'", '"', ",", ";", "＝", "#manifest {}", "\u2028"],
    );
    const word = fc.oneof(fc.string({ unit: "grapheme" }), hostile, fc.string());
    const value = fc
      .array(word, { maxLength: 6 })
      .map((parts) => parts.join("").replaceAll("\0", "").toWellFormed().slice(0, 500));
    const samples = fc.sample(fc.record({ reason: value, text: value, nested: fc.array(value, { maxLength: 3 }) }), {
      seed,
      numRuns: 400,
    });
    await api.recordAll(
      samples.map(({ reason, text, nested }) => ({ ...event(0), reason, metadata: { text, nested, number: -1 } })),
    );
    const columns = "reason,metadata.text,metadata.nested,metadata.number";
    const [, ...cells] = await records((await exported(api, `format=csv&columns=${columns}`)).text);
    const listed = lines((await exported(api, "format=ndjson&to_seq=400")).text).entries;
    for (const [i, sample] of samples.entries()) {
      const { reason, metadata } = (listed[i] as { event: { reason: unknown; metadata: { text: unknown } } }).event;
      // A secret by chance is masked: what the list says counts.
      if (typeof reason === "string") expect(original(cells[i]![0]!), `seed ${seed}`).toBe(reason);
      if (typeof metadata.text === "string") expect(original(cells[i]![1]!), `seed ${seed}`).toBe(metadata.text);
      expect(JSON.parse(cells[i]![2]!), `seed ${seed}`).toEqual(sample.nested);
      expect(cells[i]![3]).toBe("-1");
      for (const cell of cells[i]!.slice(0, 3)) expect(cell, `seed ${seed}`).not.toMatch(/^[=+\-@\t\r\n＝＋－＠]/);
    }
  });
});

/** What docs/exporting.md says how to undo. */
function original(cell: string): string {
  return /^'+(?:[=+\-@\t\r\n＝＋－＠]|#manifest )/.test(cell) ? cell.slice(1) : cell;
}

describe("NDJSON", () => {
  test("has a line for every entry as lists show it, and a manifest that says what it was made from", async () => {
    const { slug, api } = await newTenant();
    await api.recordAll([...events(30), { ...event(1), reason: "a\u2028b" }]);
    const { headers, text } = await exported(api, "format=ndjson&action=user.*&from_seq=3");
    expect(headers["content-type"]).toBe("application/x-ndjson");
    expect(headers["content-disposition"]).toBe(`attachment; filename="${slug}-3-30-filtered.ndjson"`);
    const { entries, manifest } = lines(text);
    const listed = (await api.listAll({ action: "user.*", order: "asc" })).filter(({ seq }) => seq >= 3);
    expect(entries).toEqual(listed);
    expect(text).not.toContain("\u2028");
    const { text: note } = await api.get(`/v1/tenants/${slug}/log/checkpoint`);
    expect(manifest).toEqual({
      ...{ format: "tallystick-export/v1", type: "ndjson", log: expect.stringMatching(new RegExp(`/${slug}$`)) },
      ...{ rows: 15, sha256: expect.stringMatching(/^[0-9a-f]{64}$/), filter: { action: "user.*", from_seq: "3" } },
      ...{ from: 3, to: 31, checkpoint: note, created_at: expect.stringMatching(/Z$/) },
      generator: expect.stringMatching(/^tallystick /),
    });
    expect(check("ndjson", text)).toMatchObject({ state: "complete", rows: 15, checkpoint: { size: 31 } });
    // As docs/exporting.md does it by hand.
    const byHand = spawn("sh", ["-c", "head -n -1 | sha256sum"]);
    byHand.stdin.end(text);
    expect(await textOf(byHand.stdout)).toBe(`${manifest.sha256}  -\n`);
  });

  test("takes every filter that lists take, and their query strings", async () => {
    const { api } = await newTenant();
    await api.recordAll(events(40));
    for (const query of [
      { q: "actor:u-3,u-4 -action:user.*" },
      { q: '"Name 7"' },
      { service_id: "orders", action: "order.*" },
    ] as Record<string, string>[]) {
      const parameters = new URLSearchParams(query);
      const listed = await api.listAll({ ...query, order: "asc" });
      expect(listed.length).toBeGreaterThan(0);
      expect(lines((await exported(api, `format=ndjson&${parameters}`)).text).entries).toEqual(listed);
      const csv = await rows((await exported(api, `format=csv&${parameters}`)).text);
      expect(csv.map(({ id }) => id)).toEqual(listed.map(({ id }) => id));
    }
    const several = "actor_id=u-1&actor_id=u-2";
    expect(lines((await exported(api, `format=ndjson&${several}`)).text)).toMatchObject({
      entries: [{ seq: 1 }, { seq: 2 }],
      manifest: { filter: { actor_id: ["u-1", "u-2"] } },
    });
  });
});

describe("an export", () => {
  test("compressed by gzip is the same file, as a file or on the way", async () => {
    const { slug, api } = await newTenant();
    await api.recordAll(events(1_000));
    const plain = (await exported(api, "format=csv&to_seq=1000")).text;
    const withoutManifest = (file: string) => file.slice(0, file.indexOf('"#manifest '));
    for (const [query, headers, expected] of [
      ["&gzip=true", { "accept-encoding": "gzip" }, { type: "application/gzip", encoding: undefined, name: ".csv.gz" }],
      ["", { "accept-encoding": "br, gzip;q=0.5" }, { type: /^text\/csv/, encoding: "gzip", name: ".csv" }],
      ["&gzip=false", { "accept-encoding": "*, gzip;q=0" }, { type: /^text\/csv/, encoding: undefined, name: ".csv" }],
    ] as const) {
      const { bytes, headers: got } = await fetched(api, `format=csv&to_seq=1000${query}`, headers);
      expect(got["content-type"]).toMatch(expected.type);
      expect(got["content-encoding"]).toBe(expected.encoding);
      expect(got["content-disposition"]).toBe(`attachment; filename="${slug}-0-999${expected.name}"`);
      const file =
        (expected.encoding ?? expected.name.endsWith("gz")) ? gunzipSync(bytes).toString() : bytes.toString();
      expect(withoutManifest(file)).toBe(withoutManifest(plain));
      expect(check("csv", file)).toMatchObject({ state: "complete", rows: 1_000 });
    }
    const evidence = await fetched(api, "format=evidence&gzip=true&to_seq=10", {});
    expect(gunzipSync(evidence.bytes).toString()).toContain('"kind":"manifest"');
  });

  test("of nothing is a file with nothing but its manifest", async () => {
    const { slug, api } = await newTenant();
    // The first is of an empty log: each of them is an entry.
    for (const query of ["", "&actor_id=nobody", "&from=2100-01-01", "&from_seq=5&to_seq=3"]) {
      const csv = await exported(api, `format=csv${query}`);
      expect(await records(csv.text)).toEqual([DEFAULT_COLUMNS]);
      expect(check("csv", csv.text)).toMatchObject({ state: "complete", rows: 0 });
      if (query === "") {
        expect(csv.headers["content-disposition"]).toContain(`"${slug}-empty.csv"`);
        continue;
      }
      expect(lines((await exported(api, `format=ndjson${query}`)).text)).toMatchObject({
        entries: [],
        manifest: { rows: 0 },
      });
    }
  });

  test("without a manifest is what other programs expect, and can be told from one that is complete", async () => {
    const { api } = await newTenant();
    await api.recordAll(events(3));
    const csv = (await exported(api, "format=csv&columns=seq&manifest=none&to_seq=3")).text;
    expect(csv).toBe("seq\r\n0\r\n1\r\n2\r\n");
    expect(check("csv", csv)).toMatchObject({ state: "broken", verdict: "unchecked" });
    const ndjson = (await exported(api, "format=ndjson&manifest=none&to_seq=3")).text;
    expect(ndjson.trimEnd().split("\n")).toHaveLength(3);
  });

  test("is an entry before its first byte, with what was asked for; HEAD is a read, and says what there would be", async () => {
    const { slug, api } = await newTenant();
    await api.recordAll(events(2));
    const head = await api.send("HEAD", "/v1/logs/export?format=csv&gzip=true");
    expect(head).toMatchObject({ status: 200, text: "" });
    expect(head.headers["content-disposition"]).toBe(`attachment; filename="${slug}-0-1.csv.gz"`);
    await exported(api, "format=csv&columns=seq,action&actor_id=u-1&q=login");
    const told = await api.listAll({ action: "tallystick.log.exported" });
    expect(told.map(({ event }) => (event as { metadata: unknown }).metadata)).toEqual([
      {
        format: "csv",
        filter: { actor_id: "u-1", columns: "seq,action", q: "(not kept)" },
        ...{ from: 0, to: 2, tree_size: 2 },
      },
    ]);
  });

  test("is not disturbed by what is recorded meanwhile", async () => {
    const { api } = await newTenant();
    await api.recordAll(events(3_000));
    let recording = true;
    const writer = (async () => {
      while (recording) await api.recordAll(events(50));
    })();
    try {
      for (const type of ["csv", "ndjson"] as const) {
        const { text } = await exported(api, `format=${type}`);
        const { state, rows, manifest, checkpoint } = check(type, text);
        expect(state).toBe("complete");
        expect([rows, manifest!.to]).toEqual([checkpoint!.size, checkpoint!.size]);
      }
    } finally {
      recording = false;
      await writer;
    }
  });

  test("refuses what it does not understand", async () => {
    const { api } = await newTenant();
    const refused = async (query: string) => {
      const { status, body } = await api.get<Problem>(`/v1/logs/export?${query}`);
      return [status, body.errors?.map(({ path, message }) => `${path} ${message}`)];
    };
    for (const [query, error] of [
      ["format=xml", "format must be one of csv, ndjson, evidence"],
      [
        "format=csv&columns=seq,actr_id",
        /^columns must name columns, which "actr_id" is not; there are seq, id, .*metadata\.<key>/,
      ],
      ["format=csv&columns=metadata.", /"metadata\." is not/],
      ["format=csv&columns=metadata..x", /"metadata\.\.x" is not/],
      ["format=csv&columns=__proto__", /"__proto__" is not/],
      ["format=csv&columns=seq,seq", 'columns names the column "seq" twice'],
      [
        `format=csv&columns=${Array.from({ length: 201 }, (_, i) => `metadata.${i}`)}`,
        "columns must name at most 200 columns, not 201",
      ],
      ["format=ndjson&columns=seq", "columns is for CSV: leave it out, or ask for format=csv"],
      ["format=evidence&manifest=none", /^manifest is what shows/],
      ["format=csv&gzip=yes", "gzip must be one of true, false"],
      ["format=csv&limit=10", /^limit /],
      ["format=csv&cursor=x", /^cursor /],
      ["format=csv&q=nonsense:1", /^q character 1: "nonsense" is no field/],
      ["format=csv&from=yesterday", /^from must be/],
    ] as const) {
      expect(await refused(query), query).toEqual([
        400,
        [typeof error === "string" ? error : expect.stringMatching(error)],
      ]);
    }
    expect(await refused("format=csv&tree_size=5")).toEqual([404, [expect.stringMatching(/^tree_size/)]]);
  });
});

describe("an export over a slow or broken connection", () => {
  let slow: Api;
  beforeAll(async () => {
    // 64 MB and more.
    const { api } = await newTenant();
    const large = { ...event(0), metadata: { text: "x".repeat(8_000) } };
    for (let i = 0; i < 8; i++) await api.recordAll(Array.from({ length: 1_000 }, () => large));
    slow = api;
  });

  // By what Linux counts.
  test.runIf(process.platform === "linux")(
    "is read from the database no faster than by its reader, who stalls, and is whole when that one reads on",
    async () => {
      for (const query of ["format=ndjson", "format=csv&columns=metadata,seq"]) {
        const before = await readBytes(server);
        const { incoming, text } = await asked(slow, query);
        await until(async () => (await idle()) && incoming.readableLength > 0);
        // Up to 36 MiB are on their way, in the system's buffers; what was not read is not in the server's memory.
        expect((await readBytes(server)) - before).toBeLessThan(48 * 2 ** 20);
        const bytes = await text();
        expect((await readBytes(server)) - before).toBeGreaterThan(64 * 2 ** 20);
        expect(check(query.includes("csv") ? "csv" : "ndjson", bytes).state).toBe("complete");
      }
    },
  );

  test("is given up when its reader goes away, also while nothing is found", async () => {
    const { incoming } = await asked(slow, "format=ndjson");
    incoming.destroy();
    await until(() => idle(), { what: "the search ends" });
    // Text is looked for in each entry: over so many that takes a while.
    const outgoing = request(`${slow.url}/v1/logs/export?format=csv&q=nowhere`, { headers: slow.headers }).end();
    const [response] = (await once(outgoing, "response")) as [IncomingMessage];
    response.destroy();
    await until(() => idle(), { what: "the search ends" });
    expect(server.said).not.toContain("an export was cut off");
  });

  test.each(["csv", "ndjson"] as const)(
    "that fails in the middle is cut off, and has no manifest: %s",
    async (type) => {
      for (const gzip of ["", "&gzip=true"]) {
        const { incoming, text } = await asked(slow, `format=${type}${gzip}`);
        await database.superuser.query("revoke select on tallystick.entries from tallystick_reader");
        const bytes = await text();
        await database.superuser.query("grant select on tallystick.entries to tallystick_reader");
        expect(incoming.complete).toBe(false);
        const file = gzip === "" ? bytes : gunzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH });
        expect(check(type, file)).toMatchObject({ state: "broken" });
        await until(() => server.said.includes("an export was cut off"));
      }
    },
  );
});

/** An export whose answer has begun and is not read; `text` reads what there is. */
async function asked(api: Api, query: string) {
  const outgoing = request(`${api.url}/v1/logs/export?${query}`, { headers: api.headers }).end();
  const [incoming] = (await once(outgoing, "response")) as [IncomingMessage];
  expect(incoming.statusCode).toBe(200);
  const text = async () => {
    const parts: Buffer[] = [];
    incoming.on("data", (part: Buffer) => parts.push(part));
    incoming.on("error", () => {}); // told by `complete`
    await new Promise<void>((resolve) => (incoming.closed ? resolve() : incoming.once("close", resolve)));
    return Buffer.concat(parts);
  };
  return { incoming, text };
}

/** Whether none of the server's readers is at work, nor has been a moment ago: between two pages they rest as well. */
async function idle(): Promise<boolean> {
  const { rows } = await database.superuser.query<{ busy: number }>(
    `select count(*)::int as busy from pg_stat_activity
     where datname = current_database() and application_name = 'tallystick reader' 
       and (state <> 'idle' or state_change > clock_timestamp() - interval '300 ms')`,
  );
  return rows[0]!.busy === 0;
}

/** What the server has read since it was started, from its database above all. */
async function readBytes({ pid }: TestServer): Promise<number> {
  const io = await readFile(`/proc/${pid}/io`, "utf8");
  return Number(/^rchar: (\d+)$/m.exec(io)![1]);
}

/** The bytes of an export as they come over the wire. */
async function fetched(api: Api, query: string, headers: Readonly<Record<string, string>>) {
  const outgoing = request(`${api.url}/v1/logs/export?${query}`, { headers: { ...api.headers, ...headers } }).end();
  const [incoming] = (await once(outgoing, "response")) as [IncomingMessage];
  const parts: Buffer[] = [];
  for await (const part of incoming) parts.push(part as Buffer);
  expect(incoming.statusCode).toBe(200);
  return { bytes: Buffer.concat(parts), headers: incoming.headers };
}
