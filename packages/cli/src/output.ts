/**
 * What commands print: results on stdout, everything that is about the work on stderr.
 */

/** A result. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** A result for programs. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** Progress, a note: never part of a result. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}
