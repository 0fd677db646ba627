import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { canonicalize } from "../src/canonical.ts";
import { EventError, parseEvent } from "../src/event.ts";
import { JsonError, parseJson } from "../src/json.ts";

type Accepted = { name: string; input: string; canonical: string; tenant?: string };
type Rejected = { name: string; input: string; code: string; paths?: string[] };

function vectors<T>(file: string): T[] {
  return JSON.parse(readFileSync(new URL(`../../../vectors/event/${file}`, import.meta.url), "utf8"));
}

describe("vectors/event/accept.json", () => {
  test.each(vectors<Accepted>("accept.json"))("$name", ({ input, canonical, tenant }) => {
    const parsed = parseEvent(parseJson(input));
    expect(canonicalize(parsed.event)).toBe(canonical);
    expect(parsed.tenant).toBe(tenant);
    // What is canonical is accepted again, and is its own canonical form.
    const again = parseEvent(parseJson(canonical));
    expect(canonicalize(again.event)).toBe(canonical);
    expect(JSON.stringify(again)).toBe(JSON.stringify({ event: again.event }));
  });
});

describe("vectors/event/reject.json", () => {
  test.each(vectors<Rejected>("reject.json"))("$name", ({ input, code, paths }) => {
    const found = refusal(input);
    expect(found.code).toBe(code);
    if (paths !== undefined) expect(found.paths.sort()).toEqual(paths);
  });
});

function refusal(input: string): { code: string; paths: string[] } {
  try {
    parseEvent(parseJson(input));
  } catch (error) {
    if (error instanceof JsonError) return { code: error.code, paths: [error.path] };
    if (error instanceof EventError) return { code: error.code, paths: error.errors.map(({ path }) => path) };
    throw error;
  }
  throw new Error(`accepted: ${input}`);
}
