import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toHex } from "../src/hex.ts";
import * as node from "../src/sha256.node.ts";
import * as portable from "../src/sha256.ts";

const implementations: [string, typeof portable][] = [
  ["sha256.node.ts", node],
  ["sha256.ts", portable],
];

describe.each(implementations)("%s", (_, { sha256, sha256Hex }) => {
  test("sha256() gives the digests of FIPS 180-4", () => {
    expect(toHex(sha256(""))).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect(toHex(sha256("abc"))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });

  test("sha256() agrees with createHash on any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(toHex(sha256(bytes))).toBe(createHash("sha256").update(bytes).digest("hex"));
        expect(sha256Hex(bytes)).toBe(toHex(sha256(bytes)));
      }),
    );
  });

  test("sha256() takes a string as its UTF-8, lone surrogates as U+FFFD", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(sha256(text)).toEqual(sha256(new TextEncoder().encode(text)));
        expect(sha256Hex(text)).toBe(toHex(sha256(text)));
      }),
    );
    expect(sha256("\ud800")).toEqual(sha256("\ufffd"));
  });

  test("sha256() returns plain bytes of its own each time", () => {
    const first = sha256("a");
    const kept = toHex(first);
    sha256("b");
    expect(toHex(first)).toBe(kept);
    expect(Object.getPrototypeOf(first)).toBe(Uint8Array.prototype);
    expect(first.buffer.byteLength).toBe(32);
  });
});
