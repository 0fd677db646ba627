/**
 * The program as its users run it: a process of its own, with the settings of the test and no others.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startEmbeddedPostgres } from "@tallystick/server/db/embedded";
import { dataFiles } from "@tallystick/server/db/embedded-cluster";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));

export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export type Settings = Readonly<Record<string, string>>;

/** A run of the program. */
export class Program {
  readonly child: ChildProcess;
  readonly ended: Promise<Result>;
  stdout = "";
  stderr = "";
  readonly #onOutput = new Set<() => void>();

  constructor(args: readonly string[], settings: Settings, cwd: string) {
    this.child = spawn(process.execPath, ["--conditions=source", MAIN, ...args], {
      cwd,
      // Tests make load, on busy machines: what they find must not depend on how much of either.
      env: {
        PATH: process.env.PATH,
        NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
        RATE_LIMIT_REQUESTS: "0",
        MAX_EVENT_LOOP_DELAY_MS: "0",
        ...settings,
      },
    });
    for (const name of ["stdout", "stderr"] as const) {
      this.child[name]!.setEncoding("utf8").on("data", (text: string) => {
        this[name] += text;
        for (const look of this.#onOutput) look();
      });
    }
    this.ended = once(this.child, "close").then(([code]) => ({
      code: code as number | null,
      stdout: this.stdout,
      stderr: this.stderr,
    }));
  }

  /** Resolves once the program has written this to stdout or stderr; fails with what it said if it ends before. */
  async said(text: string): Promise<void> {
    const heard = new Promise<void>((resolve) => {
      const look = () => {
        if ((this.stdout + this.stderr).includes(text)) resolve();
      };
      this.#onOutput.add(look);
      look();
    });
    await Promise.race([
      heard,
      this.ended.then(({ code }) => {
        if ((this.stdout + this.stderr).includes(text)) return;
        throw new Error(`ended with ${code} and never said "${text}":\n${this.stdout}${this.stderr}`);
      }),
    ]);
  }
}

const directories: string[] = [];
const programs = new Set<Program>();

/** A directory that {@link cleanUp} deletes. PostgreSQL's own user can pass through it. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tallystick-cli-"));
  directories.push(directory);
  await chmod(directory, 0o711);
  return directory;
}

export function start(args: readonly string[], settings: Settings, cwd: string): Program {
  const program = new Program(args, settings, cwd);
  programs.add(program);
  void program.ended.then(() => programs.delete(program));
  return program;
}

/** Runs the program to its end. */
export async function run(args: readonly string[], settings: Settings, cwd: string, stdin = ""): Promise<Result> {
  const program = start(args, settings, cwd);
  program.child.stdin!.end(stdin);
  return program.ended;
}

/** A line of shell, as a user pastes it. */
export async function shell(line: string, cwd: string): Promise<Result> {
  const child = spawn("/bin/sh", ["-c", line], { cwd, env: { PATH: process.env.PATH } });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

/** Ends what still runs, the PostgreSQL of servers that were killed too, and deletes all temporary directories. */
export async function cleanUp(): Promise<void> {
  await Promise.all(
    [...programs].map(async (program) => {
      program.child.kill("SIGKILL");
      await program.ended;
    }),
  );
  for (const directory of directories.splice(0)) {
    const dataDir = join(directory, "data");
    const { cluster, location } = dataFiles(dataDir);
    if (existsSync(join(cluster, "postmaster.pid")) || existsSync(location)) {
      const postgres = await startEmbeddedPostgres({ dataDir });
      await postgres.stop({ force: true });
      await rm(postgres.clusterDirectory, { recursive: true, force: true });
    }
    await rm(directory, { recursive: true, force: true });
  }
}
