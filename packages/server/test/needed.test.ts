import { expect, test } from "vitest";
import { skipWithout } from "../src/testing/needed.ts";

test("skipWithout() skips nothing in CI", () => {
  expect(skipWithout("nginx", "/usr/sbin/nginx", { CI: "true" })).toBe(false);
  expect(skipWithout("nginx", undefined, {})).toBe(true);
  expect(skipWithout("nginx", undefined, { CI: "" })).toBe(true);
  expect(() => skipWithout("nginx", undefined, { CI: "true" })).toThrow("nginx is not to be had here, and CI is set");
});
