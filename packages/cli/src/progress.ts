/**
 * Progress of long work: one line that is written over on a terminal, a line now and then elsewhere.
 */

const TERMINAL_EVERY_MS = 100;
const PLAIN_EVERY_MS = 10_000;

/** Goes to stderr: results are alone on stdout. */
export function progressLine(stream: NodeJS.WriteStream = process.stderr, now: () => number = Date.now) {
  let lastMs = now();
  let drawn = false;
  const say = (text: () => string) => {
    if (now() - lastMs < (stream.isTTY ? TERMINAL_EVERY_MS : PLAIN_EVERY_MS)) return;
    lastMs = now();
    stream.write(stream.isTTY ? `\r\x1b[2K${text()}` : `${text()}\n`);
    drawn = stream.isTTY;
  };
  return {
    /** Any words; asked for only when it is time for them. */
    say,
    /** Entries gone through so far, of `size`. */
    update: ({ log, checked, size }: { readonly log: string; readonly checked: number; readonly size: number }) =>
      say(() => `${log}  ${checked} of ${size} entries, ${size === 0 ? 100 : Math.floor((checked / size) * 100)} %`),
    /** Takes the line away, before anything else is printed. */
    clear: () => {
      if (drawn) stream.write("\r\x1b[2K");
      drawn = false;
    },
  };
}
