/**
 * Programs of others that some tests need.
 */

/**
 * Whether to skip the tests that need what this machine has not. The project's own CI sets TALLYSTICK_TEST_ALL, so that nothing is
 * skipped there for ever; a machine that cannot get them runs all the others.
 * @throws where `TALLYSTICK_TEST_ALL` is set.
 */
export function skipWithout(what: string, found: unknown, { TALLYSTICK_TEST_ALL = "" } = process.env): boolean {
  if (found) return false;
  if (TALLYSTICK_TEST_ALL !== "")
    throw new Error(`${what} is not to be had here, and TALLYSTICK_TEST_ALL is set: install it`);
  console.warn(`${what} is not to be had here: the tests that need it are skipped`);
  return true;
}
