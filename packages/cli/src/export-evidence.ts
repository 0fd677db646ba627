/**
 * Evidence as it arrives: written, and checked on the way.
 */
import type { FileHandle } from "node:fs/promises";
import type { EvidenceObstacle, EvidenceReport } from "@tallystick/core/evidence-report";
import { EvidenceVerifier } from "@tallystick/core/evidence-verify";
import { CliError } from "./errors.ts";
import { type PageFrame, pageOf } from "./evidence-page.ts";
import { note } from "./output.ts";
import { progressLine } from "./progress.ts";
import { ownCommand, shellWord } from "./shell.ts";
import { visible } from "./table.ts";
import { problemLines } from "./verify-text.ts";

/** Of a file with one of these not every byte was read. Any other is kept: of a log that was tampered with it is the evidence. */
const BROKEN: readonly EvidenceObstacle["code"][] = ["malformed", "incomplete", "newer"];

/** Writes what arrives, and checks it on the way: a part is not kept, and what it proves is known at once. */
export async function writeEvidence(
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

export function evidenceSummary(file: string, bytes: number, report: EvidenceReport): string[] {
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
