/**
 * Command lines that work as pasted into a shell.
 */
import { basename } from "node:path";

/** One word of a POSIX shell's command line. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** How to run another of our commands, in the way in which this one was run. */
export function ownCommand(args: string): string {
  if (process.env.npm_lifecycle_event !== undefined) return `npm run -s tallystick -- ${args}`;
  const program = process.argv[1] ?? "";
  return basename(program) === "main.ts" ? `npm run -s tallystick -- ${args}` : `tallystick ${args}`;
}
