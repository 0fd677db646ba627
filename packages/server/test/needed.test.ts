import { expect, test } from "vitest";
import { skipWithout } from "../src/testing/needed.ts";

test("skipWithout() skips nothing where all is to be run", () => {
  expect(skipWithout("nginx", "/usr/sbin/nginx", { TALLYSTICK_TEST_ALL: "1" })).toBe(false);
  expect(skipWithout("nginx", undefined, {})).toBe(true);
  expect(skipWithout("nginx", undefined, { TALLYSTICK_TEST_ALL: "" })).toBe(true);
  expect(() => skipWithout("nginx", undefined, { TALLYSTICK_TEST_ALL: "1" })).toThrow(
    "nginx is not to be had here, and TALLYSTICK_TEST_ALL is set",
  );
});
