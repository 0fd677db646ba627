import { describe, expect, test } from "vitest";
import { sourceOf } from "../src/access/source.ts";
import { Denials } from "../src/watch/denials.ts";

const denial = { reason: "api_key_unknown", ip: "192.0.2.1", credential: undefined, http: undefined };
const key = (id: string) => ({ kind: "api_key", id }) as const;

describe("sourceOf", () => {
  test.each([
    ["192.0.2.1", "192.0.2.1", 32],
    ["::ffff:192.0.2.1", "192.0.2.1", 32],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", 64],
    ["2001:db8::6", "2001:db8::", 64],
    ["2001:db8::2:0:0:5:6", "2001:db8:0:2::", 64],
    ["::1", "::", 64],
    ["fe80::1%eth0", "fe80::", 64],
  ])("%s is counted as %s", (ip, address, prefixLength) => {
    expect(sourceOf(ip)).toEqual({ address, prefixLength });
  });

  test("what is no address has none", () => {
    for (const none of [undefined, "", "unix:", "256.1.1.1"]) expect(sourceOf(none)).toBeUndefined();
  });
});

describe("Denials", () => {
  test("one event a reason and source, with count, times and credentials", () => {
    const denials = new Denials();
    denials.add({ ...denial, credential: key("a") }, 2_000);
    denials.add({ ...denial, credential: key("b") }, 1_000);
    denials.add({ ...denial, reason: "scope_missing" }, 3_000);
    const { events } = denials.take();
    expect(events.map(({ reason, metadata }) => [reason, metadata!.count])).toEqual([
      ["api_key_unknown", 2],
      ["scope_missing", 1],
    ]);
    expect(events[0]).toMatchObject({
      occurred_at: "1970-01-01T00:00:02.000000Z",
      context: { ip: "192.0.2.1" },
      related: [
        { type: "api_key", id: "a" },
        { type: "api_key", id: "b" },
      ],
      metadata: { first_at: "1970-01-01T00:00:01.000000Z", last_at: "1970-01-01T00:00:02.000000Z" },
    });
    expect(denials.take().events).toEqual([]);
  });

  test("a stranger with a million addresses causes a bounded number of entries, and each request is counted", () => {
    const denials = new Denials();
    const ip = (i: number) => `2001:db8:${(i >> 12).toString(16)}:${(i & 4095).toString(16)}::1`;
    const reasons = ["api_key_unknown", "credential_missing"];
    for (let i = 0; i < 1_000_000; i++) {
      denials.add({ ...denial, reason: reasons[i % 2]!, ip: ip(i), credential: key(`${i}`) }, i);
    }
    const { events } = denials.take();
    expect(events).toHaveLength(102);
    expect(events.reduce((sum, { metadata }) => sum + Number(metadata!.count), 0)).toBe(1_000_000);
    const others = events.filter(({ metadata }) => metadata!.source === "others");
    expect(others.map(({ reason }) => reason).sort()).toEqual(reasons);
    for (const { related, context } of others) expect([related!.length, context]).toEqual([16, undefined]);
  });

  test("what could not be recorded is counted on", () => {
    const denials = new Denials();
    denials.add(denial, 1_000);
    const { putBack } = denials.take();
    denials.add(denial, 5_000);
    putBack();
    expect(denials.take().events).toMatchObject([
      { metadata: { count: 2, first_at: "1970-01-01T00:00:01.000000Z", last_at: "1970-01-01T00:00:05.000000Z" } },
    ]);
  });
});
