import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type FilterError, filterOf } from "../src/filter-parameters.ts";
import { addressesIn, isInRange, parseIpRange } from "../src/ip-range.ts";
import { parseQuery } from "../src/query.ts";
import { wordsOf } from "../src/words.ts";

/** What is said of a query that is refused. */
function refusalOf(query: string): string {
  const said: string[] = [];
  parseQuery(query, (message) => said.push(message));
  expect(said, query).toHaveLength(1);
  return said[0]!;
}

function parsed(query: string) {
  return parseQuery(query, (message) => expect.fail(`${query}: ${message}`));
}

describe("parseQuery()", () => {
  test("reads the query of the documentation", () => {
    const query =
      'actor:alice -action:hook.* resource:order:o-17 outcome:failure created:2026-01-01..2026-01-31 ip:10.0.0.0/8 metadata.plan:gold on_behalf_of:u-9 "exact words"';
    const exact = (value: string) => ({ kind: "exact", value });
    expect(parsed(query)).toEqual({
      clauses: [
        { field: "actor", negated: false, anyOf: [exact("alice")] },
        { field: "action", negated: true, anyOf: [{ kind: "pattern", parts: ["hook.", ""] }] },
        { field: "resource", negated: false, anyOf: [{ type: exact("order"), id: exact("o-17") }] },
        { field: "outcome", negated: false, anyOf: [exact("failure")] },
        { field: "ip", negated: false, anyOf: [{ base: "10.0.0.0", bits: 8 }] },
        { field: "metadata", path: ["plan"], negated: false, anyOf: [exact("gold")] },
        { field: "on_behalf_of", negated: false, anyOf: [exact("u-9")] },
        { field: "text", negated: false, anyOf: [{ words: ["exact", "words"], prefix: false }] },
      ],
      from: "2026-01-01T00:00:00.000000Z",
      to: "2026-02-01T00:00:00.000000Z",
    });
  });

  test("means any of several values, whether they stand together or apart", () => {
    expect(parsed("actor:a,b")).toEqual(parsed("actor:a actor:b"));
    expect(parsed("metadata.x:1 metadata.y:1").clauses).toHaveLength(2);
    expect(parsed("-actor:a -actor:b").clauses).toHaveLength(2);
    expect(parsed("gold silver").clauses).toHaveLength(2);
  });

  test("takes quoted text as it is", () => {
    expect(parsed('action:"a*b, \\"c\\" \\\\"').clauses).toEqual([
      { field: "action", negated: false, anyOf: [{ kind: "exact", value: 'a*b, "c" \\' }] },
    ]);
    expect(parsed('metadata."a.b".c:""').clauses).toEqual([
      { field: "metadata", path: ["a.b", "c"], negated: false, anyOf: [{ kind: "exact", value: "" }] },
    ]);
  });

  test("bounds the search by times that must hold, and by all of them", () => {
    expect(parsed("created:>2026-01-01 created:<=2026-01-02T00:00:00Z")).toMatchObject({
      clauses: [],
      from: "2026-01-02T00:00:00.000000Z",
      to: "2026-01-02T00:00:00.000001Z",
    });
    expect(parsed("created:2026-01-31")).toMatchObject({
      from: "2026-01-31T00:00:00.000000Z",
      to: "2026-02-01T00:00:00.000000Z",
    });
    expect(parsed("occurred:..9999-12-31").occurredTo).toBe("9999-12-31T23:59:59.999999Z");
    expect(parsed("occurred:1969-12-31T23:59:59.999999Z").occurredTo).toBe("1970-01-01T00:00:00.000000Z");
  });

  test.each([
    ["actor:", 'character 7: expected a value of actor; an empty one is written ""'],
    ["actor:a,", 'character 9: expected a value of actor; an empty one is written ""'],
    ["a foo:b", /^character 3: "foo" is no field; expected one of actor, .*quotes around/],
    ['ok "open', 'character 4: expected a closing " to this opening one'],
    ['"open\\', 'character 1: expected a closing " to this opening one'],
    ["-", "character 2: expected a field or a word behind -"],
    ["- a", "character 2: expected a field or a word behind -"],
    ["*x", /^character 1: expected a word that has \* at its end only/],
    ["a*b", /^character 1: expected a word that has \* at its end only/],
    ["!!", "character 1: expected a letter or a digit to search for, not !!"],
    ["action:*", "character 8: expected some text beside *"],
    ["outcome:success,maybe", /^character 17: expected a value of outcome: one of success, failure, denied/],
    [
      "ip:10.0.0.1/8",
      /^character 4: expected an IPv4 or IPv6 address, or a range .* with no bits set behind its prefix/,
    ],
    ["created:2026-02-30", /^character 9: expected an RFC 3339 time/],
    ["created:2026-02-02..2026-02-01", "character 9: expected a range that ends behind its beginning"],
    ["created:..", /^character 9: expected an RFC 3339 time/],
    ["metadata:x", "character 1: expected a path behind metadata, as in metadata.plan:gold"],
    ["metadata.:x", "character 10: expected a key behind the dot"],
    ["metadata.plan", "character 14: expected a colon and a value behind the path"],
    ["resource:order:", "character 16: expected an id behind the colon"],
    ["resource:o*:1", "character 10: expected a type without * before the colon"],
    [Array.from({ length: 51 }, () => "a").join(" "), "character 101: expected the end: a query has at most 50 terms"],
    [`actor:${"a,".repeat(100)}a`, "character 207: expected a space: a field has at most 100 values"],
    [`metadata${".a".repeat(33)}:x`, "character 74: expected a colon: a path has at most 32 keys"],
    ["x".repeat(4_097), "must have at most 4096 characters, not 4097"],
  ])("refuses %j by its place", (query, message) => {
    if (typeof message === "string") expect(refusalOf(query)).toBe(message);
    else expect(refusalOf(query)).toMatch(message);
  });

  test("either understands a text or says why not, whatever it is", () => {
    const piece = fc.oneof(
      fc.constantFrom("actor:", "metadata.", "created:", "ip:", "-", '"', "*", ",", ":", "..", " ", "\\", "10.0.0.0/8"),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        const said: string[] = [];
        parseQuery(pieces.join(""), (message) => said.push(message));
        for (const message of said) expect(message).toMatch(/^character \d+: /);
      }),
      { numRuns: 2_000 },
    );
  });
});

test("filterOf() names every parameter that is wrong, and joins a query with the parameters beside it", () => {
  const errors: FilterError[] = [];
  filterOf(
    { ip: ["x", "10.0.0.1"], outcome: "maybe", q: "actor:", from: ["2026-01-01", "2026-01-02"], what: "x" },
    errors,
  );
  expect(errors.map(({ path, code }) => `${path} ${code}`)).toEqual([
    "outcome invalid",
    "ip invalid",
    "from invalid",
    "q invalid",
    "what unknown",
  ]);
  const empty: FilterError[] = [];
  filterOf(
    {
      from: "2026-02-01",
      to: "2026-01-01",
      occurred_from: "2026-01-02T00:00:01Z",
      occurred_to: "2026-01-02T00:00:00Z",
    },
    empty,
  );
  expect(empty.map(({ path }) => path)).toEqual(["to", "occurred_to"]);
  const none: FilterError[] = [];
  const { from, to, clauses } = filterOf(
    { from: "2026-01-02", to: "2026-01-31", q: "created:2026-01-01..2026-01-15 actor:a" },
    none,
  );
  expect(none).toEqual([]);
  expect([from, to]).toEqual(["2026-01-02T00:00:00.000000Z", "2026-01-16T00:00:00.000000Z"]);
  expect(clauses).toHaveLength(1);
});

describe("ranges of addresses", () => {
  test("hold just the addresses that begin like them", () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.ipV4(), fc.integer({ min: 0, max: 32 }), (a, b, bits) => {
        const number = (text: string) => text.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
        const base = bits === 0 ? 0 : Math.floor(number(a) / 2 ** (32 - bits)) * 2 ** (32 - bits);
        const text = [24, 16, 8, 0].map((shift) => Math.floor(base / 2 ** shift) % 256).join(".");
        const range = parseIpRange(`${text}/${bits}`)!;
        expect(isInRange(b, range)).toBe(number(b) >= base && number(b) < base + 2 ** (32 - bits));
        expect(isInRange(a, range)).toBe(true);
      }),
    );
  });

  test("are their addresses, where those are few", () => {
    expect(addressesIn(parseIpRange("192.0.2.252/30")!, 4)).toEqual([
      "192.0.2.252",
      "192.0.2.253",
      "192.0.2.254",
      "192.0.2.255",
    ]);
    expect(addressesIn(parseIpRange("2001:db8::/127")!, 64)).toEqual(["2001:db8::", "2001:db8::1"]);
    expect(addressesIn(parseIpRange("10.0.0.0/25")!, 64)).toBeUndefined();
    expect(addressesIn(parseIpRange("::/0")!, 64)).toBeUndefined();
  });

  test("are read in one form", () => {
    expect(parseIpRange("2001:DB8::/32")).toEqual({ base: "2001:db8::", bits: 32 });
    expect(parseIpRange("::ffff:10.0.0.0/104")).toEqual({ base: "10.0.0.0", bits: 8 });
    expect(parseIpRange("192.0.2.1")).toEqual({ base: "192.0.2.1", bits: 32 });
    for (const text of ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "10.0.0.0/8/8", "/8", "10.0.0.0/-1", "::1/64"]) {
      expect(parseIpRange(text), text).toBeUndefined();
    }
  });
});

test("wordsOf() takes text apart in one way, whatever its script and case", () => {
  expect(wordsOf("Order-17: in_progress!")).toEqual(["order", "17", "in", "progress"]);
  expect(wordsOf("ＡＢＣ ﬁne NAÏVE Straße")).toEqual(["abc", "fine", "naïve", "straße"]);
  expect(wordsOf("東京タワー2")).toEqual(["東", "京", "タ", "ワ", "ー", "2"]);
  expect(wordsOf("한국어 тест")).toEqual(["한국어", "тест"]);
  expect(wordsOf("สวัสดี").length).toBeGreaterThan(3);
  expect(wordsOf("!?")).toEqual([]);
});
