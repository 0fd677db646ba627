import { MAX_LEAF_BYTES } from "@tallystick/core/leaf";
import { expect, test } from "vitest";
import { prepareSystemEvent, WATCH_SERVICE } from "../src/log/system.ts";
import type { TenantLog } from "../src/log/tenants.ts";
import { MAX_GROUPS, MAX_GROUPS_OF_TENANT, Reads } from "../src/watch/reads.ts";

const log: TenantLog = {
  ...{ tenantId: "0190-t", slug: "acme", status: "active", settings: {}, logId: 1, name: "test/acme" },
};
const by = (id: string) => ({ actor: { id }, credential: { kind: "api_key", id } as const, ip: "192.0.2.1" });

test("Reads tell a bounded number of filters apart, and count each read", () => {
  const reads = new Reads();
  for (let i = 0; i < 10_000; i++) {
    // Quotes become longer as JSON within JSON; a filter may be as long as a URL.
    const asked = { actor_id: i % 2 === 0 ? `u-${i % 100}` : `"${i}`.repeat(i % 5 === 0 ? 3_000 : 1) };
    expect(reads.add({ log, by: by("a"), asked, entries: 3 }, i)).toBe(true);
  }
  const [{ event }, ...rest] = reads.take() as [ReturnType<Reads["take"]>[number]];
  expect(rest).toEqual([]);
  const {
    filters,
    others,
    reads: all,
  } = event.metadata as unknown as Record<string, { reads: number }> & {
    filters: { reads: number }[];
  };
  expect(all).toBe(10_000);
  expect(filters.length).toBeLessThanOrEqual(50);
  expect(filters.reduce((sum, { reads }) => sum + reads, 0) + others!.reads).toBe(10_000);
  expect(prepareSystemEvent(log, event, WATCH_SERVICE).leafBytes).toBeLessThan(MAX_LEAF_BYTES);
});

test("Reads tell a bounded number of credentials of a tenant apart, and say when there is no room", () => {
  const reads = new Reads();
  for (let i = 0; i < MAX_GROUPS_OF_TENANT; i++) {
    expect(reads.full(log.tenantId)).toBe(false);
    expect(reads.add({ log, by: by(`${i}`), asked: {}, entries: 0 }, i)).toBe(true);
  }
  expect(reads.full(log.tenantId)).toBe(true);
  expect(reads.add({ log, by: by("one more"), asked: {}, entries: 0 }, 0)).toBe(false);
  expect(reads.add({ log, by: by("0"), asked: {}, entries: 0 }, 0)).toBe(true);
  // Others' reads are counted all the same, up to a bound of all.
  const other = (i: number) => ({ ...log, tenantId: `other-${i}` });
  for (let i = MAX_GROUPS_OF_TENANT; i < MAX_GROUPS; i++) {
    expect(reads.add({ log: other(i), by: by("a"), asked: {}, entries: 0 }, 0)).toBe(true);
  }
  expect(reads.add({ log: other(MAX_GROUPS), by: by("a"), asked: {}, entries: 0 }, 0)).toBe(false);
  expect(reads.take()).toHaveLength(MAX_GROUPS);
  expect(reads.full(log.tenantId)).toBe(false);
});

test("Reads keep no value that is a known secret or looks like a credential", () => {
  const reads = new Reads(["of-our-own-choice"]);
  const secret = `tally_${"ab".repeat(20)}`;
  reads.add(
    {
      log,
      by: by("a"),
      asked: { actor_id: secret, action: "of-our-own-choice", correlation_id: "eyJhbGciOiJFZERTQSJ9.e30.c2ln" },
      entries: 0,
    },
    0,
  );
  const [{ event }] = reads.take() as [ReturnType<Reads["take"]>[number]];
  expect(event.metadata!.filters).toEqual([
    { filter: { action: "********", actor_id: "tally_********", correlation_id: "********" }, reads: 1, entries: 0 },
  ]);
});
