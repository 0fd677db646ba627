import type { Config } from "../config.ts";
import { SETTINGS, type Setting, type SettingKey } from "./settings.ts";

/** A line of `tallystick config`. */
export interface ConfigRow {
  readonly name: string;
  /** What is in force, secrets masked; what happens instead, in brackets, when it is not set. */
  readonly value: string;
  /** `default`, `environment`, `.env`, or `file <path>`. */
  readonly source: string;
  readonly default: string;
  readonly unit: string;
  readonly reason: string;
}

const MASK = "********";

/** Every setting with the value in force, in the order of the table. Safe to print. */
export function describeConfig(config: Config): ConfigRow[] {
  return entries().map(([key, setting]) => {
    const { text, source } = config.given[key];
    return {
      name: setting.name,
      value: text === undefined ? `(${setting.unset})` : mask(setting, text),
      source,
      default: setting.default ?? "",
      unit: setting.unit ?? "",
      reason: setting.reason,
    };
  });
}

/** The text of `.env.example`: every setting, with its default, unit and reason, commented out. */
export function envExample(): string {
  const blocks = entries().map(([, setting]) => {
    const unit = setting.unit === undefined ? "" : ` Unit: ${setting.unit}.`;
    const unset = setting.unset === undefined ? "" : ` Unset: ${setting.unset}.`;
    return `# ${setting.reason}${unit}${unset}\n# ${setting.name}=${setting.default ?? ""}\n`;
  });
  return [
    "# Settings of Tallystick. Copy to .env and uncomment what you change; what stands here is the default.\n" +
      "# Every setting is read from the environment first, then from .env; NAME_FILE=/path reads its value from a file.\n" +
      "# Generated from the table of settings: npm test compares the two, npm run generate writes this file anew.\n",
    ...blocks,
  ].join("\n");
}

/** The secrets that were given, as they stand in the settings, to be kept out of the log. */
export function secretsOf({ given }: Config): string[] {
  return entries().flatMap(([key, { secret }]) => {
    const { text } = given[key];
    if (secret === undefined || text === undefined) return [];
    if (secret === "all") return [text];
    const password = /^[a-z]+:\/\/[^:@/]*:(.*)@/.exec(text)?.[1];
    return password === undefined ? [] : [password, decoded(password)];
  });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function entries(): [SettingKey, Setting<unknown>][] {
  return Object.entries(SETTINGS) as [SettingKey, Setting<unknown>][];
}

function mask(setting: Setting<unknown>, text: string): string {
  if (setting.secret === "all") return MASK;
  if (setting.secret !== "url") return text;
  // Between the first colon after the scheme and the last @, and wherever else a URL of PostgreSQL can carry one.
  return text
    .replace(/^([a-z]+:\/\/[^:@/]*):.*@/, `$1:${MASK}@`)
    .replace(/([?&](?:password|sslpassword)=)[^&]*/gi, `$1${MASK}`);
}
