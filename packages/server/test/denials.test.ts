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

function taken(denials: Denials) {
  return denials.take().map(({ event }) => event);
}

describe("Denials", () => {
  test("one event a reason and source, with count, times and credentials", () => {
    const denials = new Denials();
    denials.add({ ...denial, credential: key("a") }, 2_000);
    denials.add({ ...denial, credential: key("b") }, 1_000);
    denials.add({ ...denial, reason: "scope_missing" }, 3_000);
    const events = taken(denials);
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
    expect(taken(denials)).toEqual([]);
  });

  test("a stranger with a million addresses causes a bounded number of entries, and each request is counted", () => {
    const denials = new Denials();
    const ip = (i: number) => `2001:db8:${(i >> 12).toString(16)}:${(i & 4095).toString(16)}::1`;
    const reasons = ["api_key_unknown", "credential_missing"];
    for (let i = 0; i < 1_000_000; i++) {
      denials.add({ ...denial, reason: reasons[i % 2]!, ip: ip(i), credential: key(`${i}`) }, i);
    }
    const events = taken(denials);
    expect(events).toHaveLength(38); // 30 that all share, 3 of each reason's own, 1 of each for the others
    expect(events.reduce((sum, { metadata }) => sum + Number(metadata!.count), 0)).toBe(1_000_000);
    const others = events.filter(({ metadata }) => metadata!.source === "others");
    expect(others.map(({ reason }) => reason).sort()).toEqual(reasons);
    for (const { related, context } of others) expect([related!.length, context]).toEqual([16, undefined]);
  });

  test("who comes from many networks with nothing hides nobody who tries something else", () => {
    const denials = new Denials();
    for (let i = 0; i < 110; i++) {
      for (const reason of ["credential_missing", "credential_malformed", "api_key_unknown", "jwt_invalid"]) {
        denials.add({ ...denial, reason, ip: `2001:db8:0:${i.toString(16)}::1` }, i);
      }
    }
    for (let i = 0; i < 10; i++) denials.add({ ...denial, reason: "admin_token_wrong", ip: `192.0.2.${i}` }, i);
    denials.add({ ...denial, reason: "scope_missing", credential: key("a") }, 1_000);
    const events = taken(denials);
    const sources = (reason: string) => events.filter((one) => one.reason === reason).map(({ context }) => context?.ip);
    expect(sources("admin_token_wrong")).toEqual(Array.from({ length: 10 }, (_, i) => `192.0.2.${i}`));
    expect(sources("scope_missing")).toEqual(["192.0.2.1"]);
  });

  test("entries are bounded whatever is tried", () => {
    const denials = new Denials();
    const reasons = ["admin_token_wrong", ...Array.from({ length: 17 }, (_, i) => `reason_${i}`)];
    for (let i = 0; i < 18 * 256; i++) {
      denials.add({ ...denial, reason: reasons[i % 18]!, ip: `192.0.${i >> 8}.${i & 255}` }, i);
    }
    expect(taken(denials).length).toBe(100 + 18);
  });

  test("what could not be recorded is counted on", () => {
    const denials = new Denials();
    denials.add(denial, 1_000);
    const [{ putBack }] = denials.take() as [ReturnType<Denials["take"]>[number]];
    denials.add(denial, 5_000);
    putBack();
    expect(taken(denials)).toMatchObject([
      { metadata: { count: 2, first_at: "1970-01-01T00:00:01.000000Z", last_at: "1970-01-01T00:00:05.000000Z" } },
    ]);
  });
});
