/**
 * Several processes on one state, and processes that are killed: never two histories, never back.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { toBase64 } from "@tallystick/core/base64";
import { afterEach, beforeEach, expect, test } from "vitest";
import { headOf, submit, TestLog, timeOf } from "./test-log.ts";

const SERVE = fileURLToPath(new URL("./serve.ts", import.meta.url));
const FORK_AT = 40;
const log = new TestLog();
const fork = new TestLog("fork", FORK_AT);

let stateDir: string;
let children: ChildProcess[];

beforeEach(async () => {
  children = [];
  stateDir = await mkdtemp(join(tmpdir(), "tallystick-witness-"));
});
afterEach(async () => {
  await Promise.all(children.map(kill));
  await rm(stateDir, { recursive: true });
});

async function serve(): Promise<{ child: ChildProcess; url: string; vkey: string }> {
  const child = spawn(process.execPath, ["--conditions=source", SERVE, stateDir], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  for await (const line of createInterface({ input: child.stdout! })) {
    const [url, vkey] = line.split(" ") as [string, string];
    return { child, url, vkey };
  }
  throw new Error("the witness ended before it listened");
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

/** What the witness said: a size it cosigned, with the root, or the size it named in a 409. */
interface Said {
  readonly asked: number;
  readonly answered: number;
  readonly size: number;
  readonly root?: string;
  readonly time?: number;
}

/** Sends ever larger checkpoints of a history, as a log does that learns the witness's size from its 409s. */
async function grow(history: TestLog, url: string, vkey: string, said: Said[], goOn: () => boolean): Promise<void> {
  let old = 0;
  for (let step = 1; goOn(); step = (step % 3) + 1) {
    const size = old + step;
    const asked = performance.now();
    const answer = await submit(url, history.body(old, size));
    const answered = performance.now();
    if (answer.status === 200) {
      const time = timeOf(answer, history.checkpoint(size), vkey);
      said.push({ asked, answered, size, root: toBase64(history.root(size)), time });
      old = size;
    } else if (answer.status === 409) {
      old = Number(answer.body);
      said.push({ asked, answered, size: old });
    } else if (answer.status !== 422) {
      throw new Error(`${answer.status} ${answer.body}`);
    }
  }
}

/** Whatever was said after an answer had been received names no smaller size, no earlier time, and the same history. */
function expectOneHistory(said: readonly Said[]): void {
  const byEnd = said.toSorted((a, b) => a.answered - b.answered);
  let i = 0;
  let largest = 0;
  let latest = 0;
  for (const { asked, size, time } of said.toSorted((a, b) => a.asked - b.asked)) {
    for (; i < byEnd.length && byEnd[i]!.answered < asked; i++) {
      largest = Math.max(largest, byEnd[i]!.size);
      latest = Math.max(latest, byEnd[i]!.time ?? 0);
    }
    expect(size).toBeGreaterThanOrEqual(largest);
    if (time !== undefined) expect(time).toBeGreaterThanOrEqual(latest);
  }
  const beyond = said.filter(({ size, root }) => root !== undefined && size > FORK_AT);
  const ours = beyond.filter(({ size, root }) => root === toBase64(log.root(size)));
  expect([0, beyond.length]).toContain(ours.length);
}

async function statusOf(url: string): Promise<{ size: number; root: string }> {
  const { logs } = (await (await fetch(url)).json()) as { logs: { size: number; root: string }[] };
  return logs[0]!;
}

test("processes that share a state cosign one history that never goes back, however many race", async () => {
  const witnesses = await Promise.all([serve(), serve(), serve()]);
  // One key, made once.
  expect(new Set(witnesses.map(({ vkey }) => vkey)).size).toBe(1);
  const said: Said[] = [];
  const enough = () => said.filter(({ size, root }) => root !== undefined && size > FORK_AT).length >= 100;
  await Promise.all(
    witnesses.flatMap(({ url, vkey }) =>
      [log, fork, log, fork].map((history) => grow(history, url, vkey, said, () => !enough())),
    ),
  );
  expectOneHistory(said);
  const { conflicts } = (await (await fetch(`${witnesses[0]!.url}/conflicts`)).json()) as {
    conflicts: { checkpoint: string; cosigned_before: string }[];
  };
  // Both histories were tried beyond the fork: the witness holds two checkpoints that contradict each other.
  expect(conflicts.length).toBeGreaterThan(0);
  const [checkpoint, before] = [headOf(conflicts[0]!.checkpoint), headOf(conflicts[0]!.cosigned_before)];
  const ofLog = ({ size, root }: { size: number; root: string }) => toBase64(log.root(size)) === root;
  expect(ofLog(checkpoint)).not.toBe(ofLog(before));
});

test("a witness that is killed at any moment remembers all it said", async () => {
  const said: Said[] = [];
  for (let round = 0; round < 10; round++) {
    const { child, url, vkey } = await serve();
    const last = said.filter(({ root }) => root !== undefined).reduce((max, { size }) => Math.max(max, size), 0);
    const status = await statusOf(url);
    expect(status.size).toBeGreaterThanOrEqual(last);
    const [first, second] = round % 2 === 0 ? [log, fork] : [fork, log];
    const end = said.length + 15 + 3 * round;
    let killed: Promise<void> | undefined;
    const goOn = () => {
      // Killed as one answer arrives, with the others under way at whatever point they are.
      if (said.length >= end) killed ??= kill(child);
      return killed === undefined;
    };
    const runs = [first, second, first, second, first, second].map((history) => grow(history, url, vkey, said, goOn));
    const results = await Promise.allSettled(runs);
    await killed;
    for (const result of results) {
      // Nothing but a cut connection is an excuse.
      if (result.status === "rejected") expect(result.reason).toMatchObject({ message: "fetch failed" });
    }
  }
  expectOneHistory(said);
  expect(said.length).toBeGreaterThan(150);
});
