/**
 * DATA_DIR, before anything is kept in it.
 */
import { randomBytes } from "node:crypto";
import { chmod, mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { runningAsRoot } from "./db/embedded-account.ts";
import { StartError } from "./start-error.ts";

/**
 * Makes the directory where it is missing, and a file in it, which is taken away again.
 * @throws {StartError} `data_dir`.
 */
export async function openDataDir(dataDir: string): Promise<void> {
  try {
    if (await make(dataDir)) await chmod(dataDir, mode());
    const probe = join(dataDir, `.probe-${randomBytes(6).toString("hex")}`);
    await writeFile(probe, "");
    await rm(probe);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const what =
      code === "EEXIST" || code === "ENOTDIR"
        ? "is a file, or lies below one: name a directory"
        : `cannot be written to (${message}): give this user the right to`;
    throw new StartError("data_dir", `DATA_DIR ${dataDir} ${what}, or set DATA_DIR to another place`, { cause });
  }
}

/** Root's is left open for passing through, so that PostgreSQL's own user reaches its data in it. */
function mode(): number {
  return runningAsRoot() ? 0o711 : 0o700;
}

/** Like mkdir's `recursive`, which never ends where a file system answers ENOENT whatever its parents (/proc). */
async function make(directory: string): Promise<boolean> {
  try {
    await mkdir(directory, { mode: mode() });
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    if (code !== "ENOENT" || dirname(directory) === directory) throw error;
  }
  await make(dirname(directory));
  try {
    await mkdir(directory, { mode: mode() });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false; // another start was faster
    throw error;
  }
}
