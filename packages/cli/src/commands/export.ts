/**
 * `tallystick export`: entries and their proofs in one file.
 */
import { randomBytes } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { type FileHandle, link, open, rename, rm } from "node:fs/promises";
import { constants } from "node:os";
import type { EvidenceObstacle, EvidenceReport } from "@tallystick/core/evidence-report";
import { EvidenceVerifier } from "@tallystick/core/evidence-verify";
import { loadConfig } from "@tallystick/server/config";
import { filterParameters } from "@tallystick/server/http/schemas/entries";
import { Command } from "commander";
import { openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { CliError } from "../errors.ts";
import { type PageFrame, pageOf, readPageFrame } from "../evidence-page.ts";
import { note, print, printJson } from "../output.ts";
import { progressLine } from "../progress.ts";
import { ownCommand, shellWord } from "../shell.ts";
import { visible } from "../table.ts";
import { EXIT_CODES } from "../verify-exit.ts";
import { problemLines } from "../verify-text.ts";

/** Further parameters of the export; the filters are those of the API. */
const POSITIONS: Readonly<Record<string, string>> = {
  from_seq: "from this position on",
  to_seq: "before this position",
  cosigned: "prove by the newest kept checkpoint with at least so many cosignatures",
  tree_size: "prove by the kept checkpoint of this size; else by a new one",
  log: "an earlier log of the tenant, by slug",
};

/** Of a file with one of these not every byte was read. Any other is kept: of a log that was tampered with it is the evidence. */
const BROKEN: readonly EvidenceObstacle["code"][] = ["malformed", "incomplete", "newer"];

interface Options extends ServerOptions {
  readonly evidence?: true;
  readonly out: string;
  readonly html?: true;
  readonly force?: true;
  readonly json?: true;
}

export function exportCommand(): Command {
  const command = withServerOptions(
    new Command("export")
      .description("write entries and all that proves them into one file, which needs no server to be checked")
      .option("--evidence", "in the format of evidence, the only one yet")
      .requiredOption("-o, --out <file>", "where it goes")
      .option("--html", "as one page that checks and shows itself in any browser, offline")
      .option("--force", "write over a file that is there")
      .option("--json", "print the summary as JSON")
      .option("--api-key <key>", "a key with scope export; default: API_KEY, else credentials.json")
      .option("--tenant <tenant>", "id or slug; default: the credential's own"),
  );
  for (const [name, facts] of Object.entries(filterParameters)) {
    command.option(`${optionOf(name)} <value>`, "description" in facts ? facts.description : "");
  }
  for (const [name, description] of Object.entries(POSITIONS)) {
    command.option(`${optionOf(name)} <value>`, description);
  }
  return command
    .addHelpText(
      "after",
      `
With nothing but --from, --to, --from-seq and --to-seq the file has every entry of a range and proves that none is missing; with
any other filter each entry is proved by itself.
${SERVER_HELP}

Examples:
  $ tallystick export --evidence -o all.evidence.ndjson
  $ tallystick export --evidence --from 2026-03-01 --to 2026-03-31 --html -o march.html
  $ tallystick export --evidence --actor-id u-17 -o u-17.evidence.ndjson
  $ tallystick verify march.html --key "$(cat acme.vkey)"`,
    )
    .action(async (options: Options) => {
      process.exitCode = await runExport(options);
    });
}

function optionOf(parameter: string): string {
  return `--${parameter.replaceAll("_", "-")}`;
}

/** 0; 1 where what was written shows tampering; 2 where not all of it could be checked. */
async function runExport(options: Options): Promise<number> {
  const { out, html, force, json } = options;
  if (!options.evidence) throw new CliError("say --evidence: CSV and NDJSON are not there yet");
  if (!force && existsSync(out)) throw thereAlready(out);
  const api = await openApi(loadConfig(), options, "api-key");
  const frame = html ? await readPageFrame() : undefined;
  const chunks = await api.download(`/v1/logs/export?${parametersOf(options)}`);
  const { report, bytes } = await writeFile(out, force === true, (file) => writeEvidence(file, chunks, frame));
  if (json) printJson({ file: out, bytes, html: html === true, ...report });
  else for (const line of summaryLines(out, bytes, report)) print(line);
  return EXIT_CODES[report.verdict];
}

function parametersOf(options: Options): URLSearchParams {
  const given = options as unknown as Readonly<Record<string, string | undefined>>;
  const parameters = new URLSearchParams({ format: "evidence" });
  for (const name of [...Object.keys(filterParameters), ...Object.keys(POSITIONS)]) {
    const value = given[name.replace(/_[a-z]/g, (letter) => letter[1]!.toUpperCase())];
    if (value !== undefined) parameters.set(name, value);
  }
  return parameters;
}

const INTERRUPTS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Writes under another name, and gives it its own when all is there: no reader takes a part for the whole.
 * @throws {CliError} where there is a file of that name which is not to be written over.
 */
async function writeFile<Result>(
  path: string,
  force: boolean,
  write: (file: FileHandle) => Promise<Result>,
): Promise<Result> {
  const partial = `${path}.${randomBytes(4).toString("hex")}.partial`;
  const interrupted = (signal: NodeJS.Signals) => {
    rmSync(partial, { force: true });
    process.exit(128 + constants.signals[signal]);
  };
  // Before the file is made: it is there before `open` comes back.
  for (const signal of INTERRUPTS) process.once(signal, interrupted);
  try {
    const file = await open(partial, "wx");
    let result: Result;
    try {
      result = await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    if (force) await rename(partial, path);
    else await claim(partial, path);
    return result;
  } finally {
    for (const signal of INTERRUPTS) process.off(signal, interrupted);
    await rm(partial, { force: true });
  }
}

/** Unlike a rename, a link does not write over what somebody has put there meanwhile. */
async function claim(partial: string, path: string): Promise<void> {
  try {
    await link(partial, path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "EEXIST") throw thereAlready(path, cause);
    if (code !== "EPERM" && code !== "ENOTSUP" && code !== "ENOSYS") throw cause;
    await rename(partial, path); // a file system without links
  }
}

function thereAlready(path: string, cause?: unknown): CliError {
  return new CliError(`there is a file ${path} already: choose another name, or say --force`, { cause });
}

/** Writes what arrives, and checks it on the way: a part is not kept, and what it proves is known at once. */
async function writeEvidence(
  file: FileHandle,
  chunks: AsyncIterable<Uint8Array>,
  frame: PageFrame | undefined,
): Promise<{ report: EvidenceReport; bytes: number }> {
  const verifier = new EvidenceVerifier();
  const progress = progressLine();
  let bytes = 0;
  const checked = (async function* () {
    for await (const chunk of chunks) {
      verifier.write(chunk);
      yield chunk;
      progress.say(() => `${verifier.entries} entries, ${(bytes / 1e6).toFixed(1)} MB`);
    }
  })();
  try {
    for await (const data of frame === undefined ? checked : pageOf(frame, checked)) {
      await file.writeFile(data);
      bytes += data.length;
    }
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new CliError(`nothing was written: ${cause.message}`, { cause });
  } finally {
    progress.clear();
  }
  const report = verifier.report();
  // Whatever else is wrong: behind what is not of the format anything may stand, and it would stand in the page.
  const broken = report.obstacles.find(({ code }) => BROKEN.includes(code));
  if (broken !== undefined) throw new CliError(`nothing was written: ${broken.detail}`);
  return { report, bytes };
}

function summaryLines(file: string, bytes: number, report: EvidenceReport): string[] {
  const { log, entries, erased, signatures, selection, checkpoint, complete, findings } = report;
  const what = complete
    ? `positions ${selection!.from} to ${selection!.to - 1}, none missing`
    : selection?.kind === "filter"
      ? "each proved by itself"
      : "not proved";
  const gone = erased === 0 ? "" : `, ${erased} erased ${erased === 1 ? "value" : "values"}`;
  const signed = signatures.valid === 0 ? "" : `, ${signatures.valid} signed by their publishers`;
  const lines = [
    `${file}: ${entries} ${entries === 1 ? "entry" : "entries"} of ${visible(log)}, ${what}${gone}${signed} (${(bytes / 1e6).toFixed(1)} MB)`,
    `proved by the checkpoint of size ${checkpoint?.size}, root ${checkpoint?.root}`,
  ];
  if (findings.length > 0) {
    note("tallystick: the evidence shows that the log was TAMPERED WITH:");
    for (const finding of findings.slice(0, 10)) {
      note(`    log ${visible(log)}${finding.seq === null ? "" : `, seq ${finding.seq}`}`);
      for (const line of problemLines(finding)) note(line);
    }
  }
  for (const { detail } of report.obstacles) note(`tallystick: not checked: ${visible(detail)}`);
  // Not by the key in the file: that is what is to be checked.
  lines.push(
    'check it anywhere, by the log\'s key from a source that you trust ("tallystick log vkey" asks the server):',
    `  ${ownCommand(`verify ${shellWord(file)} --key "$(cat log.vkey)"`)}`,
  );
  return lines;
}
