import { isIP } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { normalizeIp } from "../src/ip.ts";
import { normalizeTimestamp } from "../src/timestamp.ts";

describe("normalizeIp()", () => {
  const group = fc.oneof(
    fc.constant("0"),
    fc.constant("0000"),
    fc.integer({ min: 0, max: 0xffff }).map((n) => n.toString(16)),
  );

  test("writes IPv6 as the URL standard does, which is RFC 5952", () => {
    fc.assert(
      fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
        const text = groups.join(":");
        fc.pre(!/^(0+:){5}ffff:/.test(text));
        expect(normalizeIp(text.toUpperCase())).toBe(new URL(`http://[${text}]`).hostname.slice(1, -1));
      }),
      { numRuns: 500 },
    );
  });

  test("takes what node:net takes, except zones, and gives its own form back unchanged", () => {
    const part = fc.oneof(
      { weight: 3, arbitrary: group },
      fc.constantFrom("", "", "1.2.3.4", "12345", "g", "256.1.1.1", "01"),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 9 }), fc.constantFrom(":", "."), (parts, separator) => {
        const text = parts.join(separator);
        const normal = normalizeIp(text);
        expect(normal !== undefined, text).toBe(isIP(text) !== 0);
        if (normal !== undefined) expect(normalizeIp(normal)).toBe(normal);
      }),
      { numRuns: 3_000 },
    );
  });

  test("reads every IPv4 address, alone and mapped", () => {
    fc.assert(
      fc.property(fc.ipV4(), (text) => {
        expect(normalizeIp(text)).toBe(text);
        expect(normalizeIp(`::ffff:${text}`)).toBe(text);
        expect(normalizeIp(new URL(`http://[::ffff:${text}]`).hostname.slice(1, -1))).toBe(text);
      }),
    );
  });
});

describe("normalizeTimestamp()", () => {
  const years = { min: new Date("0001-01-02T00:00:00Z"), max: new Date("9999-12-30T23:59:59Z"), noInvalidDate: true };

  test("brings every offset to UTC", () => {
    fc.assert(
      fc.property(fc.date(years), fc.integer({ min: -1_439, max: 1_439 }), (date, offset) => {
        const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, -1);
        const hhmm = [Math.floor(Math.abs(offset) / 60), Math.abs(offset) % 60].map((n) => String(n).padStart(2, "0"));
        const sent = `${local}${offset < 0 ? "-" : "+"}${hhmm.join(":")}`;
        expect(normalizeTimestamp(sent)).toBe(`${date.toISOString().slice(0, -1)}000Z`);
      }),
    );
  });

  test("gives its own form back unchanged", () => {
    fc.assert(
      fc.property(fc.date(years), fc.stringMatching(/^\d{1,9}$/), (date, fraction) => {
        const normal = normalizeTimestamp(`${date.toISOString().slice(0, 19)}.${fraction}Z`);
        expect(normal).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
        expect(normalizeTimestamp(normal)).toBe(normal);
      }),
    );
  });
});
