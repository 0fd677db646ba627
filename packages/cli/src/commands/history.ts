/**
 * `tallystick history`: what changed in a field of a resource over time.
 */
import { loadConfig } from "@tallystick/server/config";
import { Command } from "commander";
import { openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { CliError } from "../errors.ts";
import { note, print, printJson } from "../output.ts";
import { formatTable } from "../table.ts";

interface Options extends ServerOptions {
  readonly resource: string;
  readonly field: string;
  readonly from?: string;
  readonly to?: string;
  readonly limit?: string;
  readonly log?: string;
  readonly json?: true;
}

interface Change {
  readonly seq: number;
  readonly recorded_at: string;
  readonly action: string;
  readonly actor: { readonly id?: string; readonly name?: unknown };
  readonly before?: unknown;
  readonly after?: unknown;
}

const DEFAULT_LIMIT = 50;
const PAGE = 1_000;

export function historyCommand(): Command {
  return withServerOptions(
    new Command("history")
      .description("show what changed in a field of a resource, newest first, and who last set it")
      .requiredOption("--resource <type:id>", "the resource")
      .requiredOption(
        "--field <path>",
        'the field in changes, as in status or address.city; "a.b" where a key has a dot',
      )
      .option("--from <time>", "recorded at or after; RFC 3339, or a date")
      .option("--to <time>", "recorded before; a date includes its day")
      .option("--limit <n>", `how many changes at most; default: ${DEFAULT_LIMIT}`)
      .option("--log <slug>", "an earlier log of the tenant")
      .option("--json", "print the changes as JSON")
      .option("--api-key <key>", "a key with scope read; default: API_KEY, else credentials.json")
      .option("--tenant <tenant>", "id or slug; default: the credential's own"),
  )
    .addHelpText(
      "after",
      `${SERVER_HELP}

Examples:
  $ tallystick history --resource order:o-17 --field status
  $ tallystick history --resource user:u-9 --field address.city --from 2026-01-01`,
    )
    .action(runHistory);
}

async function runHistory(options: Options): Promise<void> {
  const { resource, field, from, to, log, limit = String(DEFAULT_LIMIT), json } = options;
  if (!/^[1-9]\d{0,8}$/.test(limit)) throw new CliError(`--limit ${limit} is no whole number from 1`);
  const api = await openApi(loadConfig(), options, "api-key");
  const parameters = new URLSearchParams({ resource, field });
  for (const [name, value] of Object.entries({ from, to, log })) if (value !== undefined) parameters.set(name, value);
  const changes: Change[] = [];
  let more = true;
  while (more && changes.length < Number(limit)) {
    parameters.set("limit", String(Math.min(Number(limit) - changes.length, PAGE)));
    const { data, next_cursor } = await api.request<{ data: Change[]; next_cursor: string | null }>(
      "GET",
      `/v1/logs/history?${parameters}`,
    );
    changes.push(...data);
    more = next_cursor !== null;
    if (next_cursor !== null) parameters.set("cursor", next_cursor);
  }
  if (json) return printJson(changes);
  const [last] = changes;
  if (last === undefined) return note(`nothing tells of a change of ${field} in ${resource}`);
  print(
    formatTable(
      ["recorded at", "who", "action", "before", "after", "seq"],
      changes.map((change) => [
        change.recorded_at,
        whoOf(change),
        change.action,
        valueText(change.before),
        valueText(change.after),
        change.seq,
      ]),
    ),
  );
  note(
    "after" in last
      ? `last set by ${whoOf(last)}, to ${valueText(last.after)}, at ${last.recorded_at}`
      : `last taken away by ${whoOf(last)}, at ${last.recorded_at}`,
  );
  if (more) note(`there are older changes than these ${changes.length}: say --limit`);
}

function whoOf({ actor }: Change): string {
  return actor.id ?? "(anonymous)";
}

/** A text as it is, anything else as JSON; a field that is not there is a dash. */
function valueText(value: unknown): string {
  if (value === undefined) return "-";
  return typeof value === "string" ? value : JSON.stringify(value);
}
