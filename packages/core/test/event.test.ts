import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalize } from "../src/canonical.ts";
import { EventError, isReserved, parseEvent } from "../src/event.ts";
import { type JsonObject, type JsonValue, parseJson } from "../src/json.ts";
import { utf8Length } from "../src/utf8.ts";

// Each rule and spelling has its vector in vectors/event; here are laws over all of them, and the messages.

function problems(input: JsonValue): string[] {
  try {
    parseEvent(input);
  } catch (error) {
    if (error instanceof EventError) return error.errors.map(({ path, message }) => `${path} ${message}`);
    throw error;
  }
  return [];
}

const base = { action: "a.b", actor: { id: "u" } };

const text = fc.string({ minLength: 1, maxLength: 20 });
const free = fc
  .jsonValue({ maxDepth: 4 })
  .map((value) => value as JsonValue)
  .filter((value) => !/__proto__|\\u0000|\d{16}|e\+/.test(JSON.stringify(value)));

/** Flat fields, and the canonical place that each means. */
const FLAT: Record<string, string[]> = {
  user_id: ["actor", "id"],
  actor_email: ["actor", "email"],
  resource_type: ["resource", "type"],
  resource_id: ["resource", "id"],
  details: ["metadata"],
  before_state: ["changes", "before"],
  after_state: ["changes", "after"],
  request_id: ["context", "request_id"],
  session_id: ["context", "session_id"],
  user_agent: ["context", "user_agent"],
  event_type: ["event_type"],
  service_id: ["service_id"],
};

const flatEvent = fc.record(
  {
    user_id: text,
    actor_email: text,
    resource_type: text,
    resource_id: text,
    details: fc.dictionary(text, free).filter((value) => !("__proto__" in value && Object.hasOwn(value, "__proto__"))),
    before_state: free,
    after_state: free,
    request_id: text,
    session_id: text,
    user_agent: text,
    event_type: text,
    service_id: text.filter((name) => !isReserved(name)),
  },
  { requiredKeys: ["user_id", "resource_type"], noNullPrototype: true },
) as fc.Arbitrary<JsonObject>;

const camelCase = (name: string) => name.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase());

describe("parseEvent()", () => {
  test("makes one event of flat fields, of their twins in camelCase, and of the canonical form", () => {
    fc.assert(
      fc.property(flatEvent, fc.infiniteStream(fc.boolean()), (flat, coin) => {
        const mixed: JsonObject = { action: "a.b" };
        const canonical: JsonObject = { action: "a.b" };
        for (const [name, value] of Object.entries(flat)) {
          mixed[coin.next().value ? camelCase(name) : name] = value;
          const [parent, member] = FLAT[name]!;
          if (member === undefined) canonical[parent!] = value;
          else canonical[parent!] = { ...(canonical[parent!] as JsonObject | undefined), [member]: value };
        }
        expect(Object.keys(parseEvent(mixed))).toEqual(["event"]);
        expect(canonicalize(parseEvent(mixed).event)).toBe(canonicalize(canonical));
        expect(canonicalize(parseEvent(canonical).event)).toBe(canonicalize(canonical));
      }),
    );
  });

  test("does not change its input, and gives members in the order of RFC 8785", () => {
    fc.assert(
      fc.property(flatEvent, (flat) => {
        const input = { action: "a.b", context: { traceId: "t" }, ...flat };
        const before = JSON.stringify(input);
        const { event } = parseEvent(input);
        expect(JSON.stringify(input)).toBe(before);
        // Integer-like keys come first in any JavaScript object.
        if (!/"\d+":/.test(before)) expect(JSON.stringify(event)).toBe(canonicalize(event));
      }),
    );
  });

  test("gives an event or says what is wrong, whatever JSON it is given", () => {
    const names = [
      "action",
      "actor",
      "actor_id",
      "resource",
      "context",
      "related",
      "changes",
      "sequence",
      "attachments",
      "metadata",
      "ip",
      "timestamp",
      "tenant_id",
    ];
    const anything = fc.dictionary(
      fc.constantFrom(...names),
      fc.oneof(free, text, fc.record({ id: free, type: free })),
    );
    fc.assert(
      fc.property(anything, (value) => {
        const input = parseJson(JSON.stringify(value));
        for (const problem of problems(input)) expect(problem).toMatch(/^\/.* (is|must|begins|disagrees) /s);
      }),
      { numRuns: 500 },
    );
  });

  test("says what would be right", () => {
    expect(problems({ ...base, acton: 1 })).toEqual(["/acton is not a field of an event: did you mean action?"]);
    expect(problems({ ...base, IpAddres: 1 })).toEqual([
      "/IpAddres is not a field of an event: did you mean ip_address?",
    ]);
    expect(problems({ ...base, zebra: 1 })).toEqual([
      "/zebra is not a field of an event: what is your own goes into metadata or attributes",
    ]);
    expect(problems({ ...base, severity: "warn" })).toEqual([
      "/severity must be one of INFO, WARNING, ERROR, CRITICAL",
    ]);
    expect(problems({ ...base, outcome: "Failure" })).toEqual([
      "/outcome must be one of success, failure, denied; did you mean failure?",
    ]);
    expect(problems({ ...base, reason: null })).toEqual(["/reason must not be null: leave the field out"]);
    expect(problems({ ...base, actor: { id: 42 } })).toEqual([
      '/actor/id must be a string of 1 to 256 bytes of UTF-8: send "42"',
    ]);
    expect(problems({ ...base, actor: { id: "é".repeat(129) } })).toEqual([
      "/actor/id must be a string of 1 to 256 bytes of UTF-8; it has 258",
    ]);
    expect(problems({ ...base, user_id: "v" })).toEqual([
      "/user_id disagrees with /actor/id, which means the same field: send one of them",
    ]);
    expect(problems({ action: "a", user_id: "u", userId: "v" })).toEqual([
      "/userId disagrees with /user_id, which means the same field: send one of them",
    ]);
    expect(problems([])).toEqual([" must be a JSON object"]);
  });

  test("names what is wrong once, where one value stands in two places", () => {
    expect(problems({ actor: "u", event_type: "" })).toEqual([
      "/event_type must be a string of 1 to 128 bytes of UTF-8; it is empty",
    ]);
  });

  test("names a hundred problems at most", () => {
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`field${i}`, i]));
    expect(problems({ ...base, ...many })).toHaveLength(100);
  });

  test("counts depth where a value stands in the event, not where it was sent", () => {
    const nested = (depth: number): JsonValue => (depth === 0 ? 1 : [nested(depth - 1)]);
    expect(problems({ ...base, before_state: nested(30) })).toEqual([]);
    expect(problems({ ...base, before_state: nested(31) })).toEqual([
      `/before_state${"/0".repeat(30)} is nested deeper than 32 objects and arrays`,
    ]);
  });
});

test("utf8Length() counts what TextEncoder makes", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (value) => {
      const wellFormed = value.toWellFormed();
      expect(utf8Length(wellFormed)).toBe(new TextEncoder().encode(wellFormed).length);
    }),
  );
});
