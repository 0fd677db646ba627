/**
 * `tallystick search`: entries that match, page by page.
 */
import { loadConfig } from "@tallystick/server/config";
import { Command, Option } from "commander";
import { type Api, openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { EntryTable, type ListedEntry } from "../entry-table.ts";
import { CliError } from "../errors.ts";
import { filterParametersOf, type GivenOptions, withFilterOptions } from "../filter-options.ts";
import { note, print } from "../output.ts";

const DEFAULT_LIMIT = 50;
/** Entries that one request may ask for. */
const PAGE = 1_000;

interface Options extends ServerOptions {
  readonly limit?: string;
  readonly all?: true;
  readonly order: "asc" | "desc" | "rank";
  readonly json?: true;
  readonly log?: string;
}

export function searchCommand(): Command {
  return withFilterOptions(
    withServerOptions(
      new Command("search")
        .description("show entries that match, newest first")
        .option("--limit <n>", `how many at most; default: ${DEFAULT_LIMIT}`)
        .addOption(new Option("--all", "every one of them").conflicts("limit"))
        .addOption(
          new Option("--order <order>", "by position, or by rank: what has the words in the more telling place first")
            .choices(["asc", "desc", "rank"])
            .default("desc"),
        )
        .option("--log <slug>", "an earlier log of the tenant")
        .option("--json", "a line of JSON for each, as the API shows it")
        .option("--api-key <key>", "a key with scope read; default: API_KEY, else credentials.json")
        .option("--tenant <tenant>", "id or slug; default: the credential's own"),
    ),
  )
    .addHelpText(
      "after",
      `
A query goes into one pair of quotes. One that begins with - goes behind --.
${SERVER_HELP}

Examples:
  $ tallystick search 'actor:alice -action:hook.*'
  $ tallystick search --outcome failure --outcome denied --from 2026-03-01 --limit 200
  $ tallystick search --all --order asc --json 'resource:order:o-17' > o-17.ndjson`,
    )
    .action(runSearch);
}

async function runSearch(words: readonly string[], options: Options): Promise<void> {
  const limit = limitOf(options);
  if (options.order === "rank" && limit > PAGE) {
    throw new CliError(`--order rank has one page, of ${PAGE} at most: say --limit, without --all`);
  }
  const api = await openApi(loadConfig(), options, "api-key");
  const given = options as unknown as GivenOptions;
  const { order, json, log } = options;
  const parameters = new URLSearchParams([...filterParametersOf(words, given), ["order", order]]);
  if (log !== undefined) parameters.set("log", log);
  const table = new EntryTable();
  let shown = 0;
  let more = false;
  for await (const { entries, next } of pages(api, parameters, limit)) {
    for (const line of json ? entries.map((entry) => JSON.stringify(entry)) : table.lines(entries)) print(line);
    shown += entries.length;
    more = next;
  }
  if (json) return;
  if (shown === 0) note("no entry matches");
  else if (more) note(`there are more than these ${shown}: say --limit, or --all`);
}

/** Pages up to `limit` entries; `next`: whether there are more behind. */
async function* pages(api: Api, parameters: URLSearchParams, limit: number) {
  for (let left = limit; left > 0; ) {
    parameters.set("limit", String(Math.min(left, PAGE)));
    const { data: entries, next_cursor } = await api.request<{
      data: readonly ListedEntry[];
      next_cursor: string | null;
    }>("GET", `/v1/logs?${parameters}`);
    yield { entries, next: next_cursor !== null };
    if (next_cursor === null) return;
    parameters.set("cursor", next_cursor);
    left -= entries.length;
  }
}

function limitOf({ limit, all }: Options): number {
  if (all) return Number.POSITIVE_INFINITY;
  if (limit === undefined) return DEFAULT_LIMIT;
  if (!/^[1-9]\d{0,8}$/.test(limit)) throw new CliError(`--limit ${limit} is no whole number from 1; --all shows all`);
  return Number(limit);
}
