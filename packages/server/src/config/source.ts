import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseEnv } from "node:util";

export type Environment = Readonly<Record<string, string | undefined>>;

/** A setting's text and where it came from, for people: `environment`, `.env`, `file /run/secrets/x`. */
export interface Found {
  readonly text: string;
  readonly source: string;
}

/** One thing wrong with the settings: the name, what is wrong, and how to mend it, in a sentence. */
export interface Problem {
  readonly name: string;
  readonly detail: string;
}

/** The variables of `.env` in `cwd`; none when there is no such file. A file that cannot be read is a problem. */
export function readDotEnv(cwd: string, problems: Problem[]): Environment {
  try {
    return parseEnv(readFileSync(resolve(cwd, ".env"), "utf8"));
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT") return {};
    problems.push({ name: ".env", detail: `cannot be read (${code}): make it readable, or remove it` });
    return {};
  }
}

/**
 * Finds a setting as NAME or NAME_FILE in the first of `places` that has it; an empty value counts as not set
 * (`PORT=${PORT:-}` in a compose file).
 */
export function find(
  name: string,
  places: readonly (readonly [string, Environment])[],
  cwd: string,
  problems: Problem[],
): Found | undefined {
  for (const [source, variables] of places) {
    const direct = variables[name] || undefined;
    const file = variables[`${name}_FILE`] || undefined;
    if (direct !== undefined && file !== undefined) {
      problems.push({ name, detail: `is set beside ${name}_FILE: remove one of the two` });
      return undefined;
    }
    if (direct !== undefined) return { text: direct, source };
    if (file !== undefined) return readSecretFile(name, resolve(cwd, file), problems);
  }
  return undefined;
}

function readSecretFile(name: string, path: string, problems: Problem[]): Found | undefined {
  try {
    const text = readFileSync(path, "utf8").trim();
    if (text !== "") return { text, source: `file ${path}` };
    problems.push({ name: `${name}_FILE`, detail: `names ${path}, which is empty: write the value to it` });
  } catch (error) {
    problems.push({
      name: `${name}_FILE`,
      detail: `names ${path}, which cannot be read (${errorCode(error)}): mend the path or its rights`,
    });
  }
  return undefined;
}

function errorCode(error: unknown): string {
  if (error instanceof Error && "code" in error && typeof error.code === "string") return error.code;
  throw error;
}
