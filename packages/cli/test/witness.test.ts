import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { signCheckpoint } from "@tallystick/core/checkpoint";
import { openCosignatures } from "@tallystick/core/cosignature";
import { leafHash } from "@tallystick/core/tree";
import { formatVerifierKey, noteSigner, parseCosignerKey } from "@tallystick/core/verifier-key";
import { afterAll, expect, test } from "vitest";
import { cleanUp, run, start, temporaryDirectory } from "./cli.ts";

afterAll(cleanUp);

const log = noteSigner("log.example/orders", new Uint8Array(32).fill(1));
const other = noteSigner("log.example/other", new Uint8Array(32).fill(2));
const NAMED = ["witness", "--name", "example.org/witness", "--state", "state"];
const ARGS = [...NAMED, "--log", formatVerifierKey(log.key), "--port", "0"];

const checkpoint = (leaf: string) =>
  signCheckpoint({ origin: "log.example/orders", size: 1, root: leafHash(leaf) }, [log]);

/** Starts the witness, and reads what it prints: its URL, its key, and what to put into the log's settings. */
async function startWitness(args: readonly string[], cwd: string) {
  const program = start(args, {}, cwd);
  await program.said("WITNESSES=");
  const [, url] = /listens at (\S+)/.exec(program.stdout)!;
  const [, vkey] = /verifier key: (\S+)/.exec(program.stdout)!;
  return { program, url: url!, vkey: vkey! };
}

async function submit(url: string, old: number, note: string) {
  const response = await fetch(`${url}/add-checkpoint`, { method: "POST", body: `old ${old}\n\n${note}` });
  return { status: response.status, body: await response.text() };
}

test("witness cosigns, tells of two histories in one line, stops at SIGTERM, and goes on where it was", async () => {
  const cwd = await temporaryDirectory();
  const { program, url, vkey } = await startWitness(ARGS, cwd);
  expect(program.stdout).toContain(`WITNESSES='${url} ${vkey}'\n`);
  const { status, body } = await submit(url, 0, checkpoint("a"));
  expect(status).toBe(200);
  const [cosignature] = openCosignatures(checkpoint("a") + body, [parseCosignerKey(vkey)]);
  expect(cosignature?.name).toBe("example.org/witness");
  expect(await submit(url, 1, checkpoint("b"))).toEqual({ status: 409, body: "1\n" });
  program.child.kill("SIGTERM");
  expect(await program.ended).toMatchObject({ code: 0 });
  const told = program.stderr.split("\n").filter((line) => line.includes("TWO HISTORIES"));
  expect(told.length).toBe(1);
  expect(JSON.parse(told[0]!)).toMatchObject({ level: "error", checkpoint: checkpoint("b") });

  await writeFile(
    join(cwd, "logs"),
    `# of one operator\n${formatVerifierKey(log.key)}\n${formatVerifierKey(other.key)}\n`,
  );
  const again = await startWitness([...NAMED, "--logs", "logs", "--port", "0"], cwd);
  expect(again.vkey).toBe(vkey);
  expect(await (await fetch(again.url)).json()).toMatchObject({
    vkey,
    logs: [
      { origin: "log.example/orders", size: 1 },
      { origin: "log.example/other", size: 0 },
    ],
    conflicts: 1,
  });
  expect(await (await fetch(`${again.url}/conflicts`)).json()).toMatchObject({
    conflicts: [{ checkpoint: checkpoint("b"), cosigned_before: checkpoint("a") }],
  });
});

test("witness says what is missing or wrong, and how to mend it", async () => {
  const cwd = await temporaryDirectory();
  const says = async (code: number, message: string, args: readonly string[]) => {
    const result = await run(args, {}, cwd);
    expect(result.stderr).toContain(message);
    expect(result.stderr).not.toContain("    at ");
    expect(result).toMatchObject({ code, stdout: "" });
  };
  await says(2, "--name", ["witness", "--state", "state"]);
  await says(2, "0 to 65535", [...ARGS, "--port", "x"]);
  await says(1, "--log", NAMED);
  await says(1, "cannot be read", [...NAMED, "--logs", "missing"]);
  await says(1, "copy it from the log", [...NAMED, "--log", "rubbish"]);
  const { program, url } = await startWitness(ARGS, cwd);
  await says(1, "another --port", [...ARGS, "--port", new URL(url).port]);
  await says(1, "--name example.org/witness", [...ARGS, "--name", "example.org/other"]);
  program.child.kill("SIGINT");
  expect(await program.ended).toMatchObject({ code: 0 });
  const pem = await readFile(join(cwd, "state", "witness-key.pem"), "utf8");
  expect(program.stdout + program.stderr).not.toContain(pem.split("\n")[1]);
});
