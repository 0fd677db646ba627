import { type ChildProcess, execFile, spawn } from "node:child_process";
import { open, readdir, readFile, rename, rm, stat, truncate } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { type Account, PROGRAM_ENV, spawnIdentity } from "./embedded-account.ts";
import type { Binaries } from "./embedded-binaries.ts";
import { doesNotRun } from "./embedded-binaries.ts";
import { systemCode } from "./embedded-error.ts";
import { randomName, readIfPresent } from "./embedded-files.ts";
import { DURABILITY } from "./embedded-settings.ts";

/** What `postmaster.pid` says: PostgreSQL's own lock on its data directory, and its state. */
export interface PidFile {
  readonly pid: number;
  readonly directory: string;
  readonly port: number;
  /** `starting`, `ready`, `stopping`, `standby`, or empty very early. */
  readonly status: string;
  readonly text: string;
}

/** A postmaster that was just spawned. */
export interface Launch {
  readonly pid: number;
  /** Settles when it ended; PostgreSQL's own words of this start are in `said`. */
  readonly ended: Promise<void>;
  readonly said: () => Promise<string>;
}

/** PostgreSQL fills its lock file at once; an empty one older than this is a remnant. */
const BEING_WRITTEN_MS = 2_000;
const START_LOG_LIMIT_BYTES = 1024 * 1024;

/** Undefined when there is none, or when PostgreSQL has not finished its first lines. */
export async function readPidFile(directory: string): Promise<PidFile | undefined> {
  const text = await readIfPresent(join(directory, "postmaster.pid"));
  if (text === undefined) return undefined;
  const [pid, data, , port, , , , status] = text.split("\n");
  if (data === undefined) return undefined;
  return { pid: Number(pid), directory: data, port: Number(port ?? 0), status: (status ?? "").trim(), text };
}

/** Whether the process lives and is a PostgreSQL: after a reboot the number may be anybody's. */
export async function isPostgres(pid: number): Promise<boolean> {
  if (!isAlive(pid)) return false;
  try {
    if (process.platform === "linux") {
      // Empty for a zombie: one that ended and that nobody has waited for.
      const [program = ""] = (await readFile(`/proc/${pid}/cmdline`, "latin1")).split("\0");
      return basename(program) === "postgres";
    }
    const { stdout } = await promisify(execFile)("/bin/ps", ["-o", "stat=,comm=", "-p", String(pid)]);
    return !stdout.startsWith("Z") && stdout.trim().endsWith("postgres");
  } catch (error) {
    // ENOENT: gone meanwhile, or /proc hides it. ESRCH: gone between opening and reading. 1: ps found nothing.
    if (systemCode(error) === "ENOENT" || systemCode(error) === "ESRCH") return isAlive(pid);
    if (error instanceof Error && "code" in error && error.code === 1) return false;
    throw error;
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives and is another user's.
    return systemCode(error) === "EPERM";
  }
}

/** Sends a signal to a process that may be gone by now. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (systemCode(error) !== "ESRCH") throw error;
  }
}

/**
 * Takes away a `postmaster.pid` whose process is not a PostgreSQL, which PostgreSQL itself would not dare to.
 * Does nothing if another starter has put its own in place meanwhile.
 */
export async function removeStalePidFile(directory: string, judged: Pick<PidFile, "text">): Promise<void> {
  const path = join(directory, "postmaster.pid");
  const aside = join(directory, `postmaster.pid.stale-${randomName()}`);
  try {
    await rename(path, aside);
  } catch (error) {
    // Another starter took it away first.
    if (systemCode(error) === "ENOENT") return;
    throw error;
  }
  if ((await readFile(aside, "utf8")) === judged.text) await rm(aside);
  else await rename(aside, path);
}

/** Takes away an empty `postmaster.pid`, left by a power cut; not one that a PostgreSQL is about to fill. */
export async function removeEmptyPidFile(directory: string): Promise<void> {
  const text = await readIfPresent(join(directory, "postmaster.pid"));
  if (text !== "") return;
  const { mtimeMs } = await stat(join(directory, "postmaster.pid"));
  if (Date.now() - mtimeMs > BEING_WRITTEN_MS) await removeStalePidFile(directory, { text });
}

/**
 * Starts a postmaster in a session of its own: a Ctrl-C at the terminal does not reach it, and neither does the end
 * of this process, however sudden. Its first words go to `logFile`, the rest to the log directory in its data.
 */
export async function launch(
  binaries: Binaries,
  directory: string,
  port: number,
  account: Account | undefined,
  logFile: string,
): Promise<Launch> {
  const log = await open(logFile, "a", 0o600);
  try {
    if ((await log.stat()).size > START_LOG_LIMIT_BYTES) await truncate(logFile);
    const { size: from } = await log.stat();
    // No Unix socket: its path may have at most 107 bytes, and TCP with a password serves every user alike.
    const fixed = ["listen_addresses=127.0.0.1", `port=${port}`, "unix_socket_directories=", ...DURABILITY];
    const child = spawn(binaries.postgres, ["-D", directory, ...fixed.flatMap((setting) => ["-c", setting])], {
      cwd: "/",
      env: PROGRAM_ENV,
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
      ...(account === undefined ? {} : spawnIdentity(account)),
    });
    const pid = await started(child);
    child.unref();
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    return { pid, ended, said: () => tail(logFile, from) };
  } finally {
    await log.close();
  }
}

/** The last lines that PostgreSQL wrote, of `logFile` from byte `from` on and of its newest own log. */
export async function logTail(directory: string, logFile: string): Promise<string> {
  const logs = join(directory, "log");
  const names = await readdir(logs).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return [];
    throw error;
  });
  const dated = await Promise.all(names.map(async (name) => ({ name, at: (await stat(join(logs, name))).mtimeMs })));
  const newest = dated.sort((a, b) => b.at - a.at)[0];
  const own = newest === undefined ? "" : await tail(join(logs, newest.name), 0);
  return [await tail(logFile, 0), own].filter((part) => part !== "").join("\n");
}

async function tail(path: string, from: number): Promise<string> {
  const text = (await readIfPresent(path)) ?? "";
  return Buffer.from(text).subarray(from).toString("utf8").trim().split("\n").slice(-15).join("\n");
}

function started(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", (cause) => reject(doesNotRun(child.spawnfile, cause.message, { cause })));
    child.once("spawn", () => resolve(child.pid ?? 0));
  });
}
