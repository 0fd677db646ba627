/**
 * Programs of others that some tests need.
 */

/**
 * Whether to skip the tests that need what this machine has not. In CI nothing is skipped: there it would be skipped for ever.
 * @throws where `CI` is set.
 */
export function skipWithout(what: string, found: unknown, { CI = "" } = process.env): boolean {
  if (found) return false;
  if (CI !== "" && CI !== "false") throw new Error(`${what} is not to be had here, and CI is set: install it`);
  console.warn(`${what} is not to be had here: the tests that need it are skipped`);
  return true;
}
