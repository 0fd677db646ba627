import reference from "canonicalize";
import fc from "fast-check";
import { expect, test } from "vitest";
import { canonicalize } from "../src/canonical.ts";
import { type JsonValue, parseJson } from "../src/json.ts";

const json = fc.jsonValue({ stringUnit: "binary", depthSize: "medium" }).map((value) => value as JsonValue);

test("canonicalize() writes what the reference implementation writes", () => {
  fc.assert(
    fc.property(json, (value) => {
      expect(canonicalize(value)).toBe(reference(value));
    }),
    { numRuns: 500 },
  );
});

test("canonicalize() does not depend on the order of members, and parses back", () => {
  const members = fc.uniqueArray(fc.tuple(fc.string({ unit: "binary" }), json), {
    selector: ([key]) => key,
    maxLength: 12,
  });
  fc.assert(
    fc.property(members, (entries) => {
      const forward = canonicalize(Object.fromEntries(entries) as JsonValue);
      expect(canonicalize(Object.fromEntries(entries.toReversed()) as JsonValue)).toBe(forward);
      expect(canonicalize(JSON.parse(forward))).toBe(forward);
    }),
  );
});

test("canonicalize() writes the example of RFC 8785, section 3.2.2", () => {
  const input = `{
    "numbers": [333333333.33333329, 1E15, 4.50, 2e-3, 0.000000000000000000000000001],
    "string": "\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\"\\/",
    "literals": [null, true, false]
  }`;
  expect(canonicalize(parseJson(input))).toBe(
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1000000000000000,4.5,0.002,1e-27],' +
      '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
  );
});

test("canonicalize() sorts as RFC 8785, section 3.2.3, sorts", () => {
  const value = {
    "\u20ac": "Euro Sign",
    "\r": "Carriage Return",
    "\ufb33": "Hebrew Letter Dalet With Dagesh",
    "1": "One",
    "\u{1f600}": "Emoji: Grinning Face",
    "\u0080": "Control",
    "\u00f6": "Latin Small Letter O With Diaeresis",
  };
  expect(Object.values(JSON.parse(canonicalize(value)))).toEqual([
    "One", // The one integer-like key is first in any object.
    "Carriage Return",
    "Control",
    "Latin Small Letter O With Diaeresis",
    "Euro Sign",
    "Emoji: Grinning Face",
    "Hebrew Letter Dalet With Dagesh",
  ]);
  expect(canonicalize({ 10: 1, 9: 2 })).toBe('{"10":1,"9":2}');
});

test.each([
  [0, "0"],
  [-0, "0"],
  [5e-324, "5e-324"],
  [-5e-324, "-5e-324"],
  [1.7976931348623157e308, "1.7976931348623157e+308"],
  [9007199254740992, "9007199254740992"],
  [295147905179352830000, "295147905179352830000"],
  [9.999999999999997e22, "9.999999999999997e+22"],
  [1e23, "1e+23"],
  [1.0000000000000001e23, "1.0000000000000001e+23"],
  [999999999999999700000, "999999999999999700000"],
  [1e21, "1e+21"],
  [9.999999999999997e-7, "9.999999999999997e-7"],
  [0.000001, "0.000001"],
  [333333333.3333332, "333333333.3333332"],
  [1424953923781206.2, "1424953923781206.2"],
])("canonicalize() writes the number %d of RFC 8785, appendix B", (value, text) => {
  expect(canonicalize(value)).toBe(text);
  expect(canonicalize([{ b: value, a: 0 }])).toBe(`[{"a":0,"b":${text}}]`);
});

test("canonicalize() refuses what RFC 8785 has no form for, wherever it stands", () => {
  const none = [Number.NaN, Number.POSITIVE_INFINITY, "\ud800", "a\n\udfff", undefined, () => 1, Symbol("s"), 1n];
  for (const value of none) {
    for (const place of [value, [value], { a: value }, { b: 1, a: [value] }]) {
      expect(() => canonicalize(place as JsonValue)).toThrow(TypeError);
    }
  }
  expect(() => canonicalize({ "\ud800": 1 })).toThrow(TypeError);
  expect(() => canonicalize({ "\n\ud800": 1, a: 1 })).toThrow(TypeError);
  expect(() => canonicalize(new Array(1) as JsonValue)).toThrow(TypeError);
  expect(canonicalize(["\\ud800", "\ud83d\ude00"])).toBe('["\\\\ud800","\u{1f600}"]');
});
