/**
 * `tallystick verify FILE`: evidence, pages with evidence, receipts and exports, checked with nothing but the file.
 */
import { createReadStream } from "node:fs";
import type { EvidenceTrust } from "@tallystick/core/evidence-checkpoint";
import type { EvidenceReport } from "@tallystick/core/evidence-report";
import { EvidenceVerifier } from "@tallystick/core/evidence-verify";
import { type ExportType, NDJSON_MANIFEST_MARK } from "@tallystick/core/export-file";
import { type ExportReport, ExportVerifier } from "@tallystick/core/export-verify";
import { NoteError } from "@tallystick/core/note";
import { parseCosignerKey, parseVerifierKey } from "@tallystick/core/verifier-key";
import { CliError } from "./errors.ts";
import { PageEvidence, readPageFrame } from "./evidence-page.ts";
import { evidenceLines, exportLines, receiptLines } from "./evidence-text.ts";
import { unzipped } from "./gunzip.ts";
import { print, printJson } from "./output.ts";
import { progressLine } from "./progress.ts";
import { EXIT, EXIT_CODES } from "./verify-exit.ts";
import { checkReceipt, type ReceiptReport } from "./verify-receipt.ts";

/** Whose word counts, and whether the file's own key is enough. */
export interface FileTrust extends EvidenceTrust {
  readonly fileKey: boolean;
}

/** What a file is, and what came of its check. */
export type FileReport =
  | ({ readonly file: string; readonly kind: "evidence" } & EvidenceReport)
  | ({
      readonly file: string;
      readonly kind: "page";
      /** Whether the page around the evidence is the one that this version makes. */
      readonly ownPage: boolean;
    } & EvidenceReport)
  | ({ readonly file: string; readonly kind: "receipt" } & ReceiptReport)
  | ({ readonly file: string; readonly kind: "export" } & ExportReport);

const RECEIPT = "c2sp.org/tlog-proof@";
/** More than any receipt has: one that is larger is none. */
const MAX_RECEIPT_BYTES = 2 ** 24;

/**
 * Whose word counts, as given on the command line.
 * @throws {CliError} for what is no key or no number.
 */
export function trustOf(options: {
  readonly key?: string;
  readonly witness?: readonly string[];
  readonly quorum?: string;
  readonly trustFileKey?: true;
}): FileTrust {
  const { key, witness = [], quorum, trustFileKey = false } = options;
  const witnessKeys = witness.map((text) => parsed("--witness", text, parseCosignerKey));
  if (quorum !== undefined && !/^\d{1,3}$/.test(quorum)) throw new CliError("--quorum must be a whole number");
  if (Number(quorum ?? 0) > witnessKeys.length) {
    throw new CliError(`--quorum ${quorum} asks for more witnesses than keys are given by --witness`);
  }
  return {
    fileKey: trustFileKey,
    ...(key !== undefined && { logKey: parsed("--key", key, parseVerifierKey) }),
    witnessKeys,
    witnessQuorum: Number(quorum ?? 0),
  };
}

function parsed<Key>(option: string, text: string, parse: (text: string) => Key): Key {
  try {
    return parse(text.trim());
  } catch (cause) {
    if (!(cause instanceof NoteError)) throw cause;
    throw new CliError(`${option}: ${cause.message}`, { cause });
  }
}

/** Checks files one after another and prints what came of it. Returns the exit code: that of the worst. */
export async function verifyFiles(files: readonly string[], trust: FileTrust, json: boolean): Promise<number> {
  const reports: FileReport[] = [];
  for (const file of files) {
    const report = await verifyFile(file, trust);
    const judged = trust.fileKey ? report : withoutTrust(report);
    reports.push(judged);
    if (!json) print(`${reports.length > 1 ? "\n" : ""}${linesOf(report, judged.verdict).join("\n")}`);
  }
  if (json) printJson(reports);
  const codes = reports.map(({ verdict }) => EXIT_CODES[verdict]);
  return codes.includes(EXIT.tampered) ? EXIT.tampered : codes.includes(EXIT.notChecked) ? EXIT.notChecked : EXIT.good;
}

/** Where everything fits by a key that only the file names: whoever made up a log has made up a key as well. */
function withoutTrust(report: FileReport): FileReport {
  if (
    report.kind === "receipt" ||
    report.kind === "export" ||
    report.verdict !== "good" ||
    report.key?.source !== "file"
  )
    return report;
  const detail = "could not check whose key it is: it comes from the file itself";
  return { ...report, verdict: "unchecked", obstacles: [...report.obstacles, { code: "whose_key", detail }] };
}

/** `verdict`: what it comes to, with whose key it is taken into account. */
function linesOf(report: FileReport, verdict: FileReport["verdict"]): string[] {
  if (report.kind === "receipt") return receiptLines(report.file, report);
  if (report.kind === "export") return exportLines(report.file, report);
  const lines = evidenceLines(report.file, report, verdict);
  if (report.kind === "page" && !report.ownPage) {
    lines.push(
      "",
      "The page around the evidence is not the one that this version of Tallystick makes: another version made it, or someone",
      "changed it. What is said here comes from the evidence in it; what the page says of itself may be something else.",
    );
  }
  return lines;
}

/** Checks one file, whatever it is. @throws {CliError} where it cannot be read. */
async function verifyFile(file: string, trust: EvidenceTrust): Promise<FileReport> {
  const stream = createReadStream(file);
  const chunks = unzipped(stream);
  try {
    const first = await chunks.next();
    const head = first.done ? undefined : Buffer.from(first.value);
    const whole = prepended(head, chunks);
    const start = (head ?? Buffer.alloc(0)).subarray(0, 64).toString("latin1").trimStart();
    if (start.startsWith(RECEIPT)) return { file, kind: "receipt", ...checkReceipt(await textOf(whole), trust) };
    const type = exportTypeOf(start);
    if (type !== undefined) return { file, kind: "export", ...(await checkExport(whole, type, trust)) };
    if (!start.startsWith("<")) return { file, kind: "evidence", ...(await checkEvidence(whole, trust)) };
    const page = new PageEvidence(await readPageFrame());
    const report = await checkEvidence(page.read(whole), trust);
    return { file, kind: "page", ownPage: page.own, ...report };
  } catch (cause) {
    if (cause instanceof SyntaxError) throw new CliError(`${file}: ${cause.message}`, { cause });
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new CliError(`there is no file ${file}`, { cause });
    if (code === "EACCES" || code === "EISDIR") throw new CliError(`${file} cannot be read (${code})`, { cause });
    throw cause;
  } finally {
    stream.destroy();
  }
}

/** What a file begins with that is an export; undefined of one that is something else. */
function exportTypeOf(start: string): ExportType | undefined {
  if (start.startsWith('{"id":') || start.startsWith(NDJSON_MANIFEST_MARK)) return "ndjson";
  return start === "" || start.startsWith("{") || start.startsWith("<") ? undefined : "csv";
}

async function checkExport(
  chunks: AsyncIterable<Uint8Array>,
  type: ExportType,
  { logKey }: EvidenceTrust,
): Promise<ExportReport> {
  const verifier = new ExportVerifier(type, logKey);
  const progress = progressLine();
  try {
    for await (const chunk of chunks) {
      verifier.write(chunk);
      progress.say(() => `${verifier.rows} entries`);
    }
  } finally {
    progress.clear();
  }
  return verifier.report();
}

async function* prepended(first: Buffer | undefined, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (first === undefined) return;
  yield first;
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}

async function checkEvidence(chunks: AsyncIterable<Uint8Array>, trust: EvidenceTrust): Promise<EvidenceReport> {
  const verifier = new EvidenceVerifier(trust);
  const progress = progressLine();
  try {
    for await (const chunk of chunks) {
      verifier.write(chunk);
      progress.say(() => `${verifier.entries} entries`);
    }
  } finally {
    progress.clear();
  }
  return verifier.report();
}

async function textOf(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    if (size > MAX_RECEIPT_BYTES) throw new SyntaxError("it begins like a receipt and is larger than any");
    parts.push(chunk);
  }
  return Buffer.concat(parts).toString("utf8");
}
