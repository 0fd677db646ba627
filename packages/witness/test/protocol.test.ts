import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toBase64 } from "@tallystick/core/base64";
import { cosigner } from "@tallystick/core/cosignature";
import { signNote } from "@tallystick/core/note";
import { formatVerifierKey, noteSigner } from "@tallystick/core/verifier-key";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseLogKeys } from "../src/log-keys.ts";
import { type RunningWitness, startWitness } from "../src/start.ts";
import { MAX_CONFLICTS, WitnessState } from "../src/state.ts";
import { Witness } from "../src/witness.ts";
import { bodyOf, ORIGIN, signer, submit, TestLog, timeOf } from "./test-log.ts";

const NAME = "witness.example";
const log = new TestLog();
const fork = new TestLog("fork", 6);
const stranger = noteSigner(ORIGIN, new Uint8Array(32).fill(9));

let stateDir: string;
let witness: RunningWitness;
let lines: { level: string; message: string; facts: object }[];

async function start(): Promise<RunningWitness> {
  return startWitness({
    name: NAME,
    logs: parseLogKeys([formatVerifierKey(signer.key)]),
    stateDir,
    host: "127.0.0.1",
    port: 0,
    log: {
      info: (facts, message) => lines.push({ level: "info", message, facts }),
      error: (facts, message) => lines.push({ level: "error", message, facts }),
    },
  });
}

beforeEach(async () => {
  lines = [];
  stateDir = await mkdtemp(join(tmpdir(), "tallystick-witness-"));
  witness = await start();
});
afterEach(async () => {
  await witness.stop();
  await rm(stateDir, { recursive: true });
});

const errors = () => lines.filter(({ level }) => level === "error").map(({ message }) => message);

async function get<T>(path: string): Promise<T> {
  const response = await fetch(`${witness.url}${path}`);
  expect(response.status).toBe(200);
  return (await response.json()) as T;
}

interface Conflicts {
  conflicts: { kind: string; size: number; checkpoint: string; cosigned_before: string }[];
}

async function cosigned(...sizes: number[]): Promise<void> {
  let last = 0;
  for (const size of sizes) {
    expect(await submit(witness.url, log.body(last, size))).toMatchObject({ status: 200 });
    last = size;
  }
}

test("a log that grows is cosigned, from nothing to any size, and again at the same size", async () => {
  let last = 0;
  for (const size of [0, 1, 2, 7, 7, 8, 300, 300]) {
    const before = Math.floor(Date.now() / 1000);
    const answer = await submit(witness.url, log.body(last, size));
    expect(answer).toMatchObject({ status: 200, contentType: "text/plain; charset=utf-8" });
    const time = timeOf(answer, log.checkpoint(size), witness.vkey);
    expect(time).toBeGreaterThanOrEqual(before);
    expect(time).toBeLessThanOrEqual(Date.now() / 1000);
    last = size;
  }
  expect(await get("/")).toMatchObject({
    name: NAME,
    vkey: witness.vkey,
    logs: [{ origin: ORIGIN, size: 300, root: toBase64(log.root(300)) }],
    conflicts: 0,
  });
  expect(errors()).toEqual([]);
});

test("signatures of others beside the log's are ignored, and extension lines are cosigned", async () => {
  const text = `${ORIGIN}\n5\n${toBase64(log.root(5))}\nmore\n`;
  const checkpoint = signNote(text, [noteSigner("other.example", new Uint8Array(32).fill(8)), stranger, signer]);
  const answer = await submit(witness.url, bodyOf(0, [], checkpoint));
  expect(answer.status).toBe(200);
  expect(timeOf(answer, checkpoint, witness.vkey)).toBeGreaterThan(0);
});

describe("what C2SP tlog-witness has refused, after 5 was cosigned", () => {
  const flipped = log.proof(5, 8).map((line, i) => (i === 0 ? toBase64(new Uint8Array(32)) : line));
  const text = (size: number | string) => `${ORIGIN}\n${size}\n${toBase64(log.root(8))}\n`;
  const other = noteSigner("log.example/other", new Uint8Array(32).fill(1));
  const cases: [what: string, status: number, body: string | Uint8Array<ArrayBuffer>, size?: number][] = [
    ["nothing", 400, ""],
    ["no old size", 400, `\n${log.checkpoint(8)}`],
    ["no empty line", 400, "old 5\n"],
    ["no checkpoint", 400, "old 5\n\n"],
    ["old size with a leading zero", 400, bodyOf("05", log.proof(5, 8), log.checkpoint(8))],
    ["negative old size", 400, bodyOf("-5", log.proof(5, 8), log.checkpoint(8))],
    ["old size with a space", 400, bodyOf("5 ", log.proof(5, 8), log.checkpoint(8))],
    ["old size beyond 2^53 - 1", 400, bodyOf("9007199254740992", log.proof(5, 8), log.checkpoint(8))],
    ["carriage returns", 400, log.body(5, 8).replaceAll("\n", "\r\n")],
    ["proof line that is not base64", 400, bodyOf(5, ["!"], log.checkpoint(8))],
    ["proof line of 31 bytes", 400, bodyOf(5, [toBase64(new Uint8Array(31))], log.checkpoint(8))],
    ["64 proof lines", 400, bodyOf(5, Array(64).fill(log.proof(5, 8)[0]), log.checkpoint(8))],
    ["no UTF-8", 400, Uint8Array.of(...Buffer.from("old 5\n\n"), 0xff)],
    ["old size above the checkpoint's", 400, bodyOf(5, [], log.checkpoint(4))],
    ["note that is no checkpoint", 400, bodyOf(5, [], signNote(`${ORIGIN}\nx\n`, [signer]))],
    ["size with a leading zero", 400, bodyOf(5, log.proof(5, 8), signNote(text("08"), [signer]))],
    ["unknown log", 404, bodyOf(0, [], signNote(text(8).replace("orders", "other"), [other]))],
    ["known log's key, another origin", 404, bodyOf(0, [], signNote(text(8).replace("orders", "other"), [signer]))],
    ["another key by the same name", 403, bodyOf(5, log.proof(5, 8), signNote(text(8), [stranger]))],
    ["changed checkpoint", 403, bodyOf(5, log.proof(5, 8), log.checkpoint(8).replace("\n8\n", "\n9\n"))],
    ["old size below what was cosigned", 409, log.body(3, 8), 5],
    ["old size 0", 409, log.body(0, 8), 5],
    ["old size above what was cosigned", 409, log.body(6, 8), 5],
    ["smaller tree", 409, log.body(3, 4), 5],
    ["another root at the same size", 409, bodyOf(5, [], signNote(text(5), [signer])), 5],
    ["proof with a changed hash", 422, bodyOf(5, flipped, log.checkpoint(8))],
    ["proof with a hash too few", 422, bodyOf(5, log.proof(5, 8).slice(1), log.checkpoint(8))],
    ["proof with a hash too many", 422, bodyOf(5, [...log.proof(5, 8), log.proof(5, 8)[0]!], log.checkpoint(8))],
    ["no proof", 422, bodyOf(5, [], log.checkpoint(8))],
    ["proof where the size is the same", 422, bodyOf(5, log.proof(5, 8), log.checkpoint(5))],
    ["proof from another size", 422, bodyOf(5, log.proof(4, 8), log.checkpoint(8))],
  ];
  test.each(cases)("%s: %d", async (_what, status, body, size) => {
    await cosigned(5);
    const answer = await submit(witness.url, body);
    expect(answer).toMatchObject({ status });
    if (size !== undefined) expect(answer).toMatchObject({ contentType: "text/x.tlog.size", body: `${size}\n` });
    expect(await get("/")).toMatchObject({ logs: [{ size: 5 }] });
    // Whatever came, the honest log goes on.
    expect(await submit(witness.url, log.body(5, 8))).toMatchObject({ status: 200 });
  });
});

test("from nothing the proof must be empty", async () => {
  const body = bodyOf(0, log.proof(5, 8), log.checkpoint(8));
  expect(await submit(witness.url, body)).toMatchObject({ status: 422 });
  expect(await get("/")).toMatchObject({ logs: [{ size: 0, root: null }] });
});

test("two roots at one size are proof against the log: kept, told once, shown", async () => {
  await cosigned(5, 8);
  const answer = await submit(witness.url, fork.body(8, 8));
  expect(answer).toMatchObject({ status: 409, contentType: "text/x.tlog.size", body: "8\n" });
  // Whatever old size it is sent with.
  expect(await submit(witness.url, fork.body(0, 8))).toMatchObject({ status: 409, body: "8\n" });
  expect(errors()).toEqual([expect.stringContaining("TWO HISTORIES")]);
  const expected = [
    { origin: ORIGIN, kind: "same_size", size: 8, checkpoint: fork.checkpoint(8), cosigned_before: log.checkpoint(8) },
  ];
  expect((await get<Conflicts>("/conflicts")).conflicts).toMatchObject(expected);
  await witness.stop();
  witness = await start();
  expect((await get<Conflicts>("/conflicts")).conflicts).toMatchObject(expected);
  expect(await get("/")).toMatchObject({ logs: [{ size: 8 }], conflicts: 1 });
});

test("a larger tree that is no extension is kept as well", async () => {
  await cosigned(5, 8);
  expect(await submit(witness.url, fork.body(8, 9))).toMatchObject({ status: 422 });
  expect(errors()).toEqual([expect.stringContaining("may show two histories")]);
  expect((await get<Conflicts>("/conflicts")).conflicts).toMatchObject([
    { kind: "no_proof", size: 9, checkpoint: fork.checkpoint(9), cosigned_before: log.checkpoint(8) },
  ]);
});

test("an honest checkpoint that somebody sent with a wrong proof is no conflict once its proof has come", async () => {
  await cosigned(5);
  const wrong = log.proof(5, 8).map(() => toBase64(new Uint8Array(32)));
  expect(await submit(witness.url, bodyOf(5, wrong, log.checkpoint(8)))).toMatchObject({ status: 422 });
  expect((await get<Conflicts>("/conflicts")).conflicts.length).toBe(1);
  expect(await submit(witness.url, log.body(5, 8))).toMatchObject({ status: 200 });
  expect((await get<Conflicts>("/conflicts")).conflicts).toEqual([]);
});

test("what anybody could send at will does not crowd out proof, nor fill the disk", async () => {
  await cosigned(8);
  for (let size = 9; size <= 9 + MAX_CONFLICTS; size++) {
    expect(await submit(witness.url, fork.body(8, size))).toMatchObject({ status: 422 });
  }
  expect(await submit(witness.url, fork.body(8, 8))).toMatchObject({ status: 409 });
  const { conflicts } = await get<Conflicts>("/conflicts");
  expect(conflicts.length).toBe(MAX_CONFLICTS + 1);
  expect(conflicts.at(-1)).toMatchObject({ kind: "same_size" });
});

test("a stranger who sends a log's own checkpoints with wrong proofs keeps no fork out, and switches no alarm off", () => {
  const state = new WitnessState(join(stateDir, "other.sqlite"));
  const told: string[] = [];
  let now = 1_800_000_000;
  const witness = new Witness({
    cosigner: cosigner(NAME, new Uint8Array(32).fill(3)),
    logs: parseLogKeys([formatVerifierKey(signer.key)]),
    state,
    log: { info: () => undefined, error: (_facts, message) => told.push(message) },
    now: () => now,
  });
  const send = (body: string) => witness.addCheckpoint(Buffer.from(body)).status;
  try {
    expect(send(log.body(0, 10))).toBe(200);
    const zeros = (size: number) => log.proof(10, size).map(() => toBase64(new Uint8Array(32)));
    for (let size = 11; size <= 10 + MAX_CONFLICTS; size++) {
      expect(send(bodyOf(10, zeros(size), log.checkpoint(size)))).toBe(422);
    }
    expect(told.length).toBe(21); // the disk is not filled
    expect(told.at(-1)).toContain("than are told of");
    now += 60;
    expect(send(log.body(10, 200))).toBe(200);
    const real = new TestLog("fork", 150);
    expect(send(real.body(200, 300))).toBe(422);
    expect(send(real.body(200, 300))).toBe(422);
    expect(told.slice(21)).toEqual([expect.stringContaining("sent size 300")]); // once, as long as it is kept
    expect(state.conflicts().length).toBe(MAX_CONFLICTS);
    expect(state.conflicts().at(-1)).toMatchObject({ kind: "no_proof", size: 300, note: real.checkpoint(300) });
  } finally {
    state.close();
  }
});

test("a log whose key is being replaced is known by both keys", async () => {
  await witness.stop();
  const next = noteSigner(ORIGIN, new Uint8Array(32).fill(7));
  const keys = [signer.key, next.key, signer.key].map(formatVerifierKey);
  const options = {
    name: NAME,
    stateDir,
    host: "127.0.0.1",
    port: 0,
    log: { info: () => undefined, error: () => undefined },
  };
  witness = await startWitness({ ...options, logs: parseLogKeys(keys) });
  await cosigned(5);
  const checkpoint = signNote(`${ORIGIN}\n8\n${toBase64(log.root(8))}\n`, [next]);
  expect(await submit(witness.url, bodyOf(5, log.proof(5, 8), checkpoint))).toMatchObject({ status: 200 });
});

test("other paths, methods and sizes of body are refused", async () => {
  const get = async (path: string, init?: RequestInit) => (await fetch(`${witness.url}${path}`, init)).status;
  expect(await get("/add-checkpoint")).toBe(405);
  expect(await get("/", { method: "POST", body: "x" })).toBe(405);
  expect(await get("/nothing")).toBe(404);
  expect(await get("/toString")).toBe(404);
  expect(await get("/add-checkpoint", { method: "PUT", body: "x" })).toBe(405);
  expect(await submit(witness.url, "x".repeat(131_073))).toMatchObject({ status: 413 });
  expect(await submit(witness.url, "x".repeat(131_072))).toMatchObject({ status: 400 });
});

test("stop() answers the request that is under way, and keeps what it said", async () => {
  const body = log.body(0, 5);
  const { hostname, port } = new URL(witness.url);
  const open = request({
    hostname,
    port,
    path: "/add-checkpoint",
    method: "POST",
    headers: { expect: "100-continue" },
  });
  open.flushHeaders();
  await new Promise((resolve) => open.once("continue", resolve));
  const stopped = witness.stop();
  const answered = new Promise<number>((resolve) =>
    open.once("response", (response) => resolve(response.resume().statusCode!)),
  );
  open.end(body);
  expect(await answered).toBe(200);
  await stopped;
  witness = await start();
  expect(await get("/")).toMatchObject({ logs: [{ size: 5 }] });
});
