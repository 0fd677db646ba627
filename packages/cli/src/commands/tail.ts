/**
 * `tallystick tail`: the newest entries that match, and with -f those that come, each once whatever becomes of the connection.
 */
import { setTimeout as delay } from "node:timers/promises";
import { styleText } from "node:util";
import { severityOf } from "@tallystick/core/defaults";
import { loadConfig } from "@tallystick/server/config";
import { Command, Option } from "commander";
import { type Api, openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { cellsOf, type ListedEntry } from "../entry-table.ts";
import { AnswerError, CliError } from "../errors.ts";
import { filterParametersOf, type GivenOptions, withFilterOptions } from "../filter-options.ts";
import { note, print } from "../output.ts";
import { visible } from "../table.ts";

const DEFAULT_LINES = 20;
/** Entries that one request may ask for. */
const MAX_LINES = 1_000;
/** Longer than a server may be silent: its heartbeats are 25 s apart at most. */
const SILENCE_MS = 60_000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
/** Of the columns but the last. */
const WIDTHS = [24, 20, 24, 24];

interface Options extends ServerOptions {
  readonly follow?: true;
  readonly lines: string;
  readonly sinceSeq?: string;
  readonly json?: true;
  readonly log?: string;
}

/** What a stream says (docs/streaming.md). */
interface Said {
  readonly seq: number;
  readonly behind?: number;
  readonly reason?: string;
  readonly detail?: string;
}

export function tailCommand(): Command {
  return withFilterOptions(
    withServerOptions(
      new Command("tail")
        .description("show the newest entries that match, and those that come")
        .option("-f, --follow", "go on with those that come, until it is stopped")
        .addOption(
          new Option("-n, --lines <n>", `how many of the newest; at most ${MAX_LINES}`).default(`${DEFAULT_LINES}`),
        )
        .addOption(new Option("--since-seq <position>", "all from this position on, instead of the newest"))
        .option("--log <slug>", "an earlier log of the tenant")
        .option("--json", "a line of JSON for each, as the API shows it")
        .option("--api-key <key>", "a key with scopes read and stream; default: API_KEY, else credentials.json")
        .option("--tenant <tenant>", "id or slug; default: the credential's own"),
    ),
  )
    .addHelpText(
      "after",
      `
A query goes into one pair of quotes. One that begins with - goes behind --. A connection that is lost is made again, and goes on
where it was: no entry is left out, none comes twice. Colours on a terminal, unless NO_COLOR is set.
${SERVER_HELP}

Examples:
  $ tallystick tail -f
  $ tallystick tail -f 'outcome:failure,denied -action:health.*'
  $ tallystick tail -f --json --since-seq 0 >> all.ndjson`,
    )
    .action(runTail);
}

async function runTail(words: readonly string[], options: Options): Promise<void> {
  const { follow, log, json } = options;
  const lines = numberOf("--lines", options.lines, MAX_LINES);
  const since = options.sinceSeq === undefined ? undefined : numberOf("--since-seq", options.sinceSeq);
  const api = await openApi(loadConfig(), options, "api-key");
  const parameters = new URLSearchParams(filterParametersOf(words, options as unknown as GivenOptions));
  if (log !== undefined) parameters.set("log", log);
  const show = (entry: ListedEntry) => print(json ? JSON.stringify(entry) : lineOf(entry));
  let from = since;
  if (since === undefined && lines > 0) {
    const query = new URLSearchParams([...parameters, ["limit", `${lines}`], ["order", "desc"]]);
    const { data } = await api.request<{ data: ListedEntry[] }>("GET", `/v1/logs?${query}`);
    for (const entry of data.reverse()) show(entry);
    from = (data.at(-1)?.seq ?? -1) + 1; // what matches and is recorded from now on stands behind these
  }
  if (!follow && since === undefined) return;
  await stream(api, { parameters, from, follow: follow ?? false, show });
}

/** Shows what a stream sends, by as many connections as it takes, until the stream has an end. */
async function stream(
  api: Api,
  {
    parameters,
    from,
    follow,
    show,
  }: { parameters: URLSearchParams; from: number | undefined; follow: boolean; show: (entry: ListedEntry) => void },
): Promise<void> {
  let position = from;
  let isLost = false;
  let heard = from !== undefined && from > 0; // the newest entries were had of it
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    const query = new URLSearchParams([...parameters, ["follow", `${follow}`]]);
    if (position !== undefined) query.set("since_seq", `${position}`);
    try {
      for await (const { event, data } of api.events(`/v1/logs/stream?${query}`, SILENCE_MS)) {
        if (isLost) note("tallystick: connected again");
        isLost = false;
        heard = true;
        pauseMs = FIRST_PAUSE_MS;
        if (event === "entry") {
          const entry = JSON.parse(data) as ListedEntry;
          show(entry);
          position = entry.seq + 1;
          continue;
        }
        const said = JSON.parse(data) as Said;
        position = said.seq;
        if (event === "lagging") note(`tallystick: too slow: ${said.behind} positions behind`);
        if (event !== "end") continue;
        if (said.reason === "end_of_log") return;
        if (said.reason === "log_succeeded") {
          note(`tallystick: ${visible(said.detail ?? "")}`);
          position = 0;
        } else if (said.reason !== "server_stopping") {
          throw new AnswerError(
            `the stream was ended: ${visible(said.detail ?? "")} (${visible(said.reason ?? "")})`,
            401,
          );
        }
        break;
      }
    } catch (error) {
      if (!(error instanceof CliError) || !heard || !isPassing(error)) throw error;
      if (!isLost) note(`tallystick: ${error.message}; trying again`);
      isLost = true;
    }
    await delay(pauseMs);
  }
}

/** Whether it is worth trying again: what the server refuses for good it goes on refusing. */
function isPassing(error: CliError): boolean {
  return !(error instanceof AnswerError) || error.status >= 500 || error.status === 429;
}

/** An entry in one line: when, who, what, on what, how it ended. */
function lineOf(entry: ListedEntry): string {
  const [time, actor, action, resource, outcome] = cellsOf(entry).map(visible) as [
    string,
    string,
    string,
    string,
    string,
  ];
  const severity = severityOf(entry.event);
  const padded = [time, actor, action, resource].map((cell, column) => cell.padEnd(WIDTHS[column]!));
  const styles = ["dim", "cyan", "bold", "none"] as const;
  const cells = padded.map((cell, column) => (styles[column] === "none" ? cell : style(styles[column]!, cell)));
  const end =
    outcome === "success" ? style("green", outcome) : style(outcome === "failure" ? "red" : "yellow", outcome);
  const alarm = severity === "INFO" ? "" : ` ${style(severity === "WARNING" ? "yellow" : "red", severity)}`;
  return `${cells.join("  ")}  ${end}${alarm}`;
}

/** As the terminal and NO_COLOR say. */
function style(format: "dim" | "cyan" | "bold" | "green" | "red" | "yellow" | "none", text: string): string {
  return format === "none" ? text : styleText(format, text, { stream: process.stdout });
}

function numberOf(option: string, text: string, max = 10 ** 15): number {
  const number = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(number <= max)) throw new CliError(`${option} ${text} is no whole number from 0 to ${max}`);
  return number;
}
