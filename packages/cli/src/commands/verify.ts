/**
 * `tallystick verify`: reads every entry again and says whether anything was changed.
 */
import { setTimeout as delay } from "node:timers/promises";
import { loadConfig } from "@tallystick/server/config";
import { verifyDatabase } from "@tallystick/server/verify/database";
import type { VerifyProblem, VerifyReport } from "@tallystick/server/verify/report";
import type { Verification } from "@tallystick/server/verify/verifications";
import { Command, Option } from "commander";
import { Client } from "pg";
import { openApi, TLS_OPTIONS } from "../api.ts";
import { withDatabase } from "../connect.ts";
import { CliError, describeError } from "../errors.ts";
import { note, print, printJson } from "../output.ts";
import { progressLine } from "../progress.ts";
import { ownCommand, shellWord } from "../shell.ts";
import type { TlsOptions } from "../tls-fetch.ts";
import { EXIT } from "../verify-exit.ts";
import { trustOf, verifyFiles } from "../verify-files.ts";
import { type NextCommand, reportLines, tenantOf } from "../verify-text.ts";

// A small log is done by then; of a large one something is heard every second.
const FIRST_WAIT_SECONDS = 2;
const POLL_MS = 1_000;

interface Options extends TlsOptions {
  readonly database?: string;
  readonly server?: string;
  readonly apiKey?: string;
  readonly tenant?: string;
  readonly service?: string;
  readonly json?: true;
  readonly key?: string;
  readonly witness?: readonly string[];
  readonly quorum?: string;
  readonly trustFileKey?: true;
}

export function verifyCommand(): Command {
  return new Command("verify")
    .description("check every entry, every service's chain and the tree, or a file of evidence; name what was changed")
    .argument(
      "[file...]",
      "evidence, a page with evidence, a receipt, or an export (CSV, NDJSON; .gz): checked alone, with no server and no database",
    )
    .option("--database <url>", "a database; default: that of the settings, or the server's own in DATA_DIR")
    .addOption(
      new Option("--server <url>", "ask a server to check itself, which takes its word for it").conflicts("database"),
    )
    .option("--api-key <key>", "with --server: a key with scope verify; default: API_KEY, else credentials.json")
    .addOption(TLS_OPTIONS.ca)
    .addOption(TLS_OPTIONS.clientCert)
    .addOption(TLS_OPTIONS.clientKey)
    .option("--tenant <id or slug>", "one tenant; default: all in a database, the key's own at a server")
    .option("--service <id>", "one service's chain")
    .option("--key <vkey>", "with files: the log's key, from a source that you trust")
    .option("--trust-file-key", "with files: take the key that the file names for the log's; without --key")
    .option("--witness <vkey>", "with files: the key of a witness that you trust; may be repeated", collect)
    .option("--quorum <n>", "with files: how many of these witnesses must have cosigned")
    .option("--json", "print the reports as JSON")
    .addHelpText(
      "after",
      `
Exits with 0 where all is good, 1 where tampering was found, 2 where it could not be checked,
which is so for evidence and receipts without --key, too. An export of CSV or NDJSON that is complete is 0,
one that was changed or damaged 1, one without its manifest 2: that proves nothing, and only shows that all is there.

Examples:
  $ tallystick verify
  $ tallystick verify --tenant acme --service orders
  $ tallystick verify march.evidence.ndjson --key "$(cat acme.vkey)"
  $ tallystick verify --database postgres://tallystick_auditor:secret@db/tallystick --json`,
    )
    .action(async (files: readonly string[], options: Options) => {
      try {
        process.exitCode = files.length > 0 ? await verifyFilesOf(files, options) : await verify(options);
      } catch (error) {
        note(`tallystick: could not check: ${describeError(error)}`);
        process.exitCode = EXIT.notChecked;
      }
    });
}

function collect(value: string, others: readonly string[] = []): readonly string[] {
  return [...others, value];
}

function verifyFilesOf(files: readonly string[], options: Options): Promise<number> {
  const { database, server, tenant, service, json, ...trust } = options;
  if ([database, server, tenant, service].some((other) => other !== undefined)) {
    throw new CliError("a file is checked alone: leave out --database, --server, --tenant and --service");
  }
  return verifyFiles(files, trustOf(trust), json === true);
}

async function verify(options: Options): Promise<number> {
  if ([options.key, options.trustFileKey, options.witness, options.quorum].some((one) => one !== undefined)) {
    throw new CliError("--key, --trust-file-key, --witness and --quorum are for files: name one");
  }
  const reports: VerifyReport[] = [];
  const show = (report: VerifyReport, next: NextCommand) => {
    reports.push(report);
    if (!options.json) print(reportLines(report, next).join("\n"));
  };
  if (options.server === undefined) await verifyInDatabase(options, (report) => show(report, sqlFor(options)));
  else await verifyAtServer(options, (report) => show(report, curlFor(options.server!)));
  if (options.json) printJson(reports);
  if (reports.length === 0) throw new CliError("there is no log: nothing was checked");
  if (options.service !== undefined && reports.every(({ ok, checked }) => ok && checked === 0)) {
    throw new CliError(`no log has an entry of a service "${options.service}": nothing was checked`);
  }

  const problems = reports.flatMap((report) => report.problems);
  const unknown = problems.filter(isNotCheckable).length;
  const code =
    problems.length > unknown || (unknown === 0 && reports.some(({ ok }) => !ok))
      ? EXIT.tampered
      : unknown > 0
        ? EXIT.notChecked
        : EXIT.good;
  if (!options.json) print(verdict(code, reports));
  return code;
}

/** Made by a newer version: neither good nor bad. */
function isNotCheckable({ kind }: VerifyProblem): boolean {
  return kind === "unknown_version";
}

function verdict(code: number, reports: readonly VerifyReport[]): string {
  const bad = reports.filter(({ ok }) => !ok).length;
  const logs = `${reports.length} ${reports.length === 1 ? "log" : "logs"}`;
  const checked = reports.reduce((sum, report) => sum + report.checked, 0);
  if (code === EXIT.good) return `\nAll good: ${logs}, ${checked} ${checked === 1 ? "entry" : "entries"}.`;
  if (code === EXIT.tampered)
    return `\nTAMPERING FOUND in ${bad} of ${logs}. Keep the database as it is until it has been looked into.`;
  return "\nNot everything could be checked: run the newer version of Tallystick that wrote it.";
}

async function verifyInDatabase(options: Options, show: (report: VerifyReport) => void): Promise<void> {
  const config = loadConfig();
  const progress = progressLine();
  await withDatabase({ config, url: options.database }, async ({ url }) => {
    await requireSight(url);
    try {
      const { tenant, service } = options;
      for await (const report of verifyDatabase(url, { tenant, service, onProgress: progress.update })) {
        progress.clear();
        show(report);
      }
    } finally {
      progress.clear();
    }
  });
}

/**
 * Whether the role sees every tenant's rows: to one that does not, every entry looks as if it were missing.
 * @throws {CliError}
 */
async function requireSight(url: string): Promise<void> {
  const client = new Client({ connectionString: url, application_name: "tallystick verify" });
  await client.connect();
  try {
    const { rows } = await client.query<{ migrated: boolean; role: string }>(
      "select to_regclass('tallystick.entries') is not null as migrated, current_user as role",
    );
    const { migrated, role } = rows[0]!;
    if (!migrated) throw new CliError("the database has no schema tallystick: is it the right one?");
    const { rows: sight } = await client.query<{ all: boolean }>(
      `select rolsuper or rolbypassrls or pg_has_role(current_user, 'tallystick_auditor', 'usage')
         or pg_has_role(current_user, 'tallystick_owner', 'usage') as all
       from pg_roles where rolname = current_user`,
    );
    if (sight[0]?.all) return;
    throw new CliError(
      `the role "${role}" does not see every tenant's entries: name a URL of tallystick_auditor by --database, or set DATABASE_ADMIN_URL`,
    );
  } finally {
    await client.end();
  }
}

/** As a job, which shows how far it is and outlives a connection that is cut. */
async function verifyAtServer(options: Options, show: (report: VerifyReport) => void): Promise<void> {
  const api = await openApi(loadConfig(), options, "api-key");
  const query = options.service === undefined ? "" : `?${new URLSearchParams({ service_id: options.service })}`;
  const progress = progressLine();
  try {
    const prefer = { prefer: `wait=${FIRST_WAIT_SECONDS}` };
    let answer = await api.request<VerifyReport | Verification>(
      "POST",
      `/v1/admin/verify-chain${query}`,
      undefined,
      prefer,
    );
    while ("status" in answer && (answer.status === "queued" || answer.status === "running")) {
      const { checked, size } = answer.progress;
      if (size !== null) progress.update({ log: answer.log, checked, size });
      await delay(POLL_MS);
      answer = await api.request<Verification>("GET", `/v1/admin/verifications/${answer.id}`);
    }
    progress.clear();
    show(reportIn(answer, options.server!));
  } finally {
    progress.clear();
  }
}

function reportIn(answer: VerifyReport | Verification, server: string): VerifyReport {
  if ("status" in answer && answer.status !== "done") {
    const { detail } = (answer.problem ?? {}) as { detail?: string };
    throw new CliError(detail ?? `the verification ${answer.id} at ${server} is ${answer.status}`);
  }
  const report = "status" in answer ? answer.report : answer;
  if (report === undefined || !Array.isArray(report.problems) || typeof report.ok !== "boolean") {
    throw new CliError(`${server} did not answer with a report`);
  }
  return { ...report, erased: report.erased ?? 0, signatures: report.signatures ?? { valid: 0, erased: 0 } };
}

/** What to look at next in the database, as the auditor sees it. */
function sqlFor(options: Options): NextCommand {
  const database = options.database === undefined ? "" : "--database <the same URL> ";
  return (report, problem) => ownCommand(`sql ${database}"${statementFor(report, problem)}"`);
}

function statementFor({ log }: VerifyReport, { seq, kind }: VerifyProblem): string {
  const ofLog = `log_id = (select id from logs where name = '${log}')`;
  if (kind === "enforcement") return "select * from enforcement_gaps()";
  if (kind === "opening" && seq !== null) return `select * from openings where ${ofLog} and seq = ${seq}`;
  if (kind === "text_index" && seq !== null) {
    return `select segment, version, cardinality(terms) as terms, text from text_segments where ${ofLog} and segment = ${Math.floor(seq / 256)}`;
  }
  if (kind === "rollup") {
    return `select level, bucket, entries, end_seq from rollups where ${ofLog} and level = 0 order by bucket desc limit 10`;
  }
  if (kind === "missing" && seq !== null) return `select * from check_leaf_hashes('${log}', ${seq})`;
  if (kind === "checkpoint") return `select * from check_tree('${log}')`;
  if (seq !== null) {
    return `select seq, id, recorded_at, encode(leaf_hash, 'hex') as leaf_hash, leaf from entries where ${ofLog} and seq = ${seq}`;
  }
  if (kind === "head") {
    return `select size, recorded_at, encode(root, 'hex') as root from heads where ${ofLog} order by size desc limit 10`;
  }
  if (kind === "service_head") return `select * from check_service_chains('${log}')`;
  if (kind === "tile") return `select * from check_tree('${log}')`;
  return `select * from check_log('${log}')`;
}

function curlFor(server: string): NextCommand {
  return (report, { id }) =>
    id === null
      ? ownCommand(`verify --database <URL of tallystick_auditor> --tenant ${tenantOf(report)}`)
      : `curl -sS ${shellWord(`${server.replace(/\/+$/, "")}/v1/logs/${id}`)} -H "Authorization: Bearer $API_KEY"`;
}
