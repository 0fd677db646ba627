import fc from "fast-check";
import { expect, test } from "vitest";
import { fromBase64, toBase64 } from "../src/base64.ts";
import { fromHex, toHex } from "../src/hex.ts";

test("hex and base64 agree with Buffer and round trip", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      expect(toHex(bytes)).toBe(Buffer.from(bytes).toString("hex"));
      expect(toBase64(bytes)).toBe(Buffer.from(bytes).toString("base64"));
      expect(fromHex(toHex(bytes))).toEqual(bytes);
      expect(fromBase64(toBase64(bytes))).toEqual(bytes);
    }),
  );
  const large = new Uint8Array(100_000).fill(7);
  expect(fromBase64(toBase64(large))).toEqual(large);
});

test.each(["0", "0G", "AB", "0x", " 00", "00\n"])("fromHex(%j) throws", (text) => {
  expect(() => fromHex(text)).toThrow(SyntaxError);
});

test.each(["A", "AA", "AAA", "AB==", "AAB=", "A===", "AA ==", "AAAA\n", "_-AA", "====", "é==="])(
  "fromBase64(%j) throws",
  (text) => {
    expect(() => fromBase64(text)).toThrow(SyntaxError);
  },
);

test("fromBase64() takes one spelling of a value only", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(..."AQgw4+/= \n"), maxLength: 12 }), (text) => {
      let bytes: Uint8Array;
      try {
        bytes = fromBase64(text);
      } catch {
        return;
      }
      expect(toBase64(bytes)).toBe(text);
    }),
  );
});
