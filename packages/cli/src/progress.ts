/**
 * Progress of long work: one line that is written over on a terminal, a line now and then elsewhere.
 */

const TERMINAL_EVERY_MS = 100;
const PLAIN_EVERY_MS = 10_000;

/** Goes to stderr: results are alone on stdout. */
export function progressLine(stream: NodeJS.WriteStream = process.stderr, now: () => number = Date.now) {
  let lastMs = now();
  let drawn = false;
  return {
    /** Entries gone through so far, of `size`. */
    update: ({ log, checked, size }: { readonly log: string; readonly checked: number; readonly size: number }) => {
      if (now() - lastMs < (stream.isTTY ? TERMINAL_EVERY_MS : PLAIN_EVERY_MS)) return;
      lastMs = now();
      const share = size === 0 ? 100 : Math.floor((checked / size) * 100);
      const text = `${log}  ${checked} of ${size} entries, ${share} %`;
      stream.write(stream.isTTY ? `\r\x1b[2K${text}` : `${text}\n`);
      drawn = stream.isTTY;
    },
    /** Takes the line away, before anything else is printed. */
    clear: () => {
      if (drawn) stream.write("\r\x1b[2K");
      drawn = false;
    },
  };
}
