import { execFile } from "node:child_process";
import { createPrivateKey, sign } from "node:crypto";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { ListedKey } from "@tallystick/server/publisher/publisher-keys";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cleanUp, run, type Settings, start, temporaryDirectory } from "./cli.ts";

let cwd: string;
let settings: Settings;
let credentials: { url: string; api_key: string };

const cli = (...args: string[]) => run(args, settings, cwd);

async function json<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await cli(...args, "--json");
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as T;
}

async function record(event: object) {
  const response = await fetch(`${credentials.url}/v1/logs`, {
    method: "POST",
    headers: { authorization: `Bearer ${credentials.api_key}`, "content-type": "application/json" },
    body: JSON.stringify(event),
  });
  return response.status;
}

async function signed(file: string, keyId: string, number: number) {
  const event = JSON.stringify({ action: "a.b", actor: { id: "u" }, sequence: { epoch: "p", number } });
  const key = createPrivateKey(await readFile(join(cwd, file)));
  return { event, signature: sign(null, Buffer.from(event), key).toString("base64"), public_key_id: keyId };
}

beforeAll(async () => {
  cwd = await temporaryDirectory();
  settings = { DATA_DIR: join(cwd, "data"), PORT: "0" };
  await start(["serve"], settings, cwd).said("Tallystick is ready at");
  credentials = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8")) as typeof credentials;
});
afterAll(cleanUp);

test("keys are generated, registered, rotated, revoked and listed", async () => {
  expect((await cli("keys", "generate", "one.pem")).stdout).toContain("one.pub.pem");
  expect((await stat(join(cwd, "one.pem"))).mode & 0o777).toBe(0o600);
  const again = await cli("keys", "generate", "one.pem");
  expect([again.code, again.stderr]).toEqual([1, expect.stringContaining("is there already")]);
  await cli("keys", "generate", "two.pem");

  const first = await json<ListedKey>("keys", "register", "--service", "orders", "--public-key", "one.pub.pem");
  expect(first).toMatchObject({ key_id: "orders:v1", algorithm: "ed25519" });
  expect(await record(await signed("one.pem", "orders:v1", 1))).toBe(201);
  const rotate = ["keys", "rotate", "--service", "orders", "--public-key", "two.pub.pem", "--overlap", "0"];
  expect(await json<ListedKey>(...rotate)).toMatchObject({ key_id: "orders:v2" });
  expect(await record(await signed("one.pem", "orders:v1", 2))).toBe(422);
  expect(await record(await signed("two.pem", "orders:v2", 3))).toBe(201);
  expect((await cli("keys", "signed-only", "orders")).stdout).toBe("orders: signed events only\n");
  expect(await record({ action: "a.b", actor: { id: "u" }, service_id: "orders" })).toBe(422);
  expect((await cli("keys", "signed-only", "orders", "--off")).stdout).toBe("orders: unsigned events too\n");
  await json("keys", "revoke", "orders:v2", "--reason", "lost");
  expect(await record(await signed("two.pem", "orders:v2", 4))).toBe(422);
  const list = await cli("keys", "list");
  expect(list.stdout).toMatch(/orders:v1 .*\n.*orders:v2 /);
  expect((await cli("verify")).stdout).toContain("2 signed by their publisher");
});

test("a private key that is named by mistake is not sent", async () => {
  await cli("keys", "generate", "mine.pem");
  const refused = await cli("keys", "register", "--service", "mine", "--public-key", "mine.pem");
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("is a private key")]);
  expect((await cli("keys", "register", "--service", "mine", "--public-key", "none.pem")).stderr).toContain("none.pem");
  expect((await cli("keys", "rotate", "--service", "m", "--public-key", "x", "--overlap", "soon")).code).toBe(2);
});

test("the commands of docs/publisher-keys.md sign and send", async () => {
  const doc = await readFile(new URL("../../../docs/publisher-keys.md", import.meta.url), "utf8");
  const command = /^printf.*?-d @-$/ms.exec(doc)?.[0];
  await cli("keys", "generate", "orders.pem");
  const { key_id } = await json<ListedKey>("keys", "register", "--service", "docs", "--public-key", "orders.pub.pem");
  // jq is not on every machine: Node does here what it does there.
  await writeFile(
    join(cwd, "jq"),
    `#!/bin/sh\nexec "${process.execPath}" -e 'const [,,,file,,,signature]=process.argv.slice(1);console.log(JSON.stringify({event:require("fs").readFileSync(file,"utf8"),signature,public_key_id:"${key_id}"}))' -- "$@"\n`,
    { mode: 0o755 },
  );
  const env = {
    PATH: `${cwd}:${process.env.PATH}`,
    TALLYSTICK_URL: credentials.url,
    API_KEY: credentials.api_key,
  };
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", command!], { cwd, env });
  expect(JSON.parse(stdout)).toMatchObject({ seq: expect.any(Number), duplicate: false });
});
