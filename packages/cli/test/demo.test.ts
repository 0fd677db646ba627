import { readdir } from "node:fs/promises";
import { afterAll, expect, test } from "vitest";
import { cleanUp, run, start, temporaryDirectory } from "./cli.ts";

afterAll(cleanUp);

test("demo shows that the database refuses a change, and that verify names the one that was forced; nothing stays", async () => {
  const directory = await temporaryDirectory();
  // Settings of the machine must not lead the demo to a real log.
  const { code, stdout, stderr } = await run(
    ["demo"],
    { TMPDIR: directory, DATABASE_URL: "postgres://nobody@127.0.0.1:9/nothing" },
    directory,
  );
  expect(stderr).toBe("");
  expect(code).toBe(0);
  expect(stdout).toContain("tallystick: update on tallystick.entries_");
  expect(stdout).toContain("append-only");
  expect(stdout).toMatch(/Found: seq 2, [0-9a-f-]{36}, and no other\./);
  expect(await readdir(directory)).toEqual([]);
});

test("demo cleans up when it is interrupted", async () => {
  const directory = await temporaryDirectory();
  const program = start(["demo"], { TMPDIR: directory }, directory);
  await program.said("ready at");
  program.child.kill("SIGINT");
  await program.ended;
  expect(await readdir(directory)).toEqual([]);
});
