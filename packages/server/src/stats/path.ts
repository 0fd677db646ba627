/**
 * Paths to members of JSON values, as people write them.
 */

/**
 * The keys of a path such as `address.city` or `"a.b".c`; in quotes, a backslash takes the next character as it is. Undefined for what is
 * no path.
 */
export function parsePath(text: string): string[] | undefined {
  const keys: string[] = [];
  const key = /(?:"((?:[^"\\]|\\.)*)"|([^."]+))(\.|$)/sy;
  for (let ended = false; !ended; ) {
    const match = key.exec(text);
    if (match === null) return undefined;
    const [, quoted, plain, dot] = match;
    keys.push(plain ?? quoted!.replace(/\\(.)/gs, "$1"));
    ended = dot === "";
  }
  return keys;
}
