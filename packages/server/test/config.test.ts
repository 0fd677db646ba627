import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DEFAULT_MASKED_KEYS } from "@tallystick/core/masking";
import { cosignerKey, formatVerifierKey, verifierKey } from "@tallystick/core/verifier-key";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { NOT_YET, SETTINGS } from "../src/config/settings.ts";
import { type Config, ConfigError, describeConfig, envExample, loadConfig } from "../src/config.ts";

const SECRET = "a-secret-of-enough-length";
let cwd: string;

beforeEach(async () => {
  cwd = await mkdtemp(join(tmpdir(), "tallystick-config-"));
});

afterEach(async () => {
  await rm(cwd, { recursive: true });
});

function load(env: Record<string, string>): Config {
  return loadConfig(env, { cwd });
}

/** What loadConfig() refuses, one line a problem. */
function problems(env: Record<string, string>): string[] {
  try {
    load(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map(({ name, detail }) => `${name} ${detail}`);
    throw error;
  }
  throw new Error("the settings were accepted");
}

describe("loadConfig()", () => {
  test("with nothing set gives the defaults and the embedded database", () => {
    expect(load({})).toMatchObject({
      port: 8000,
      host: "127.0.0.1",
      dataDir: join(cwd, "data"),
      database: { kind: "embedded" },
      logLevel: "info",
      logOrigin: undefined,
      commitBatchMaxEvents: 4000,
      queueMaxEvents: 20_000,
      queueMaxBytes: 128 * 1024 ** 2,
      idempotencyWindowDays: 7,
      maxClockSkewSeconds: 60,
      maskedKeys: DEFAULT_MASKED_KEYS,
      maskCardNumbers: false,
      warnings: [],
    });
  });

  test("prefers the environment to .env, and .env to the default", async () => {
    await writeFile(join(cwd, ".env"), "PORT=9001\nHOST=0.0.0.0\n# LOG_LEVEL=ERROR\n");
    expect(load({ PORT: "9002" })).toMatchObject({ port: 9002, host: "0.0.0.0", logLevel: "info" });
  });

  test("reads witnesses, and refuses what is none", () => {
    const [a, b] = [1, 2].map((n) => cosignerKey(`w${n}.example`, new Uint8Array(32).fill(n)));
    const [va, vb] = [formatVerifierKey(a!), formatVerifierKey(b!)];
    expect(load({}).witnesses).toBeUndefined();
    expect(load({ WITNESSES: `https://w1.example/ ${va}, http://127.0.0.1:81/x/y  ${vb},\n` }).witnesses).toEqual([
      { url: "https://w1.example", key: a },
      { url: "http://127.0.0.1:81/x/y", key: b },
    ]);
    const asLog = formatVerifierKey(verifierKey("w1.example", a!.publicKey));
    const many = Array.from({ length: 17 }, (_, i) => cosignerKey("w", new Uint8Array(32).fill(i)));
    const cases: [string, RegExp][] = [
      [va!, /must be "<url> <verifier key>"/],
      [`https://w ${va} ${vb}`, /must be "<url> <verifier key>"/],
      [`w1.example ${va}`, /must have a URL such as https:/],
      [`ftp://w1.example ${va}`, /must have a URL such as https:/],
      [`https://u:p@w1.example ${va}`, /without user, \? and #; https:\/\/w1.example\/ has/],
      [`https://w1.example?x ${va}`, /without user/],
      [`https://w1.example ${asLog}`, /no witness's verifier key behind https:\/\/w1.example .*type 1 is a log's key/],
      [`https://w1.example ${va}x`, /no witness's verifier key/],
      [`https://w1.example ${va},https://w1.example/ ${vb}`, /names https:\/\/w1.example twice/],
      [`https://w1.example ${va},https://w2.example ${va}`, /one key: remove one/],
      [`https://w1 ${va},https://w2 ${formatVerifierKey(cosignerKey("other", a!.publicKey))}`, /one key: remove one/],
      [many.map((key, i) => `https://w${i} ${formatVerifierKey(key)}`).join(), /names 17 witnesses: at most 16/],
    ];
    for (const [text, why] of cases) expect(problems({ WITNESSES: text })).toEqual([expect.stringMatching(why)]);
  });

  test("counts an empty value as not set", () => {
    expect(load({ PORT: "", DATABASE_URL: "" })).toMatchObject({ port: 8000, database: { kind: "embedded" } });
  });

  test("reads NAME_FILE, relative to the working directory, without the line's end", async () => {
    await writeFile(join(cwd, "key"), `${SECRET}\n`);
    expect(load({ API_KEY_FILE: "key" }).apiKey).toBe(SECRET);
  });

  test("lets the environment's value win over a file that .env names", async () => {
    await writeFile(join(cwd, ".env"), "API_KEY_FILE=/nowhere\n");
    expect(load({ API_KEY: SECRET }).apiKey).toBe(SECRET);
  });

  test("refuses NAME beside NAME_FILE, a missing file and an empty one", async () => {
    await writeFile(join(cwd, "empty"), "\n");
    expect(problems({ API_KEY: SECRET, API_KEY_FILE: "key", ADMIN_TOKEN_FILE: "gone", PORT_FILE: "empty" })).toEqual([
      expect.stringMatching(/^PORT_FILE names .*empty, which is empty/),
      expect.stringMatching(/^API_KEY is set beside API_KEY_FILE/),
      expect.stringMatching(/^ADMIN_TOKEN_FILE names .*gone, which cannot be read \(ENOENT\)/),
    ]);
  });

  test("lists all problems at once, each with how to mend it", () => {
    expect(problems({ PORT: "80a", LOG_LEVEL: "LOUD", QUEUE_MAX_EVENTS: "10" })).toEqual([
      'PORT is "80a": it must be a whole number from 0 to 65535',
      expect.stringMatching(/^LOG_LEVEL is "LOUD": it must be one of TRACE, DEBUG/),
      'QUEUE_MAX_EVENTS is "10": it must be a whole number from 5000 to 1000000',
    ]);
  });

  test.each([
    ["PORT", "65536"],
    ["PORT", "-1"],
    ["PORT", "8e3"],
    ["HOST", "http://localhost"],
    ["HOST", "localhost:8000"],
    ["LOG_ORIGIN", "https://audit.example.com"],
    ["LOG_ORIGIN", "Audit Log"],
    ["LOG_ORIGIN", "a//b"],
    ["LOG_ORIGIN", "example.com/"],
    ["DATABASE_URL", "mysql://u:p@host/db"],
    ["DATABASE_URL", "postgres://u:p@host"],
    ["DATABASE_URL", "postgres://u:p#ss@host/db"],
    ["API_KEY", "too-short"],
    ["API_KEY", "has spaces in its middle"],
    ["QUEUE_MAX_BYTES", "64MB"],
    ["QUEUE_MAX_BYTES", "1MiB"],
    ["DB_PORT", "tcp://10.0.0.7:5432"],
    ["MASKED_KEYS", "password,,token"],
    ["MASKED_KEYS", "pass word"],
  ])("refuses %s=%s", (name, value) => {
    expect(problems({ [name]: value })[0]).toMatch(new RegExp(`^${name} `));
  });

  test.each([
    ["HOST", "::1", { host: "::1" }],
    ["HOST", "audit.internal", { host: "audit.internal" }],
    ["LOG_ORIGIN", "example.com/audit", { logOrigin: "example.com/audit" }],
    ["LOG_LEVEL", "warning", { logLevel: "warn" }],
    ["QUEUE_MAX_BYTES", "1GiB", { queueMaxBytes: 1024 ** 3 }],
    ["PORT", "0", { port: 0 }],
    ["MASKED_KEYS", "Pin, tax_id", { maskedKeys: ["Pin", "tax_id"] }],
    ["MASKED_KEYS", "+pin", { maskedKeys: [...DEFAULT_MASKED_KEYS, "pin"] }],
    ["MASKED_KEYS", "none", { maskedKeys: [] }],
  ])("accepts %s=%s", (name, value, expected) => {
    expect(load({ [name]: value })).toMatchObject(expected);
  });

  test("never repeats a secret in an error", () => {
    const password = "hunter2#";
    const text = problems({
      API_KEY: "short",
      ADMIN_TOKEN: "brief",
      DATABASE_URL: `postgres://u:${password}@h/d`,
    }).join();
    expect(text).not.toMatch(/hunter2|is "short"|brief/);
  });

  test("makes a URL of DB_HOST and its companions, whatever the password holds", () => {
    const config = load({ DB_HOST: "db.internal", DB_USER: "au", DB_PASSWORD: "a/b?c#d@e:f%", DB_NAME: "logs" });
    expect(config.database).toMatchObject({ kind: "external", url: expect.stringContaining("@db.internal:5432/logs") });
    const url = new URL(config.database.kind === "external" ? config.database.url : "");
    expect(decodeURIComponent(url.password)).toBe("a/b?c#d@e:f%");
  });

  test.each([
    ["::1", "postgres://tallystick_writer@[::1]:5432/tallystick"],
    ["/var/run/postgresql", "postgres://tallystick_writer@/tallystick?host=%2Fvar%2Frun%2Fpostgresql&port=5432"],
  ])("makes a URL of DB_HOST=%s", (host, url) => {
    expect(load({ DB_HOST: host }).database).toMatchObject({ kind: "external", url });
  });

  test("keeps the URLs for migrations and for reads beside the main one", () => {
    const [url, adminUrl, readerUrl] = ["w", "a", "r"].map((user) => `postgres://${user}@h/d`);
    const env = { DATABASE_URL: url!, DATABASE_ADMIN_URL: adminUrl!, DATABASE_READER_URL: readerUrl! };
    expect(load(env).database).toEqual({ kind: "external", url, adminUrl, readerUrl });
  });

  test.each([
    [{ DATABASE_URL: "postgres://u@h/d", DB_HOST: "h" }, /^DATABASE_URL is set beside DB_HOST/],
    [{ DB_USER: "u", DB_NAME: "n" }, /^DB_USER, DB_NAME is set without DB_HOST: set DB_HOST/],
    [{ DATABASE_URL: "postgres://u@h/d", DB_PORT: "1" }, /^DB_PORT is set without DB_HOST: remove it/],
    [{ DATABASE_ADMIN_URL: "postgres://u@h/d" }, /^DATABASE_ADMIN_URL is set without DATABASE_URL/],
    [{ DATABASE_READER_URL: "postgres://u@h/d" }, /^DATABASE_READER_URL is set without DATABASE_URL/],
    [{ API_KEY: SECRET, ADMIN_TOKEN: SECRET }, /^API_KEY is the same as ADMIN_TOKEN/],
    [{ COMMIT_BATCH_MAX_EVENTS: "9000", QUEUE_MAX_EVENTS: "5000" }, /^COMMIT_BATCH_MAX_EVENTS is 9000, more than/],
  ])("refuses the contradiction %j", (env, message) => {
    expect(problems(env)).toEqual([expect.stringMatching(message)]);
  });

  test("refuses a near miss in .env, where a typo would start another database", async () => {
    await writeFile(join(cwd, ".env"), "DATABASE_ULR=postgres://u@h/d\nPOSTGRES_PASSWORD=x\nCOMPOSE_PROJECT_NAME=y\n");
    expect(problems({})).toEqual(["DATABASE_ULR in .env is no setting: did you mean DATABASE_URL?"]);
  });

  test("only warns of a near miss in the environment, which other programs share", () => {
    expect(load({ DATABASE_ULR: "x", HOME: "/root", HOSTNAME: "h", KAFKA_BROKERS: "b" }).warnings).toEqual([
      expect.stringContaining("did you mean DATABASE_URL?"),
      "KAFKA_BROKERS is set, but this release does not use it yet",
    ]);
  });

  test("refuses a .env that is not a readable file", async () => {
    await mkdir(join(cwd, ".env"));
    expect(problems({})).toEqual([expect.stringMatching(/^\.env cannot be read \(EISDIR\)/)]);
  });
});

describe("describeConfig()", () => {
  test("shows value, source, default and unit of every setting, and no secret", async () => {
    await writeFile(join(cwd, ".env"), `API_KEY=${SECRET}\n`);
    const rows = describeConfig(load({ DATABASE_URL: "postgres://u:p@ss@h/d?password=zz", PORT: "81" }));
    const row = (name: string) => rows.find((candidate) => candidate.name === name);
    expect(rows.map(({ name }) => name)).toEqual(Object.values(SETTINGS).map(({ name }) => name));
    expect(row("PORT")).toMatchObject({ value: "81", source: "environment", default: "8000" });
    expect(row("API_KEY")).toMatchObject({ value: "********", source: ".env" });
    expect(row("DATABASE_URL")).toMatchObject({ value: "postgres://u:********@h/d?password=********" });
    expect(row("REQUEST_TIMEOUT_MS")).toMatchObject({ value: "30000", source: "default", unit: "ms" });
    expect(row("LOG_ORIGIN")).toMatchObject({ value: "(a unique one is made at the first start)" });
  });
});

describe("the table of settings", () => {
  test("has defaults that its own parsers accept", () => {
    for (const setting of Object.values(SETTINGS)) {
      const { default: fallback } = setting;
      if (fallback !== undefined) expect(() => setting.parse(fallback)).not.toThrow();
    }
  });

  test("announces nothing as not built that is there", () => {
    expect(NOT_YET.filter((name) => Object.values(SETTINGS).some((setting) => setting.name === name))).toEqual([]);
  });

  test("is what .env.example says (npm test -- -u writes it anew)", async () => {
    await expect(envExample()).toMatchFileSnapshot("../../../.env.example");
  });

  test(".env.example, uncommented, loads", async () => {
    const lines = envExample()
      .split("\n")
      .filter((line) => /^# [A-Z_]+=.+/.test(line));
    const defaults = lines.map((line) => line.slice(2)).filter((line) => !line.startsWith("DB_"));
    await writeFile(join(cwd, ".env"), defaults.join("\n"));
    expect(load({})).toMatchObject({ port: 8000, database: { kind: "embedded" } });
  });
});
