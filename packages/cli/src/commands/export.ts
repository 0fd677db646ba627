/**
 * `tallystick export`: entries in one file, to work with or with their proofs.
 */
import { loadConfig } from "@tallystick/server/config";
import { EXPORT_FORMATS } from "@tallystick/server/http/schemas/export";
import { Command, Option } from "commander";
import { type Api, openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { CliError } from "../errors.ts";
import { readPageFrame } from "../evidence-page.ts";
import { evidenceSummary, writeEvidence } from "../export-evidence.ts";
import { rowsSummary, writeRows } from "../export-rows.ts";
import { camelCase, filterParametersOf, type GivenOptions, optionOf, withFilterOptions } from "../filter-options.ts";
import { print, printJson } from "../output.ts";
import { EXIT, EXIT_CODES } from "../verify-exit.ts";
import { requireFree, writeFile } from "../written-file.ts";

/** Further parameters of the export; the filters are those of the API. */
const FURTHER: Readonly<Record<string, string>> = {
  from_seq: "from this position on",
  to_seq: "before this position",
  cosigned: "up to the newest kept checkpoint with at least so many cosignatures",
  tree_size: "up to the kept checkpoint of this size; else to a new one",
  log: "an earlier log of the tenant, by slug",
  columns: "of csv: names with commas between them, metadata.<key> and the like among them",
};

interface Options extends ServerOptions {
  readonly format?: (typeof EXPORT_FORMATS)[number];
  readonly evidence?: true;
  readonly out: string;
  readonly html?: true;
  readonly gzip?: true;
  readonly force?: true;
  readonly json?: true;
}

export function exportCommand(): Command {
  const command = withServerOptions(
    new Command("export")
      .description("write entries into one file: to work with (csv, ndjson), or with all that proves them (evidence)")
      .addOption(new Option("--format <format>", "what the file is to be").choices([...EXPORT_FORMATS]))
      .option("--evidence", "the same as --format evidence")
      .requiredOption("-o, --out <file>", "where it goes")
      .option("--gzip", "compressed")
      .option("--html", "of evidence: as one page that checks and shows itself in any browser, offline")
      .option("--force", "write over a file that is there")
      .option("--json", "print the summary as JSON")
      .option("--api-key <key>", "a key with scope export; default: API_KEY, else credentials.json")
      .option("--tenant <tenant>", "id or slug; default: the credential's own"),
  );
  withFilterOptions(command);
  for (const [name, description] of Object.entries(FURTHER)) {
    command.option(`${optionOf(name)} <value>`, description);
  }
  return command
    .addHelpText(
      "after",
      `
Entries up to the checkpoint that is taken when the export begins, oldest first. CSV and NDJSON end in a manifest, by which
tallystick verify tells a file that is complete from one that is not; they prove nothing. Evidence does: with nothing but --from,
--to, --from-seq and --to-seq it has every entry of a range and proves that none is missing; with any other filter each entry is
proved by itself.
${SERVER_HELP}

Examples:
  $ tallystick export --format csv -o march.csv --from 2026-03-01 --to 2026-03-31
  $ tallystick export --format csv --columns recorded_at,actor_id,metadata.plan -o plans.csv 'action:plan.* -actor:robot'
  $ tallystick export --format ndjson --gzip -o all.ndjson.gz
  $ tallystick export --format evidence --actor-id u-17 -o u-17.evidence.ndjson
  $ tallystick verify march.csv`,
    )
    .action(async (words: readonly string[], options: Options) => {
      process.exitCode = await runExport(words, options);
    });
}

/** 0; of evidence 1 where what was written shows tampering, 2 where not all of it could be checked. */
async function runExport(words: readonly string[], options: Options): Promise<number> {
  const { out, html, gzip, force = false } = options;
  const format = formatOf(options);
  if (format !== "evidence" && html)
    throw new CliError("--html is for evidence: leave it out, or say --format evidence");
  if (format === "evidence" && gzip) throw new CliError("--gzip is for csv and ndjson: leave it out");
  requireFree(out, force);
  const api = await openApi(loadConfig(), options, "api-key");
  const parameters = new URLSearchParams([["format", format], ...parametersOf(words, options)]);
  if (format === "evidence") return exportEvidence(api, parameters, options);
  const chunks = await download(api, parameters);
  const { report, bytes } = await writeFile(out, force, (file) => writeRows(file, chunks, format));
  if (options.json) printJson({ file: out, bytes, ...report });
  else for (const line of rowsSummary(out, bytes, report)) print(line);
  return EXIT.good;
}

async function exportEvidence(api: Api, parameters: URLSearchParams, options: Options): Promise<number> {
  const { out, html, force = false, json } = options;
  const frame = html ? await readPageFrame() : undefined;
  const chunks = await download(api, parameters);
  const { report, bytes } = await writeFile(out, force, (file) => writeEvidence(file, chunks, frame));
  if (json) printJson({ file: out, bytes, html: html === true, ...report });
  else for (const line of evidenceSummary(out, bytes, report)) print(line);
  return EXIT_CODES[report.verdict];
}

function download(api: Api, parameters: URLSearchParams): Promise<AsyncIterable<Uint8Array>> {
  return api.download(`/v1/logs/export?${parameters}`);
}

function formatOf({ format, evidence }: Options): (typeof EXPORT_FORMATS)[number] {
  if (evidence && format !== undefined && format !== "evidence") {
    throw new CliError(`--evidence and --format ${format} are two formats: say one`);
  }
  const asked = evidence ? "evidence" : format;
  if (asked === undefined) throw new CliError(`say what the file is to be: --format ${EXPORT_FORMATS.join(", ")}`);
  return asked;
}

function parametersOf(words: readonly string[], options: Options): [string, string][] {
  const given = options as unknown as GivenOptions;
  const further = Object.keys(FURTHER).flatMap((name): [string, string][] => {
    const value = given[camelCase(name)];
    return typeof value === "string" ? [[name, value]] : [];
  });
  const gzip: [string, string][] = options.gzip ? [["gzip", "true"]] : [];
  return [...filterParametersOf(words, given), ...further, ...gzip];
}
