import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { EmbeddedPostgresError, systemCode } from "./embedded-error.ts";

/** The operating-system user that PostgreSQL runs as. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

export interface ProgramResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** PostgreSQL and its tools get this and nothing of ours: the server's environment may hold keys and tokens. */
export const PROGRAM_ENV = { PATH: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL: "C", TZ: "UTC" } as const;

/** `_postgres` is macOS's. `nobody` exists everywhere; initdb only asks that the user has a name. */
const CANDIDATES = ["postgres", "_postgres", "nobody"];

export function runningAsRoot(): boolean {
  return process.getuid?.() === 0;
}

/**
 * Runs a program to its end, as `account` where given, from `/` (its own directory need not be ours to enter).
 * A program that cannot be started, or that a signal ended, has `code` 127.
 */
export function runProgram(file: string, args: readonly string[], account?: Account): Promise<ProgramResult> {
  const identity = account === undefined ? {} : spawnIdentity(account);
  return new Promise((resolve) => {
    execFile(file, args, { cwd: "/", env: PROGRAM_ENV, ...identity }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : 127;
      resolve({ code, stdout, stderr: error !== null && code === 127 ? `${stderr}${error.message}` : stderr });
    });
  });
}

/** Options of `spawn` for an account. macOS's `nobody` is 4294967294, which `spawn` takes as -2 only. */
export function spawnIdentity(account: Account): { uid: number; gid: number } {
  return { uid: account.uid | 0, gid: account.gid | 0 };
}

/** Whether the account can enter the directory and write in it, asked of the kernel (modes alone miss ACLs). */
export async function canWriteIn(directory: string, account: Account): Promise<boolean> {
  const { code } = await runProgram("/bin/sh", ["-c", 'cd "$1" && test -w .', "sh", directory], account);
  return code === 0;
}

/**
 * The account that root hands PostgreSQL to: PostgreSQL refuses to run as root.
 * Throws `no_account` when the system has none of the usual ones.
 */
export async function unprivilegedAccount(): Promise<Account> {
  for (const name of CANDIDATES) {
    const account = process.platform === "linux" ? await fromPasswd(name) : await fromId(name);
    if (account !== undefined && account.uid !== 0) return account;
  }
  throw new EmbeddedPostgresError(
    "no_account",
    `PostgreSQL refuses to run as root, and none of the users ${CANDIDATES.join(", ")} exists to run it as. ` +
      "Start as an ordinary user, add one of them (useradd --system postgres), or set DATABASE_URL to a PostgreSQL of your own.",
  );
}

/** The account that owns existing data; its name is only known if /etc/passwd has it. */
export function ownerAccount(uid: number, gid: number): Account {
  return { name: `uid ${uid}`, uid, gid };
}

async function fromPasswd(name: string): Promise<Account | undefined> {
  const passwd = await readFile("/etc/passwd", "utf8").catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return "";
    throw error;
  });
  for (const line of passwd.split("\n")) {
    const [user, , uid, gid] = line.split(":");
    if (user === name && uid !== undefined && gid !== undefined) return { name, uid: Number(uid), gid: Number(gid) };
  }
  return undefined;
}

async function fromId(name: string): Promise<Account | undefined> {
  const [uid, gid] = await Promise.all([
    runProgram("/usr/bin/id", ["-u", name]),
    runProgram("/usr/bin/id", ["-g", name]),
  ]);
  if (uid.code !== 0 || gid.code !== 0) return undefined;
  // `>>> 0`: chown and stat speak of 4294967294 where `id` may print -2.
  return { name, uid: Number(uid.stdout) >>> 0, gid: Number(gid.stdout) >>> 0 };
}
