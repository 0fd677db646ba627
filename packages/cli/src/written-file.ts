/**
 * Files that are there whole or not at all.
 */
import { randomBytes } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { type FileHandle, link, open, rename, rm } from "node:fs/promises";
import { constants } from "node:os";
import { CliError } from "./errors.ts";

/** @throws {CliError} where there is such a file, and it is not to be written over. */
export function requireFree(path: string, force: boolean): void {
  if (!force && existsSync(path)) throw thereAlready(path);
}

const INTERRUPTS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Writes under another name, and gives it its own when all is there: no reader takes a part for the whole.
 * @throws {CliError} where there is a file of that name which is not to be written over.
 */
export async function writeFile<Result>(
  path: string,
  force: boolean,
  write: (file: FileHandle) => Promise<Result>,
): Promise<Result> {
  const partial = `${path}.${randomBytes(4).toString("hex")}.partial`;
  const interrupted = (signal: NodeJS.Signals) => {
    rmSync(partial, { force: true });
    process.exit(128 + constants.signals[signal]);
  };
  // Before the file is made: it is there before `open` comes back.
  for (const signal of INTERRUPTS) process.once(signal, interrupted);
  try {
    const file = await open(partial, "wx");
    let result: Result;
    try {
      result = await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    if (force) await rename(partial, path);
    else await claim(partial, path);
    return result;
  } finally {
    for (const signal of INTERRUPTS) process.off(signal, interrupted);
    await rm(partial, { force: true });
  }
}

/** Unlike a rename, a link does not write over what somebody has put there meanwhile. */
async function claim(partial: string, path: string): Promise<void> {
  try {
    await link(partial, path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "EEXIST") throw thereAlready(path, cause);
    if (code !== "EPERM" && code !== "ENOTSUP" && code !== "ENOSYS") throw cause;
    await rename(partial, path); // a file system without links
  }
}

function thereAlready(path: string, cause?: unknown): CliError {
  return new CliError(`there is a file ${path} already: choose another name, or say --force`, { cause });
}
