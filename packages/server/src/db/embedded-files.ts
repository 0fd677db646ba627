import { randomBytes } from "node:crypto";
import { link, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { Account } from "./embedded-account.ts";
import { systemCode } from "./embedded-error.ts";

interface NewFile {
  readonly path: string;
  readonly text: string;
  readonly mode: number;
  /** Whom the file belongs to; ours when absent. */
  readonly owner?: Account | undefined;
}

/** The text of a file, or undefined when it is not there. Any other failure is thrown. */
export async function readIfPresent(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Puts a whole file in place of an older one; a reader, or a crash, sees the old or the new, never a part. */
export async function replaceFile(file: NewFile): Promise<void> {
  const draft = await writeDraft(file);
  await rename(draft, file.path);
  await syncDirectory(dirname(file.path));
}

/** Creates a file unless it is there; of several that try at once one wins. Returns the text that is there now. */
export async function createOnce(file: NewFile): Promise<string> {
  const draft = await writeDraft(file);
  try {
    await link(draft, file.path);
    await syncDirectory(dirname(file.path));
    return file.text;
  } catch (error) {
    if (systemCode(error) !== "EEXIST") throw error;
    return await readFile(file.path, "utf8");
  } finally {
    await rm(draft, { force: true });
  }
}

/** Makes a rename or a new name in the directory survive a power cut. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Creates a directory with exactly this mode, whatever the umask; false when it was there already. */
export async function makeDirectory(path: string, mode: number): Promise<boolean> {
  try {
    await mkdir(path);
  } catch (error) {
    if (systemCode(error) === "EEXIST") return false;
    throw error;
  }
  const directory = await open(path, "r");
  try {
    await directory.chmod(mode);
  } finally {
    await directory.close();
  }
  return true;
}

export function randomName(): string {
  return randomBytes(6).toString("hex");
}

async function writeDraft(file: NewFile): Promise<string> {
  const draft = `${file.path}.${randomName()}`;
  // "wx" follows no symbolic link: as root this may write into another user's directory.
  const handle = await open(draft, "wx", file.mode);
  try {
    await handle.writeFile(file.text);
    if (file.owner !== undefined) await handle.chown(file.owner.uid, file.owner.gid);
    await handle.sync();
  } finally {
    await handle.close();
  }
  return draft;
}
