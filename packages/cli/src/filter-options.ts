/**
 * The filters of the API as options of commands: each by its parameter's name, to be repeated where any of several values is meant,
 * and a query string as the argument.
 */
import { filterParameters } from "@tallystick/server/http/schemas/entries";
import type { Command } from "commander";

/** What commander makes of options that were given. */
export type GivenOptions = Readonly<Record<string, unknown>>;

/** Adds an option for each filter, and the argument that is a query. */
export function withFilterOptions(command: Command): Command {
  command.argument("[query...]", `a query, as in 'actor:alice -action:hook.* "exact words"'`);
  for (const [name, schema] of Object.entries(filterParameters)) {
    const description = "description" in schema ? schema.description : "";
    if (schema.type === "array") command.option(`${optionOf(name)} <value>`, description, collect);
    else command.option(`${optionOf(name)} <value>`, description);
  }
  return command;
}

/** The filters that were given, as parameters of the API. Words of the query, and `--q`, are one query. */
export function filterParametersOf(words: readonly string[], options: GivenOptions): [string, string][] {
  const { q, ...others } = Object.fromEntries(
    Object.keys(filterParameters).map((name) => [name, options[camelCase(name)] as string | string[] | undefined]),
  );
  const query = [...(typeof q === "string" ? [q] : []), ...words].join(" ");
  const given = Object.entries(others).flatMap(([name, values]) =>
    [values ?? []].flat().map((value): [string, string] => [name, value]),
  );
  return query === "" ? given : [...given, ["q", query]];
}

/** The option that a parameter is given by. */
export function optionOf(parameter: string): string {
  return `--${parameter.replaceAll("_", "-")}`;
}

/** The name that commander gives a parameter's option. */
export function camelCase(parameter: string): string {
  return parameter.replace(/_[a-z]/g, (letter) => letter[1]!.toUpperCase());
}

function collect(value: string, others: readonly string[] = []): readonly string[] {
  return [...others, value];
}
