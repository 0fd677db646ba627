/** The log as any client of C2SP tlog-tiles reads it: by an implementation that is not ours, and route by route. */
import { execFile, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { leafHash } from "@tallystick/core/tree";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Scope } from "../src/access/scopes.ts";
import type { Api, Headers } from "../src/testing/api.ts";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer, until } from "../src/testing/server.ts";

const run = promisify(execFile);
const GO_SOURCE = fileURLToPath(new URL("./go", import.meta.url));
// Go, with the module that the check is made of: a machine may have the one and no way to the other.
const GO = ["go", "/usr/local/go/bin/go"].find(
  (path) => spawnSync(path, ["mod", "download"], { cwd: GO_SOURCE, timeout: 60_000 }).status === 0,
);
if (GO === undefined) console.warn("Go, or its module x/mod, is not to be had: the log is not checked by sumdb here");

let database: TestDatabase;
let server: TestServer;
let directory: string;

beforeAll(async () => {
  database = await TestDatabase.create();
  directory = await mkdtemp(join(tmpdir(), "tallystick-tiles-"));
  server = await startTestServer({ ...databaseSettings(database), CHECKPOINT_INTERVAL_MS: "20" });
});
afterAll(async () => {
  await stopTestServers();
  await database.close();
  await rm(directory, { recursive: true });
});

const event = (i: number) => ({ action: "a.b", actor: { id: `u-${i}`, name: "Zoë" } });
const prefixOf = (tenant: string) => `/v1/tenants/${tenant}/log`;

/** A tenant whose log has so many entries, and the operator's way to it. */
async function tenantOf(slug: string, size: number): Promise<Api> {
  expect((await server.operator.post("/v1/tenants", { slug })).status).toBe(201);
  const api = server.operator.with({ "x-tenant-id": slug });
  await growTo(api, slug, 0, size);
  return api;
}

async function growTo(api: Api, slug: string, from: number, to: number): Promise<void> {
  for (let at = from; at < to; at += 5_000) {
    await api.recordAll(Array.from({ length: Math.min(5_000, to - at) }, (_, i) => event(at + i)));
  }
  await published(slug, to);
}

async function published(slug: string, size: number): Promise<void> {
  await until(
    async () => (await server.operator.get(`${prefixOf(slug)}/checkpoint`)).text.split("\n")[1] === String(size),
    { what: `size ${size} of ${slug} is published` },
  );
}

/** An API key of a tenant. */
async function keyOf(slug: string, scopes: readonly Scope[]): Promise<Headers> {
  return { authorization: `Bearer ${await database.newKey(slug, { scopes })}` };
}

/** The bytes of an answer, as they came. */
async function fetchBytes(path: string, headers: Headers = server.operator.headers, url = server.url) {
  const response = await fetch(`${url}${path}`, { headers: { "accept-encoding": "identity", ...headers } });
  return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) };
}

describe.skipIf(GO === undefined)("Go's sumdb reads and proves", () => {
  let program: string;
  beforeAll(async () => {
    program = join(directory, "tlogcheck");
    await run(GO!, ["build", "-o", program, "."], { cwd: GO_SOURCE });
  }, 300_000);

  interface Result {
    readonly origin: string;
    readonly size: number;
    readonly hashed: number;
    readonly proved: number;
    readonly consistent: readonly number[];
  }

  async function check(slug: string, kept: string, url = `${server.url}${prefixOf(slug)}`): Promise<Result> {
    const { "x-admin-token": token } = server.operator.headers;
    const { stdout } = await run(program, [url, kept, `x-admin-token: ${token}`]);
    return JSON.parse(stdout) as Result;
  }

  test("every entry, and every earlier checkpoint, of a log that grows past its first tiles", async () => {
    const slug = "grows";
    const kept = await mkdtemp(join(directory, "kept-"));
    const api = await tenantOf(slug, 0);
    let last = 0;
    const seen: number[] = [];
    for (const size of [0, 1, 2, 3, 255, 256, 257, 511, 512, 700]) {
      await growTo(api, slug, last, size);
      const result = await check(slug, kept);
      expect(result).toMatchObject({ size, hashed: size, proved: size });
      expect(result.origin).toMatch(/\/grows$/);
      expect([...result.consistent].sort((a, b) => a - b)).toEqual(seen);
      if (size > 0) seen.push(size);
      last = size;
    }
  });

  test("a log of three levels", async () => {
    const slug = "large";
    const kept = await mkdtemp(join(directory, "kept-"));
    const api = await tenantOf(slug, 65_535);
    let last = 65_535;
    for (const size of [65_535, 65_536, 65_537, 66_000]) {
      await growTo(api, slug, last, size);
      const result = await check(slug, kept);
      expect(result).toMatchObject({ size, hashed: size });
      expect(result.proved).toBeGreaterThan(1_000);
      last = size;
    }
    const levels = await Promise.all(
      ["2/000.p/1", "1/000", "1/001.p/1", "0/257.p/208"].map((path) => fetchBytes(`${prefixOf(slug)}/tile/${path}`)),
    );
    expect(levels.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  }, 180_000);

  test("and names the entry that was changed, and the log that was cut", async () => {
    const slug = "tampered";
    const kept = await mkdtemp(join(directory, "kept-"));
    const api = await tenantOf(slug, 300);
    await check(slug, kept);
    const log = (await database.tenants.find(slug))!;
    await database.tamper(`update tallystick.entries set leaf = replace(leaf, 'u-7"', 'u-x"') where log_id = $1`, [
      log.logId,
    ]);
    await expect(check(slug, kept)).rejects.toThrow(/entry 7 has hash/);
    await database.tamper(`update tallystick.entries set leaf = replace(leaf, 'u-x"', 'u-7"') where log_id = $1`, [
      log.logId,
    ]);
    expect(await check(slug, kept)).toMatchObject({ size: 300, consistent: [300] });
    // Another log that has the same name and fewer entries: what was kept is no beginning of it.
    await growTo(api, slug, 300, 301);
    await tenantOf("shorter", 2);
    await expect(check("shorter", kept)).rejects.toThrow(/note|verif|signature/i);
  });
});

describe("a tile", () => {
  const slug = "tiles";
  let at: string;
  let reader: Headers;
  beforeAll(async () => {
    await tenantOf(slug, 600);
    at = `${prefixOf(slug)}/tile`;
    reader = await keyOf(slug, ["read"]);
  });

  test("is served by its exact path and width", async () => {
    for (const path of ["0/000", "0/001", "0/002.p/88", "1/000.p/2", "entries/000", "entries/002.p/88"]) {
      const { status, bytes } = await fetchBytes(`${at}/${path}`);
      expect({ path, status }).toEqual({ path, status: 200 });
      const [, width = "256"] = path.split(".p/");
      if (!path.startsWith("entries")) expect(bytes.length).toBe(Number(width) * 32);
    }
  });

  test.each([
    // beyond the size, or wider than the tree
    "0/003",
    "0/002",
    "0/002.p/89",
    "0/003.p/1",
    "1/000",
    "1/000.p/3",
    "1/001.p/1",
    "2/000.p/1",
    "63/000.p/1",
    "entries/003.p/1",
    "entries/002",
    "0/x001/234",
    "0/x001/x234/067.p/8",
    "0/x009/x007/x199/x254/x740/991",
    // a width that is none, or a full tile asked for as a partial one
    "0/000.p/256",
    "0/000.p/0",
    "0/000.p/01",
    "0/000.p/-1",
    "0/000.p/257",
    "0/000.p/",
    "0/000.p",
    "entries/000.p/256",
    // other spellings
    "0/0",
    "0/00",
    "0/0000",
    "00/000",
    "+0/000",
    "0/x000/000",
    "0/001/234",
    "0/x1/234",
    "0/000/",
    "64/000",
    "-1/000",
    "data/000",
    "8/0/000",
    "0/000.P/1",
    "entries/0",
    "entries",
    "0",
    "%30/000",
    "0%2F000",
    "0//000",
    "0/000%2Ep/1x",
    "0/%30%30%3000",
    "0/٠٠٠",
  ])("%j is not there", async (path) => {
    const { status, headers, bytes } = await fetchBytes(`${at}/${path}`);
    expect(status).toBe(404);
    expect(headers.get("content-type")).toMatch(/^application\/problem\+json/);
    expect(headers.get("cache-control")).toBe("no-store"); // it may be there tomorrow
    expect(JSON.parse(bytes.toString())).toMatchObject({ type: "urn:tallystick:problem:not-found" });
  });

  test("that is partial is the beginning of every wider one", async () => {
    for (const [path, widths] of Object.entries({ "0/000": [1, 2, 128, 255], "0/002": [1, 50, 87], "1/000": [1] })) {
      const wider = await fetchBytes(`${at}/${path}${path === "0/002" ? ".p/88" : path === "1/000" ? ".p/2" : ""}`);
      for (const width of widths) {
        const { bytes } = await fetchBytes(`${at}/${path}.p/${width}`);
        expect(bytes.equals(wider.bytes.subarray(0, width * 32))).toBe(true);
        expect(bytes.length).toBe(width * 32);
      }
    }
    const bundle = (await fetchBytes(`${at}/entries/000`)).bytes;
    for (const width of [1, 7, 255]) {
      const { bytes } = await fetchBytes(`${at}/entries/000.p/${width}`);
      expect(bytes.equals(bundle.subarray(0, bytes.length))).toBe(true);
    }
  });

  test("of entries has what its tile of level 0 hashes", async () => {
    let { bytes } = await fetchBytes(`${at}/entries/001`);
    const hashes = (await fetchBytes(`${at}/0/001`)).bytes;
    for (let i = 0; i < 256; i++) {
      const entry = bytes.subarray(2, 2 + bytes.readUInt16BE());
      expect(Buffer.from(leafHash(entry)).equals(hashes.subarray(i * 32, i * 32 + 32))).toBe(true);
      expect(JSON.parse(entry.toString())).toMatchObject({ seq: 256 + i });
      bytes = bytes.subarray(2 + entry.length);
    }
    expect(bytes.length).toBe(0);
    // A node of level 1 is the tree over a tile of level 0.
    let level = Array.from({ length: 256 }, (_, i) => hashes.subarray(i * 32, i * 32 + 32));
    while (level.length > 1) {
      level = Array.from({ length: level.length / 2 }, (_, i) =>
        createHash("sha256")
          .update(Uint8Array.of(1))
          .update(level[2 * i]!)
          .update(level[2 * i + 1]!)
          .digest(),
      );
    }
    expect((await fetchBytes(`${at}/1/000.p/2`)).bytes.subarray(32).equals(level[0]!)).toBe(true);
  });

  test("may be kept for good by its reader, and says for whom it is", async () => {
    const tile = await fetchBytes(`${at}/0/000`);
    expect(tile.headers.get("content-type")).toBe("application/octet-stream");
    expect(tile.headers.get("cache-control")).toBe("private, max-age=31536000, immutable");
    expect(tile.headers.get("vary")).toMatch(/authorization, x-api-key, x-admin-token/);
    const checkpoint = await fetchBytes(`${prefixOf(slug)}/checkpoint`);
    expect(checkpoint.headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect(checkpoint.headers.get("cache-control")).toBe("private, max-age=1");
  });

  test("of entries is compressed for those who can read that", async () => {
    const plain = await fetchBytes(`${at}/entries/000`);
    expect(plain.headers.get("content-encoding")).toBeNull();
    for (const accepted of ["gzip", "br;q=1.0, gzip;q=0.5", "GZIP", "x-gzip, gzip ; q=1"]) {
      const answer = await server.operator.get(`${at}/entries/000`, { "accept-encoding": accepted });
      expect(answer.headers).toMatchObject({ "content-encoding": "gzip", "content-type": "application/octet-stream" });
      expect(Number(answer.headers["content-length"])).toBeLessThan(plain.bytes.length / 2);
    }
    for (const refused of ["identity", "br", "gzip;q=0", "gzip; q=0.000, br", ""]) {
      const answer = await server.operator.get(`${at}/entries/000`, { "accept-encoding": refused });
      expect(answer.headers["content-encoding"]).toBeUndefined();
    }
    const zipped = await zippedBytes(`${at}/entries/000`);
    expect(gunzipSync(zipped).equals(plain.bytes)).toBe(true);
    expect(
      (await fetchBytes(`${at}/0/000`, { ...server.operator.headers, "accept-encoding": "gzip" })).headers.get(
        "content-encoding",
      ),
    ).toBeNull();
  });

  test("is for its tenant's credentials; of entries, for those that may read", async () => {
    const writer = await keyOf(slug, ["write"]);
    expect((await fetchBytes(`${at}/0/000`, writer)).status).toBe(200);
    expect((await fetchBytes(`${at}/entries/000`, writer)).status).toBe(403);
    expect((await fetchBytes(`${at}/entries/000`, reader)).status).toBe(200);
    expect((await fetchBytes(`${at}/0/000`, {})).status).toBe(401);
    expect((await fetchBytes(`${at}/0/000`, { authorization: "Bearer tally_wrong" })).status).toBe(401);
    // The key of tenant default, with every scope.
    for (const path of ["tile/0/000", "tile/entries/000", "checkpoint", "vkey", "consistency?from=1", "witnesses"]) {
      expect((await server.api.get(`${prefixOf(slug)}/${path}`)).status).toBe(403);
    }
    const tenantId = (await database.tenants.find(slug))!.tenantId;
    const byId = await fetchBytes(`/v1/tenants/${tenantId}/log/tile/0/000`, reader);
    expect(byId.bytes.equals((await fetchBytes(`${at}/0/000`, reader)).bytes)).toBe(true);
    expect((await fetchBytes(`/v1/tenants/${slug}/logs/${slug}/tile/0/000`, reader)).status).toBe(200);
    expect((await fetchBytes(`/v1/tenants/${slug}/logs/default/tile/0/000`, reader)).status).toBe(404);
    expect((await fetchBytes("/v1/tenants/no-such-tenant/log/tile/0/000")).status).toBe(404);
  });

  test("can be asked for by HEAD", async () => {
    for (const path of ["0/000", "0/002.p/88", "entries/000"]) {
      const whole = await fetchBytes(`${at}/${path}`);
      const head = await server.operator.send("HEAD", `${at}/${path}`);
      expect(head).toMatchObject({ status: 200, text: "" });
      expect(Number(head.headers["content-length"])).toBe(whole.bytes.length);
      expect(head.headers["content-type"]).toBe("application/octet-stream");
    }
    expect((await server.operator.send("HEAD", `${at}/0/003`)).status).toBe(404);
    expect((await server.operator.send("POST", `${at}/0/000`, {})).status).toBe(405);
  });

  test("of hashes is for anyone where PUBLIC_LOG says so; entries never are", async () => {
    const open = await startTestServer(
      { ...databaseSettings(database), PUBLIC_LOG: "true" },
      { dataDir: server.dataDir },
    );
    try {
      for (const [path, type] of Object.entries({
        checkpoint: "text/plain; charset=utf-8",
        vkey: "text/plain; charset=utf-8",
        "consistency?from=1": "application/json; charset=utf-8",
        "tile/0/000": "application/octet-stream",
        "tile/1/000.p/2": "application/octet-stream",
      })) {
        const answer = await fetchBytes(`${prefixOf(slug)}/${path}`, {}, open.url);
        expect({ path, status: answer.status, type: answer.headers.get("content-type") }).toEqual({
          path,
          status: 200,
          type,
        });
        expect(answer.headers.get("cache-control")).toMatch(/^public, /);
      }
      expect((await fetchBytes(`${at}/entries/000`, {}, open.url)).status).toBe(401);
      expect((await fetchBytes(`${at}/entries/000`, await keyOf(slug, ["write"]), open.url)).status).toBe(403);
      const entries = await fetchBytes(`${at}/entries/000`, reader, open.url);
      expect(entries.status).toBe(200);
      expect(entries.headers.get("cache-control")).toBe("private, max-age=31536000, immutable");
      expect((await fetchBytes(`${at}/entries/000`, server.api.headers, open.url)).status).toBe(403);
      expect((await fetchBytes(`${prefixOf(slug)}/witnesses`, {}, open.url)).status).toBe(401);
    } finally {
      await open.stop();
    }
  });
});

/** What comes over the wire: fetch() would decompress it. */
async function zippedBytes(path: string): Promise<Buffer> {
  const headers = { ...server.operator.headers, "accept-encoding": "gzip" };
  return new Promise((resolve, reject) => {
    request(`${server.url}${path}`, { headers }, (incoming) => resolve(buffer(incoming)))
      .on("error", reject)
      .end();
  });
}
