/**
 * `tallystick stats`: how many entries there are, by time and by value.
 */
import { loadConfig } from "@tallystick/server/config";
import { COUNTED_FIELDS } from "@tallystick/server/stats/counted-fields";
import { INTERVALS } from "@tallystick/server/stats/zone-buckets";
import { Command, Option } from "commander";
import { openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { filterParametersOf, type GivenOptions, withFilterOptions } from "../filter-options.ts";
import { note, print, printJson } from "../output.ts";
import { type Cell, formatTable } from "../table.ts";

interface Options extends ServerOptions {
  readonly by?: string;
  readonly interval?: string;
  readonly timeZone?: string;
  readonly top?: string;
  readonly log?: string;
  readonly json?: true;
}

/** The counts of the values that are named, where there are some. */
interface Counts {
  readonly entries: number;
  readonly other?: number;
  readonly without?: number;
}

interface Statistics extends Counts {
  readonly as_of: { readonly size: number; readonly recorded_at: string | null };
  readonly rolled_up: number;
  readonly time_zone: string;
  readonly by: string | null;
  readonly values?: readonly { readonly value: string; readonly entries: number }[];
  readonly buckets?: readonly (Counts & { readonly local: string; readonly counts?: readonly number[] })[];
}

export function statsCommand(): Command {
  return withFilterOptions(
    withServerOptions(
      new Command("stats")
        .description("count entries, by time and by the values of a field")
        .addOption(new Option("--by <field>", "count its values").choices([...COUNTED_FIELDS]))
        .addOption(new Option("--interval <interval>", "count by this length of time").choices([...INTERVALS]))
        .option("--time-zone <zone>", "whose hours, days, weeks and months, as in Europe/Berlin; default: UTC")
        .option("--top <n>", "how many values are named, 1 to 100; default: 10")
        .option("--log <slug>", "an earlier log of the tenant")
        .option("--json", "print the answer as JSON")
        .option("--api-key <key>", "a key with scope read; default: API_KEY, else credentials.json")
        .option("--tenant <tenant>", "id or slug; default: the credential's own"),
    ),
  )
    .addHelpText(
      "after",
      `${SERVER_HELP}

Examples:
  $ tallystick stats --by action
  $ tallystick stats --by outcome --interval day --time-zone Asia/Kolkata --from 2026-03-01 --to 2026-03-31
  $ tallystick stats --interval hour 'action:user.login outcome:failure created:2026-03-08'`,
    )
    .action(runStats);
}

async function runStats(words: readonly string[], options: Options): Promise<void> {
  const api = await openApi(loadConfig(), options, "api-key");
  const { by, interval, timeZone, top, log } = options;
  const parameters = new URLSearchParams(filterParametersOf(words, options as unknown as GivenOptions));
  for (const [name, value] of Object.entries({ by, interval, time_zone: timeZone, top, log })) {
    if (value !== undefined) parameters.set(name, value);
  }
  const found = await api.request<Statistics>("GET", `/v1/logs/stats?${parameters}`);
  if (options.json) return printJson(found);
  print(found.buckets === undefined ? byValue(found) : byTime(found));
  const { size, recorded_at } = found.as_of;
  note(
    size === 0
      ? "the log is empty"
      : `${found.entries} ${found.entries === 1 ? "entry" : "entries"} counted in the log at size ${size} (newest: ${recorded_at})`,
  );
}

function byValue({ by, values, entries, other, without }: Statistics): string {
  if (by === null || values === undefined) return formatTable(["entries"], [[entries]]);
  const rest: Cell[][] = [];
  if (other! > 0) rest.push(["(all others)", other]);
  if (without! > 0) rest.push([`(no ${by})`, without]);
  return formatTable([by, "entries"], [...values.map(({ value, entries }): Cell[] => [value, entries]), ...rest]);
}

function byTime({ time_zone, buckets = [], by, values = [], other = 0, without = 0 }: Statistics): string {
  // Columns that would say 0 everywhere say nothing.
  const header = [
    time_zone,
    "entries",
    ...values.map(({ value }) => value),
    ...(other > 0 ? ["(all others)"] : []),
    ...(without > 0 ? [`(no ${by})`] : []),
  ];
  return formatTable(
    header,
    buckets.map((bucket) => [
      bucket.local.replace("T", " "),
      bucket.entries,
      ...(bucket.counts ?? []),
      ...(other > 0 ? [bucket.other] : []),
      ...(without > 0 ? [bucket.without] : []),
    ]),
  );
}
