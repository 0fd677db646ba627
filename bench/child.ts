/**
 * Programs that run beside this one: each an operating system process of its own, ended with this one at the latest.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const running = new Set<ChildProcess>();

/** Starts a TypeScript program; what it writes goes to stderr, so that stdout holds results only. */
export function startProgram(
  path: string,
  options: { args?: readonly string[]; nodeOptions?: readonly string[]; env?: NodeJS.ProcessEnv; cwd?: string } = {},
): ChildProcess {
  const child = fork(fileURLToPath(new URL(path, import.meta.url)), [...(options.args ?? [])], {
    execArgv: ["--conditions=source", ...(options.nodeOptions ?? [])],
    env: options.env ?? process.env,
    cwd: options.cwd ?? process.cwd(),
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  return child;
}

/** The next message of a program. Throws when it ends instead. */
export async function nextMessage<T>(child: ChildProcess): Promise<T> {
  if (hasEnded(child)) throw new Error(`${child.spawnargs.join(" ")} has ended`);
  const controller = new AbortController();
  const { signal } = controller;
  try {
    return await Promise.race([
      once(child, "message", { signal }).then(([message]) => message as T),
      once(child, "exit", { signal }).then(([code, by]) => {
        throw new Error(`${child.spawnargs.join(" ")} ended (${code ?? by}) before it answered`);
      }),
    ]);
  } finally {
    controller.abort();
  }
}

/** Asks a program to end, and waits until it has. */
export async function stopProgram(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  await ended;
}

/** Ends whatever runs still: after a failure, or Ctrl-C. */
export async function stopAllPrograms(): Promise<void> {
  await Promise.all([...running].map(stopProgram));
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
