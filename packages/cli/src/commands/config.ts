/**
 * `tallystick config`: every setting, what it is now and why it is there.
 */
import { type ConfigRow, describeConfig, envExample, loadConfig } from "@tallystick/server/config";
import { Command } from "commander";
import { note, print, printJson } from "../output.ts";

export function configCommand(): Command {
  return new Command("config")
    .description("show every setting: value, default, unit, where it was set, and what it is for")
    .option("--json", "print JSON")
    .option("--env-example", "print a .env file with every setting at its default, commented out")
    .addHelpText(
      "after",
      `
Secrets are masked. Fails, naming everything that is wrong, where the server would refuse to start on the settings.

Examples:
  $ tallystick config
  $ tallystick config --env-example > .env`,
    )
    .action((options: { json?: true; envExample?: true }) => {
      if (options.envExample) return void process.stdout.write(envExample());
      const config = loadConfig();
      const rows = describeConfig(config);
      if (options.json) return printJson(rows);
      for (const warning of config.warnings) note(`warning: ${warning}`);
      print(rows.map(describe).join("\n\n"));
    });
}

function describe({ name, value, source, default: fallback, unit, reason }: ConfigRow): string {
  const amount = unit === "" || value.startsWith("(") ? value : `${value} ${unit}`;
  const origin = source === "default" ? "default" : `from ${source}${fallback === "" ? "" : `; default ${fallback}`}`;
  return `${name} = ${amount}   [${origin}]\n    ${reason}`;
}
