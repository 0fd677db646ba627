/**
 * What a follower promises whose streams take long: others have their turn, and whoever comes meanwhile is left nothing out.
 */
import { matcherOf } from "@tallystick/core/filter";
import { filterOf } from "@tallystick/core/filter-parameters";
import { afterEach, expect, test } from "vitest";
import type { LogIdentity } from "../src/log/identity.ts";
import type { Entry } from "../src/log/reader.ts";
import { Follower, type Follows } from "../src/stream/follower.ts";
import type { Item } from "../src/stream/messages.ts";
import { Turns } from "../src/stream/turns.ts";

let follower: Follower | undefined;
afterEach(() => follower?.stop());

/** Follows a log that is given entries by hand. */
function followerOf(entries: readonly Entry[]): Follower {
  follower = new Follower(
    {
      log: {} as LogIdentity,
      reader: { run: async (_log, from) => entries.filter(({ seq }) => seq >= from) },
      turns: new Turns(),
      pollMs: () => 1_000,
      onError: (error) => {
        throw error;
      },
    },
    0,
  );
  return follower;
}

/** A stream that notes what it is offered, and does something with it. */
function stream(query: string, onItem: (item: Item) => void = () => {}) {
  const filter = filterOf({ q: query }, []);
  const matches = matcherOf(filter);
  const given: number[] = [];
  const follows: Follows & { given: number[] } = {
    filter,
    given,
    get position() {
      return (given.at(-1) ?? -1) + 1;
    },
    offer(item) {
      if (item.entry.seq < follows.position || !matches(item.entry.opened, item.line)) return;
      given.push(item.entry.seq);
      onItem(item);
    },
  };
  return follows;
}

/** @param onText called each time that the event's text is taken apart. */
function entry(seq: number, onText = () => {}): Entry {
  const event = {
    actor: { id: "alice" },
    get action() {
      onText();
      return "user.login";
    },
  };
  return { seq, recordedAt: "2026-01-01T00:00:00.000000Z", leaf: "{}", opened: { event, service: {} } } as never;
}

function workFor(ms: number): void {
  for (const endMs = performance.now() + ms; performance.now() < endMs; );
}

test("an entry's text is taken apart once, however many look for words in it", async () => {
  let times = 0;
  const streams = Array.from({ length: 50 }, (_, n) => stream(n % 2 === 0 ? "login user" : "logout"));
  const follower = followerOf([entry(0, () => times++)]);
  for (const one of streams) follower.join(one);
  await expect.poll(() => follower.position).toBe(1);
  expect(times).toBe(1);
  expect(streams.map(({ given }) => given.length)).toEqual(streams.map((_, n) => (n % 2 === 0 ? 1 : 0)));
});

test("others have their turn between streams; who joins then is given the entry under way, once", async () => {
  const entries = [entry(0), entry(1)];
  let turns = 0;
  let first: number | undefined;
  const late: ReturnType<typeof stream>[] = [];
  const follower = followerOf(entries);
  const join = () => {
    turns++;
    // By a value, and by words: of those who ask for values, all have had their turn by then.
    for (const query of ["actor_id:alice", "login"]) {
      const one = stream(query);
      expect(follower.join(one)).toBe(true);
      late.push(one);
    }
    if (follower.position < 2) setImmediate(join);
  };
  const streams = Array.from({ length: 20 }, () =>
    stream("login", () => {
      if (first === undefined) {
        first = follower.position;
        setImmediate(join);
      }
      workFor(1);
    }),
  );
  for (const one of streams) follower.join(one);
  await expect.poll(() => follower.position).toBe(2);
  expect(first, "not past an entry that is being handed out").toBe(0);
  // 40 ms of work in slices of 4.
  expect(turns).toBeGreaterThan(5);
  for (const { given } of streams) expect(given).toEqual([0, 1]);
  for (const { given } of late) expect(given).toEqual([0, 1]);
});
