import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { Database } from "../src/db/database.ts";
import { Bucket } from "../src/limits/bucket.ts";
import { Guesses } from "../src/limits/guesses.ts";
import { RateLimitError, RateLimits } from "../src/limits/rate-limits.ts";
import { SharedUse } from "../src/limits/shared-use.ts";
import { TestDatabase } from "../src/testing/log.ts";

const holder = (tenantId: string, id = "key", settings = {}) => ({
  credential: { kind: "api_key", id } as const,
  tenant: { tenantId, slug: tenantId, settings },
});

describe("in memory", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
  afterEach(() => void vi.useRealTimers());

  describe("Bucket", () => {
    test("lets through as many as the limit at once, and then as many as a minute fills", () => {
      const bucket = new Bucket(60);
      for (let index = 0; index < 60; index++) {
        expect(bucket.open).toBe(true);
        bucket.take(1);
      }
      expect(bucket.open).toBe(false);
      expect(bucket.secondsUntilOpen).toBe(1);
      vi.advanceTimersByTime(999);
      expect(bucket.open).toBe(false);
      vi.advanceTimersByTime(1);
      expect(bucket.open).toBe(true);
      vi.advanceTimersByTime(3_600_000);
      expect(bucket.level).toBe(60);
      expect(bucket.full).toBe(true);
    });

    test("a cost beyond the limit is let through and leaves a debt", () => {
      const bucket = new Bucket(60);
      bucket.take(5_000);
      expect(bucket.open).toBe(false);
      expect(bucket.secondsUntilOpen).toBe(5_000 - 60 + 1);
      vi.advanceTimersByTime((5_000 - 60 + 1) * 1_000);
      expect(bucket.open).toBe(true);
    });

    test("settles to numbers only", () => {
      const bucket = new Bucket(100);
      bucket.take(40);
      for (const level of [Number.NaN, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]) bucket.settle(level);
      expect(bucket.level).toBe(60);
    });

    test("a limit that changes keeps what was used", () => {
      const bucket = new Bucket(100);
      bucket.take(40);
      bucket.limit = 200;
      expect(bucket.level).toBe(160);
      bucket.limit = 50;
      expect(bucket.level).toBe(10);
    });
  });

  describe("RateLimits", () => {
    test("credentials of a tenant share its limit, and other tenants have theirs", () => {
      const limits = new RateLimits({ perTenant: 3 });
      for (const id of ["a", "b", "a"]) limits.take(limits.limitsOf(holder("t1", id)), 1);
      for (const id of ["a", "b", "c"]) {
        expect(() => limits.take(limits.limitsOf(holder("t1", id)), 1)).toThrow(RateLimitError);
      }
      limits.take(limits.limitsOf(holder("t2", "a")), 1);
    });

    test("a credential that may do less than its tenant has a bucket of its own, and a refusal takes from neither", () => {
      const limits = new RateLimits({ perTenant: 10, perCredential: 2 });
      const take = (id: string) => limits.take(limits.limitsOf(holder("t1", id)), 1);
      take("a");
      take("a");
      const refusal = (() => {
        try {
          take("a");
        } catch (error) {
          return error as RateLimitError;
        }
      })();
      expect(refusal?.limit.name).toBe("credential");
      expect(refusal?.limits.map(({ name, bucket }) => [name, bucket.level])).toEqual([
        ["tenant", 8],
        ["credential", 0],
      ]);
      take("b");
    });

    test("settings of the tenant go before the installation's; 0 is no limit", () => {
      const limits = new RateLimits({ perTenant: 10, perCredential: 5 });
      const found = (settings: object, by = limits) =>
        by.limitsOf(holder("t1", "a", settings)).map(({ name, bucket }) => [name, bucket.limit]);
      expect(found({})).toEqual([
        ["tenant", 10],
        ["credential", 5],
      ]);
      expect(found({ rate_limit_requests: 100 })).toEqual([["tenant", 100]]);
      expect(found({ rate_limit_requests: 0 })).toEqual([]);
      expect(found({ rate_limit_requests: 0, credential_rate_limit_requests: 7 })).toEqual([["credential", 7]]);
      expect(found({ credential_rate_limit_requests: 0 })).toEqual([["tenant", 10]]);
      expect(found({}, new RateLimits({ perTenant: 0 }))).toEqual([]);
    });

    test("whoever acts across tenants is limited by the credential alone", () => {
      const limits = new RateLimits({ perTenant: 10 });
      const operator = { credential: { kind: "admin_token", id: "admin_token" } as const, tenant: undefined };
      expect(limits.limitsOf(operator).map(({ name, bucket }) => [name, bucket.limit])).toEqual([["credential", 10]]);
    });

    test("revoking has a limit of each credential apart; none where nothing is limited", () => {
      const limits = new RateLimits({ perTenant: 10 });
      limits.take(limits.limitsOf(holder("t1")), 5_000);
      const [limit, ...more] = limits.revocationLimitsOf(holder("t1"));
      expect([limit!.name, limit!.bucket.level, more]).toEqual(["revocations", 300, []]);
      limits.take([limit!], 300);
      expect(() => limits.take(limits.revocationLimitsOf(holder("t1")), 1)).toThrow(RateLimitError);
      limits.take(limits.revocationLimitsOf(holder("t1", "another")), 1);
      expect(new RateLimits({ perTenant: 0 }).revocationLimitsOf(holder("t1"))).toEqual([]);
    });

    test("where there are too many buckets those of credentials go, and tenants' debts stay", () => {
      const limits = new RateLimits({ perTenant: 10, perCredential: 5, maxBuckets: 10 });
      limits.take(limits.limitsOf(holder("t1")), 100);
      const levelOf = (tenant: string) => limits.limitsOf(holder(tenant))[0]!.bucket.level;
      for (let index = 0; index < 100; index++) limits.limitsOf(holder("t2", `key-${index}`));
      expect(levelOf("t1")).toBe(-90);
      expect([...limits.inUse()].length).toBeLessThanOrEqual(10);
      for (let index = 0; index < 100; index++) limits.limitsOf(holder(`other-${index}`));
      expect(levelOf("t1")).toBe(10);
    });

    test("buckets that are full again are forgotten", () => {
      const limits = new RateLimits({ perTenant: 60 });
      const [limit] = limits.limitsOf(holder("t1"));
      limits.take([limit!], 1);
      expect([...limits.inUse()]).toHaveLength(1);
      limit!.bucket.takeUsed();
      vi.advanceTimersByTime(1_000);
      expect([...limits.inUse()]).toHaveLength(0);
      expect(limits.limitsOf(holder("t1"))[0]!.bucket).not.toBe(limit!.bucket);
    });
  });

  describe("Guesses", () => {
    test("so many refused credentials of a source, then a wait; other sources have none", () => {
      const guesses = new Guesses(60);
      for (let index = 0; index < 60; index++) {
        expect(guesses.secondsToWait("2001:db8::1")).toBe(0);
        guesses.refused(`2001:db8::${index.toString(16)}`);
      }
      expect(guesses.secondsToWait("2001:db8::ffff")).toBe(1);
      expect(guesses.secondsToWait("2001:db8:0:1::1")).toBe(0);
      vi.advanceTimersByTime(1_000);
      expect(guesses.secondsToWait("2001:db8::1")).toBe(0);
    });
  });
});

describe("SharedUse", () => {
  let test1: TestDatabase;
  let other: Database;
  beforeAll(async () => {
    test1 = await TestDatabase.create();
    other = test1.connect();
  });
  afterAll(async () => {
    await other.close();
    await test1.close();
  });

  const replica = (database: Pick<Database, "query">, errors: unknown[] = []) => {
    const limits = new RateLimits({ perTenant: 100 });
    const shared = new SharedUse(database, limits, (error) => errors.push(error));
    const bucket = (tenant: string) => limits.limitsOf(holder(tenant))[0]!.bucket;
    return { shared, bucket, errors };
  };
  /** What filled while the test ran is rounded away: a limit of 100 a minute fills by less than 2 a second. */
  const near = (level: number, expected: number) => {
    expect(level).toBeGreaterThanOrEqual(expected - 0.001);
    expect(level).toBeLessThan(expected + 15);
  };

  test("replicas have together what one would have, debts too, and a restart changes nothing", async () => {
    const [a, b] = [replica(test1.database), replica(other)];
    a.bucket("t1").take(60);
    b.bucket("t1").take(30);
    await a.shared.exchange();
    near(a.bucket("t1").level, 40);
    await b.shared.exchange();
    near(b.bucket("t1").level, 10);
    a.bucket("t1").take(300);
    await a.shared.exchange();
    near(a.bucket("t1").level, -290);
    b.bucket("t1").take(1);
    await b.shared.exchange();
    near(b.bucket("t1").level, -291);
    b.bucket("t1").take(1);
    await b.shared.stop();
    const restarted = replica(other);
    restarted.bucket("t1").take(1);
    await restarted.shared.exchange();
    near(restarted.bucket("t1").level, -293);
    await Promise.all([a.shared.stop(), restarted.shared.stop()]);
  });

  test("what is taken while an exchange is under way is not lost", async () => {
    const { shared, bucket } = replica(test1.database);
    bucket("t2").take(10);
    const exchange = shared.exchange();
    bucket("t2").take(20);
    await exchange;
    near(bucket("t2").level, 70);
    await shared.exchange();
    near(bucket("t2").level, 70);
    await shared.stop();
  });

  test("without the database each goes on by itself, says so once, and tells it later", async () => {
    let down = true;
    const { shared, bucket, errors } = replica({
      query: async (text: string, values?: unknown[]) => {
        if (down) throw new Error("down");
        return (await test1.database.query(text, values)) as never;
      },
    });
    bucket("t3").take(50);
    await shared.exchange();
    bucket("t3").take(1);
    await shared.exchange();
    expect(errors).toHaveLength(1);
    near(bucket("t3").level, 49);
    down = false;
    await shared.exchange();
    await shared.stop();
    const second = replica(other);
    second.bucket("t3").take(1);
    await second.shared.exchange();
    near(second.bucket("t3").level, 48);
    await second.shared.stop();
  });

  test("a limit that is changed keeps what was used; rows that are full again are forgotten", async () => {
    const { shared, bucket } = replica(test1.database);
    bucket("t4").take(10);
    await shared.exchange();
    const raised = bucket("t4");
    raised.limit = 1_000_000;
    raised.take(1);
    await shared.exchange();
    expect(raised.level).toBeGreaterThanOrEqual(999_989);
    await shared.stop();
    await test1.superuser.query("update tallystick.rate_limits set at = at - interval '2 minutes' where level > 100");
    await test1.database.query("select tallystick.forget_rate_limits()");
    const { rows } = await test1.superuser.query("select from tallystick.rate_limits where level > 100");
    expect(rows).toHaveLength(0);
  });

  test("what is no use of a limit is passed over, and takes nothing along", async () => {
    const keyOf = (index: number) => `00000000-0000-0000-0000-00000000000${index}`;
    const use = async (used: unknown[], perMinute: unknown[]) => {
      const keys = used.map((_, index) => keyOf(index));
      return test1.database.query<{ key: string; level: number }>(
        "select key, level from tallystick.use_rate_limits($1, $2, $3)",
        [keys, used, perMinute],
      );
    };
    const wrong = ["NaN", "Infinity", "-Infinity", "-5", "1e300"];
    const rows = await use(["10", ...wrong], Array(6).fill("100"));
    expect(rows).toEqual([{ key: keyOf(0), level: 90 }]);
    expect(await use(Array(6).fill("1"), ["NaN", "Infinity", "-Infinity", "0", "1e300", "1e308"])).toEqual([]);
    // However often the most is used, it is a number.
    for (let index = 0; index < 3; index++)
      expect((await use(["1e12"], ["100"]))[0]!.level).toBeGreaterThanOrEqual(-1e12);
    await expect(
      test1.superuser.query("update tallystick.rate_limits set level = 'NaN' where key = $1", [keyOf(0)]),
    ).rejects.toThrow("rate_limits_finite");
  });

  test("no login reads or changes the table itself", async () => {
    for (const role of ["tallystick_writer", "tallystick_reader", "tallystick_auditor"] as const) {
      await expect(test1.as(role, "select * from tallystick.rate_limits")).rejects.toThrow("permission denied");
    }
    await expect(test1.as("tallystick_reader", "select tallystick.forget_rate_limits()")).rejects.toThrow(
      "permission denied",
    );
  });
});
