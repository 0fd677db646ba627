import { DEFAULT_MASKED_KEYS } from "@tallystick/core/masking";
import { type Parser, Refused } from "./parse.ts";

const KEY = /^[a-z0-9][a-z0-9._-]{0,63}$/i;

/** A list of keys, separated by commas; behind a `+`, beside those of the default. `none` is no key at all. */
export const maskedKeys: Parser<readonly string[]> = (text) => {
  if (text.trim().toLowerCase() === "none") return [];
  const adds = text.startsWith("+");
  const keys = (adds ? text.slice(1) : text).split(",").map((key) => key.trim());
  const wrong = keys.find((key) => !KEY.test(key));
  if (wrong !== undefined) {
    const example = "such as password,token or +pin,ssn";
    throw new Refused(
      `must be keys separated by commas, ${example}: ${JSON.stringify(wrong)} is not 1 to 64 of A-Z a-z 0-9 . _ -`,
    );
  }
  return adds ? [...DEFAULT_MASKED_KEYS, ...keys] : keys;
};
