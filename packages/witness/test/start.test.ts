import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatVerifierKey, noteSigner, parseCosignerKey } from "@tallystick/core/verifier-key";
import { afterEach, beforeEach, expect, test } from "vitest";
import { logKeyLines, parseLogKeys } from "../src/log-keys.ts";
import { startWitness, type WitnessOptions } from "../src/start.ts";
import { WitnessState } from "../src/state.ts";
import { signer, submit, TestLog } from "./test-log.ts";

const vkey = formatVerifierKey(signer.key);
const log = { info: () => undefined, error: () => undefined };
const refused = (code: string, message: string) =>
  expect.objectContaining({ name: "WitnessError", code, message: expect.stringContaining(message) });

let stateDir: string;
let options: WitnessOptions;

beforeEach(async () => {
  stateDir = join(await mkdtemp(join(tmpdir(), "tallystick-witness-")), "state");
  options = { name: "witness.example", logs: parseLogKeys([vkey]), stateDir, host: "127.0.0.1", port: 0, log };
});
afterEach(() => rm(join(stateDir, ".."), { recursive: true }));

test("the first start makes a key that only its owner can read; later ones use it", async () => {
  const first = await startWitness(options);
  await first.stop();
  expect(parseCosignerKey(first.vkey).name).toBe("witness.example");
  const key = join(stateDir, "witness-key.pem");
  expect((await stat(key)).mode & 0o777).toBe(0o600);
  expect((await stat(stateDir)).mode & 0o777).toBe(0o700);
  expect(await readFile(key, "utf8")).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
  const again = await startWitness(options);
  await again.stop();
  expect(again.vkey).toBe(first.vkey);
  expect((await readdir(stateDir)).sort()).toContain("witness.sqlite");
});

test("an IPv6 host listens, and its URL can be used", async () => {
  const witness = await startWitness({ ...options, host: "::1" });
  expect(await submit(witness.url, new TestLog().body(0, 1))).toMatchObject({ status: 200 });
  await witness.stop();
});

test("a state refuses another name, another key, and the loss of its key", async () => {
  await (await startWitness(options)).stop();
  await expect(startWitness({ ...options, name: "other.example" })).rejects.toThrow(
    refused("name", "--name witness.example"),
  );
  const key = join(stateDir, "witness-key.pem");
  await rm(key);
  await expect(startWitness(options)).rejects.toThrow(refused("key", "put it back"));
  const other = generateKeyPairSync("ed25519").privateKey.export({ format: "pem", type: "pkcs8" });
  await writeFile(key, other, { mode: 0o600 });
  await expect(startWitness(options)).rejects.toThrow(refused("name", "its key"));
});

test("a key that is open to others, or no Ed25519 key, is refused", async () => {
  await (await startWitness(options)).stop();
  const key = join(stateDir, "witness-key.pem");
  await chmod(key, 0o640);
  await expect(startWitness(options)).rejects.toThrow(refused("key", "chmod 600"));
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "pem", type: "pkcs8" });
  for (const pem of [rsa, "rubbish", ""]) {
    await chmod(key, 0o600);
    await writeFile(key, pem);
    await expect(startWitness(options)).rejects.toThrow(refused("key", "no Ed25519 private key"));
  }
});

test("a state that is no database, and a directory that is a file, are refused", async () => {
  await (await startWitness(options)).stop();
  await writeFile(join(stateDir, "witness.sqlite"), "rubbish that is long enough to be looked at");
  await expect(startWitness(options)).rejects.toThrow(refused("state", "another --state"));
  const file = join(stateDir, "witness.sqlite");
  await expect(startWitness({ ...options, stateDir: file })).rejects.toThrow(refused("state", "another --state"));
});

test("a taken port and a bad name are refused", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as { port: number };
  await expect(startWitness({ ...options, port })).rejects.toThrow(refused("listen", "another --port"));
  taken.close();
  for (const name of ["", "a b", "a+b"]) {
    await expect(startWitness({ ...options, name })).rejects.toThrow(refused("name", "example.org/witness"));
  }
});

test("parseLogKeys() takes logs' verifier keys and nothing else", async () => {
  const witness = await startWitness(options);
  await witness.stop();
  for (const text of ["", "x", witness.vkey, vkey.replace("orders", "order")]) {
    expect(() => parseLogKeys([text])).toThrow(refused("logs", "copy it from the log"));
  }
  expect(() => parseLogKeys([])).toThrow(refused("logs", "--log"));
  const other = formatVerifierKey(noteSigner("log.example/other", new Uint8Array(32).fill(2)).key);
  const lines = logKeyLines(`# logs\n\n  ${vkey}  \r\n${other}\n`);
  expect([...parseLogKeys(lines).keys()]).toEqual(["log.example/orders", "log.example/other"]);
});

test("sizes and times to 2^53 - 1 come back as they were kept", () => {
  const state = new WitnessState(":memory:");
  const cosigned = {
    size: Number.MAX_SAFE_INTEGER,
    root: new Uint8Array(32).fill(7),
    time: Number.MAX_SAFE_INTEGER,
    note: "n",
  };
  state.transaction(() => state.setCosigned("o", cosigned));
  expect(state.cosigned("o")).toEqual(cosigned);
  state.close();
});

test("a transaction that throws leaves nothing behind", () => {
  const state = new WitnessState(":memory:");
  const cosigned = { size: 1, root: new Uint8Array(32), time: 1, note: "n" };
  expect(() =>
    state.transaction(() => {
      state.setCosigned("o", cosigned);
      throw new Error("no");
    }),
  ).toThrow("no");
  expect(state.cosigned("o")).toBeUndefined();
  state.transaction(() => state.setCosigned("o", cosigned));
  expect(state.cosigned("o")).toEqual({ ...cosigned });
  state.close();
});
