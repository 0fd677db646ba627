/**
 * CSV and NDJSON as they arrive: written, and checked on the way.
 */
import type { FileHandle } from "node:fs/promises";
import type { ExportType } from "@tallystick/core/export-file";
import { type ExportReport, ExportVerifier } from "@tallystick/core/export-verify";
import { CliError } from "./errors.ts";
import { unzipped } from "./gunzip.ts";
import { progressLine } from "./progress.ts";
import { ownCommand, shellWord } from "./shell.ts";
import { visible } from "./table.ts";

/** @throws {CliError} where what arrived is not complete. */
export async function writeRows(
  file: FileHandle,
  chunks: AsyncIterable<Uint8Array>,
  type: ExportType,
): Promise<{ report: ExportReport; bytes: number }> {
  const verifier = new ExportVerifier(type);
  const progress = progressLine();
  let bytes = 0;
  const written = (async function* () {
    for await (const chunk of chunks) {
      await file.writeFile(chunk);
      bytes += chunk.length;
      yield chunk;
    }
  })();
  try {
    for await (const chunk of unzipped(written)) {
      verifier.write(chunk);
      progress.say(() => `${verifier.rows} entries, ${(bytes / 1e6).toFixed(1)} MB`);
    }
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new CliError(`nothing was written: ${cause.message}`, { cause });
  } finally {
    progress.clear();
  }
  const report = verifier.report();
  if (report.state !== "complete") throw new CliError(`nothing was written: ${report.detail}`);
  return { report, bytes };
}

export function rowsSummary(file: string, bytes: number, { rows, manifest, checkpoint }: ExportReport): string[] {
  const { log, from, to } = manifest!;
  const where = from === to ? "no positions" : `positions ${from} to ${to - 1}`;
  return [
    `${file}: ${rows} ${rows === 1 ? "entry" : "entries"} of ${visible(log)}, out of ${where} (${(bytes / 1e6).toFixed(1)} MB)`,
    `taken at the checkpoint of size ${checkpoint!.size}, root ${checkpoint!.root}`,
    `see later whether it is still complete: ${ownCommand(`verify ${shellWord(file)}`)}`,
    "it proves nothing to others: for that, export with --format evidence",
  ];
}
