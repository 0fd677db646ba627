import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeUtf8, JsonError, parseJson, parseJsonItems, parseJsonLines } from "../src/json.ts";

// A text's syntax, duplicates and characters are covered by vectors/event/reject.json, which every SDK runs.

function errorOf(run: () => unknown): JsonError {
  try {
    run();
  } catch (error) {
    if (error instanceof JsonError) return error;
    throw error;
  }
  throw new Error("accepted");
}

/** JSON that I-JSON allows: no lone surrogates, NUL, `__proto__`, nor numbers beyond 2^53 - 1. */
const ijson = fc
  .jsonValue({ depthSize: "medium", stringUnit: "binary", maxDepth: 20 })
  .map((value) => JSON.stringify(value))
  .filter((text) => !text.includes("\\u0000") && !text.includes("__proto__") && !/e\+|\d{16}/.test(text));

describe("parseJson()", () => {
  test("reads what JSON.parse reads", () => {
    fc.assert(
      fc.property(ijson, (text) => {
        expect(JSON.stringify(parseJson(text))).toBe(JSON.stringify(JSON.parse(text)));
      }),
    );
  });

  test("reads indented and escaped texts like JSON.parse", () => {
    fc.assert(
      fc.property(ijson, fc.constantFrom(" ", "\t", " \r\n "), (text, indent) => {
        const spaced = JSON.stringify(JSON.parse(text), null, indent);
        const escaped = spaced.replaceAll(/[^\0-\x7f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
        expect(JSON.stringify(parseJson(escaped))).toBe(JSON.stringify(JSON.parse(text)));
      }),
    );
  });

  test("refuses what JSON.parse refuses, whatever is done to a text", () => {
    const edit = fc.tuple(
      fc.nat(),
      fc.constantFrom("", ",", ":", '"', "{", "}", "[", "]", "0", "-", ".", "e", "\\", "t", " "),
    );
    fc.assert(
      fc.property(ijson, edit, (text, [at, insert]) => {
        const i = at % (text.length + 1);
        for (const edited of [
          text.slice(0, i) + insert + text.slice(i),
          text.slice(0, i) + insert + text.slice(i + 1),
        ]) {
          const accepted = attempt(() => JSON.parse(edited));
          const ours = attempt(() => parseJson(edited));
          if (ours.ok) expect(JSON.stringify(ours.value)).toBe(JSON.stringify(accepted.value));
          else if (accepted.ok) expect((ours.error as JsonError).code).not.toBe("syntax");
          else expect(ours.error).toBeInstanceOf(JsonError);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("makes plain objects that inherit nothing from their text", () => {
    const value = parseJson('{"constructor":{"prototype":{"polluted":true}},"toString":1}');
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  test("takes maxDepth, and refuses a million brackets without recursion", () => {
    expect(parseJson("[[]]", { maxDepth: 2 })).toEqual([[]]);
    expect(errorOf(() => parseJson("[[]]", { maxDepth: 1 }))).toMatchObject({ code: "depth", path: "/0", position: 1 });
    expect(errorOf(() => parseJson("[".repeat(1e6))).code).toBe("depth");
  });

  test("refuses raw lone surrogates", () => {
    expect(errorOf(() => parseJson('{"a":["\ud800"]}'))).toMatchObject({ code: "lone_surrogate", path: "/a/0" });
    expect(parseJson('"\ud83d\ude00"')).toBe("\u{1f600}");
    expect(errorOf(() => parseJson('"\\ud83d"')).code).toBe("lone_surrogate");
    expect(parseJson('"\\ud83d\\ude00"')).toBe("\u{1f600}");
  });

  test("says where a text stops being JSON", () => {
    expect(errorOf(() => parseJson('{"a": [1, x]}'))).toMatchObject({ code: "syntax", path: "/a/1", position: 10 });
    expect(errorOf(() => parseJson('{"a": 1')).message).toBe("not JSON: the text ends too early");
    expect(errorOf(() => parseJson("\ufeff{}")).message).toContain("byte order mark");
  });
});

describe("parseJsonItems()", () => {
  test("reads an array, bare or in events", () => {
    const items = [{ value: { a: 1 } }, { value: 2 }];
    expect(parseJsonItems('[{"a":1},2]')).toEqual({ items, at: "" });
    expect(parseJsonItems(' { "events" : [ {"a":1} , 2 ] } ')).toEqual({ items, at: "/events" });
    expect(parseJsonItems("[]")).toEqual({ items: [], at: "" });
    expect(parseJsonItems('{"events":[]}')).toEqual({ items: [], at: "/events" });
  });

  test.each([
    ["duplicate_key", '{"a":{"b":1,"b":[{}, "]"]}}', "/a/b"],
    ["proto_key", '{"__proto__":"\\"]"}', "/__proto__"],
    ["lone_surrogate", '"\\ud800"', ""],
    ["nul_character", '["\\u0000"]', "/0"],
    ["number_range", "1e400", ""],
    ["depth", `${"[".repeat(33)}${"]".repeat(33)}`, "/0".repeat(32)],
    ["depth", `${"[".repeat(1e5)}${"]".repeat(1e5)}`, "/0".repeat(32)],
  ])("%s is the item's error alone, at a path of the item", (code, bad, path) => {
    for (const body of [`[{"a":1},${bad},2]`, `{"events":[{"a":1}, ${bad} ,2]}`]) {
      const { items } = parseJsonItems(body);
      expect(items).toMatchObject([{ value: { a: 1 } }, { error: { code, path } }, { value: 2 }]);
    }
  });

  test("gives each item its own depth", () => {
    const deepest = `${"[".repeat(32)}${"]".repeat(32)}`;
    expect(parseJsonItems(`{"events":[${deepest}]}`).items).toHaveLength(1);
    expect("value" in parseJsonItems(`{"events":[${deepest}]}`).items[0]!).toBe(true);
  });

  test("a syntax error fails the body, even after an item's own error", () => {
    for (const body of [
      "",
      "[",
      "[1",
      "[1,]",
      "[1 2]",
      "[1]]",
      '{"events":[1]',
      '{"events" [1]}',
      "{events:[]}",
      "{x",
      "nul",
      '[{"a":1,"a":1,}]',
      '[{"a":1,"a"}]',
      '[["\\u0000",],1]',
      '{"events":[1],',
    ]) {
      expect(errorOf(() => parseJsonItems(body)).code, body).toMatch(
        body === '{"events":[1],' ? "not_items" : "syntax",
      );
    }
  });

  test("a syntax error's path is the body's", () => {
    expect(errorOf(() => parseJsonItems('{"events":[1,{"a":x}]}'))).toMatchObject({
      path: "/events/1/a",
      position: 18,
    });
    expect(errorOf(() => parseJsonItems('[1,{"a":1,"a":2,}]'))).toMatchObject({ path: "/1", position: 3 });
  });

  test("another shape is refused", () => {
    for (const body of [
      "{}",
      "1",
      '"x"',
      "null",
      '{"event":[]}',
      '{"events":{}}',
      '{"events":[],"x":1}',
      '{"x":1,"events":[]}',
    ]) {
      expect(errorOf(() => parseJsonItems(body)).code, body).toBe("not_items");
    }
  });

  test("maxItems stops at the item after the last", () => {
    expect(parseJsonItems("[1,2]", { maxItems: 2 }).items).toHaveLength(2);
    expect(errorOf(() => parseJsonItems("[1,2,3]", { maxItems: 2 }))).toMatchObject({
      code: "too_many_items",
      position: 5,
    });
  });

  test("gives each item what parseJson gives it", () => {
    const item = fc.oneof(ijson, fc.constantFrom('{"a":1,"a":2}', '["\\ud800"]', "1e999", '{"b":{"__proto__":[]}}'));
    fc.assert(
      fc.property(fc.array(item), (texts) => {
        const { items } = parseJsonItems(`{"events":[${texts.join(", ")}]}`);
        const alone = texts.map((text) => attempt(() => parseJson(text)));
        expect(items).toHaveLength(texts.length);
        for (const [i, item] of items.entries()) {
          if ("value" in item) expect(JSON.stringify(item.value)).toBe(JSON.stringify(alone[i]!.value));
          else expect(item.error).toMatchObject({ code: alone[i]!.error!.code, path: alone[i]!.error!.path });
        }
      }),
    );
  });
});

describe("parseJsonLines()", () => {
  test("reads a value a line and skips blank ones; a line's error is its own, at its place in the body", () => {
    const items = parseJsonLines('{"a":1}\r\n\n  \n[1\n{"a":1,"a":1}\n2');
    expect(items).toMatchObject([
      { value: { a: 1 } },
      { error: { code: "syntax", position: 15 } },
      { error: { code: "duplicate_key", position: 23 } },
      { value: 2 },
    ]);
    expect(parseJsonLines("")).toEqual([]);
    expect(errorOf(() => parseJsonLines("1\n2\n3", { maxItems: 2 })).code).toBe("too_many_items");
  });
});

describe("decodeUtf8()", () => {
  test("gives back what was encoded", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(decodeUtf8(new TextEncoder().encode(text))).toBe(text.toWellFormed());
      }),
    );
  });

  test.each([
    ["a byte that begins nothing", [0x61, 0xff], 1],
    ["a continuation alone", [0xc3, 0xa9, 0x80], 2],
    ["an overlong form", [0x61, 0xc0, 0x80], 1],
    ["a surrogate", [0xed, 0xa0, 0x80], 0],
    ["a sequence cut at the end", [0x61, 0xe2, 0x82], 1],
    ["a sequence cut by another", [0x61, 0x62, 0xe2, 0x82, 0x61], 2],
  ])("refuses %s", (_, bytes, position) => {
    expect(errorOf(() => decodeUtf8(Uint8Array.from(bytes)))).toMatchObject({ code: "invalid_utf8", position });
  });

  test("keeps a byte order mark, which parseJson refuses", () => {
    expect(decodeUtf8(Uint8Array.of(0xef, 0xbb, 0xbf, 0x31))).toBe("\ufeff1");
  });
});

function attempt(run: () => unknown): { ok: boolean; value?: unknown; error?: JsonError } {
  try {
    return { ok: true, value: run() };
  } catch (error) {
    return { ok: false, error: error as JsonError };
  }
}
