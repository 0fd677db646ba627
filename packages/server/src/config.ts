import { join, resolve } from "node:path";
import { accessContradictions } from "./config/access.ts";
import { Refused } from "./config/parse.ts";
import { NOT_YET, SETTINGS, type Setting, type SettingKey, type Values } from "./config/settings.ts";
import { type Environment, find, type Problem, readDotEnv } from "./config/source.ts";
import { meantName } from "./config/typo.ts";

export { type ConfigRow, describeConfig, envExample, secretsOf } from "./config/describe.ts";
export type { LogLevel } from "./config/parse.ts";
export type { Problem } from "./config/source.ts";

/** Which PostgreSQL the server works on. */
export type DatabaseConfig =
  | { readonly kind: "embedded" }
  | {
      readonly kind: "external";
      readonly url: string;
      readonly adminUrl: string | undefined;
      readonly readerUrl: string | undefined;
    };

/** Settings that `database` stands for; nothing else needs to know in which form they were given. */
type DatabaseKey =
  | "databaseUrl"
  | "dbHost"
  | "dbPort"
  | "dbUser"
  | "dbPassword"
  | "dbName"
  | "databaseAdminUrl"
  | "databaseReaderUrl";

/** All settings, valid and complete. `dataDir` is absolute; `Ms`, `Seconds`, `Days`, `Bytes` name the units. */
export interface Config extends Omit<Values, DatabaseKey | "logKeyPath" | "signLockPath"> {
  /** Absolute. */
  readonly logKeyPath: string;
  /** Absolute. */
  readonly signLockPath: string;
  readonly database: DatabaseConfig;
  /** For the log at start: names that are likely typos, settings that this release does not know yet. */
  readonly warnings: readonly string[];
  /** Every setting by key, as given, and where it came from; for {@link describeConfig}. */
  readonly given: Readonly<Record<SettingKey, { readonly text: string | undefined; readonly source: string }>>;
}

/** Everything that is wrong with the settings, so that it can be mended in one go. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    const lines = problems.map(({ name, detail }) => `  ${name} ${detail}`);
    super(
      `The settings cannot be used:\n${lines.join("\n")}\nAll settings, with defaults and reasons: tallystick config`,
    );
    this.name = "ConfigError";
    this.problems = problems;
  }
}

const KEYS = Object.keys(SETTINGS) as SettingKey[];
const NAMES = KEYS.flatMap((key) => [SETTINGS[key].name, `${SETTINGS[key].name}_FILE`]);

/**
 * Reads all settings: the environment first, then `.env` in `cwd`, each as NAME or NAME_FILE (a file that holds the
 * value), then the defaults. The only place that reads `process.env`. Throws {@link ConfigError} with all problems.
 */
export function loadConfig(
  env: Environment = process.env,
  { cwd = process.cwd() }: { readonly cwd?: string } = {},
): Config {
  const problems: Problem[] = [];
  const dotEnv = readDotEnv(cwd, problems);
  const places = [
    ["environment", env],
    [".env", dotEnv],
  ] as const;
  const given = {} as Record<SettingKey, { text: string | undefined; source: string }>;
  const values = {} as Record<SettingKey, unknown>;
  for (const key of KEYS) {
    const setting: Setting<unknown> = SETTINGS[key];
    const found = find(setting.name, places, cwd, problems);
    given[key] = found ?? { text: setting.default, source: "default" };
    values[key] = parse(setting, given[key].text, problems);
  }
  problems.push(...typosInFile(dotEnv));
  const valid = values as Values;
  if (problems.length === 0) problems.push(...contradictions(valid, (key) => given[key].source !== "default"));
  if (problems.length > 0) throw new ConfigError(problems);
  const dataDir = resolve(cwd, valid.dataDir);
  return {
    ...withoutDatabaseParts(valid),
    dataDir,
    logKeyPath: resolve(cwd, valid.logKeyPath ?? join(dataDir, "log-key.pem")),
    signLockPath: resolve(cwd, valid.signLockPath ?? join(dataDir, "sign-lock.db")),
    database: databaseOf(valid),
    warnings: warningsAbout(env, dotEnv),
    given,
  };
}

function parse(setting: Setting<unknown>, text: string | undefined, problems: Problem[]): unknown {
  if (text === undefined) return undefined;
  try {
    return setting.parse(text);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const shown = setting.secret === undefined ? `is ${JSON.stringify(text)}: it ` : "";
    problems.push({ name: setting.name, detail: `${shown}${error.message}` });
    return undefined;
  }
}

function contradictions(values: Values, isGiven: (key: SettingKey) => boolean): Problem[] {
  const problems: Problem[] = [];
  const parts = (["dbPort", "dbUser", "dbPassword", "dbName"] as const).filter(isGiven);
  const external = values.databaseUrl !== undefined || values.dbHost !== undefined;
  if (values.databaseUrl !== undefined && values.dbHost !== undefined) {
    problems.push({ name: "DATABASE_URL", detail: "is set beside DB_HOST: remove one of the two" });
  } else if (values.dbHost === undefined && parts.length > 0) {
    const names = parts.map((key) => SETTINGS[key].name).join(", ");
    const cure =
      values.databaseUrl === undefined ? "set DB_HOST as well, or remove it" : "remove it, DATABASE_URL says it all";
    problems.push({ name: names, detail: `is set without DB_HOST: ${cure}` });
  }
  for (const key of ["databaseAdminUrl", "databaseReaderUrl"] as const) {
    if (values[key] === undefined || external) continue;
    problems.push({ name: SETTINGS[key].name, detail: "is set without DATABASE_URL: set that too, or remove it" });
  }
  if (values.apiKey !== undefined && values.apiKey === values.adminToken) {
    problems.push({ name: "API_KEY", detail: "is the same as ADMIN_TOKEN: whoever may write would be the operator" });
  }
  problems.push(...accessContradictions(values));
  if (values.commitBatchMaxEvents > values.queueMaxEvents) {
    problems.push({
      name: "COMMIT_BATCH_MAX_EVENTS",
      detail: `is ${values.commitBatchMaxEvents}, more than QUEUE_MAX_EVENTS (${values.queueMaxEvents}) lets wait: lower it, or raise that`,
    });
  }
  return problems;
}

function databaseOf(values: Values): DatabaseConfig {
  const url = values.databaseUrl ?? (values.dbHost === undefined ? undefined : urlFromParts(values.dbHost, values));
  if (url === undefined) return { kind: "embedded" };
  return { kind: "external", url, adminUrl: values.databaseAdminUrl, readerUrl: values.databaseReaderUrl };
}

function urlFromParts(host: string, values: Values): string {
  const password = values.dbPassword === undefined ? "" : `:${encodeURIComponent(values.dbPassword)}`;
  const user = `${encodeURIComponent(values.dbUser)}${password}`;
  const name = encodeURIComponent(values.dbName);
  if (host.startsWith("/")) return `postgres://${user}@/${name}?host=${encodeURIComponent(host)}&port=${values.dbPort}`;
  return `postgres://${user}@${host.includes(":") ? `[${host}]` : host}:${values.dbPort}/${name}`;
}

function withoutDatabaseParts(values: Values): Omit<Values, DatabaseKey> {
  const {
    databaseUrl: _url,
    dbHost: _host,
    dbPort: _port,
    dbUser: _user,
    dbPassword: _password,
    dbName: _name,
    databaseAdminUrl: _admin,
    databaseReaderUrl: _reader,
    ...rest
  } = values;
  return rest;
}

/** `.env` is ours: there a near miss is an error, or DATABASE_ULR would quietly start an empty database. */
function typosInFile(dotEnv: Environment): Problem[] {
  return Object.keys(dotEnv).flatMap((name) => {
    const meant = meantName(name, NAMES);
    return meant === undefined ? [] : [{ name, detail: `in .env is no setting: did you mean ${meant}?` }];
  });
}

/** The environment is shared with other programs: there a near miss is only worth a line. */
function warningsAbout(env: Environment, dotEnv: Environment): string[] {
  const typos = Object.keys(env).flatMap((name) => {
    const meant = meantName(name, NAMES);
    return meant === undefined
      ? []
      : [`${name} in the environment is no setting of Tallystick: did you mean ${meant}?`];
  });
  const early = NOT_YET.filter((name) => env[name] || dotEnv[name]);
  return [...typos, ...early.map((name) => `${name} is set, but this release does not use it yet`)];
}
