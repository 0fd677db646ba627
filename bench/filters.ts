/**
 * The lists that are asked for: filters from values that half the log has to values that hardly an entry has.
 */
import {
  ADDRESSES,
  address,
  BUSY_RESOURCES,
  busyResource,
  EVENTS_A_REQUEST,
  FREQUENT_ACTORS,
  frequentActor,
  MEDIUM_ACTORS,
  mediumActor,
  RARE_ACTORS,
  rareActor,
  requestId,
  UNCOMMON_ACTION,
} from "./events.ts";

/** A kind of list. */
export interface ListKind {
  readonly name: string;
  /** Parameters of its `n`th example; each asks for other values where there are any. */
  readonly query: (n: number, log: LogFacts) => Readonly<Record<string, string>>;
  /** Entries of the list that lie before the page; none for the first page. */
  readonly depth?: number;
  /** What 99 of 100 requests must be answered in, in ms; 10 unless said otherwise. */
  readonly goalMs?: number;
}

export interface LogFacts {
  readonly size: number;
  /** Times between which a tenth of the log was recorded, in its middle. */
  readonly from: string;
  readonly to: string;
}

const TEXT_GOAL_MS = 100;
const ACTIONS = ["document.view", "report.export", "permission.grant", "user.login"];

export const LISTS: readonly ListKind[] = [
  { name: "no filter", query: () => ({}) },
  { name: "actor_id, frequent (2 %)", query: (n) => ({ actor_id: frequentActor(n % FREQUENT_ACTORS) }) },
  { name: "actor_id, medium (0.1 %)", query: (n) => ({ actor_id: mediumActor((n * 7) % MEDIUM_ACTORS) }) },
  { name: "actor_id, rare (120 in all)", query: (n) => ({ actor_id: rareActor(n % RARE_ACTORS) }) },
  { name: "action", query: (n) => ({ action: ACTIONS[n % ACTIONS.length]! }) },
  { name: "action, uncommon (1 %)", query: () => ({ action: UNCOMMON_ACTION }) },
  { name: "resource_id (0.1 %)", query: (n) => ({ resource_id: busyResource((n * 11) % BUSY_RESOURCES) }) },
  { name: "outcome=failure (3 %)", query: () => ({ outcome: "failure" }) },
  {
    name: `request_id (${EVENTS_A_REQUEST} in all)`,
    query: (n, { size }) => ({ request_id: requestId(Math.floor((size / EVENTS_A_REQUEST / 21) * (n % 20))) }),
  },
  {
    name: "actor_id + action (0.17 %)",
    query: (n) => ({ actor_id: frequentActor(n % FREQUENT_ACTORS), action: "report.export" }),
  },
  {
    name: "actor_id + action (0.02 %)",
    query: (n) => ({ actor_id: frequentActor(n % FREQUENT_ACTORS), action: UNCOMMON_ACTION }),
  },
  { name: "ip (0.1 %)", query: (n) => ({ ip: address((n * 13) % ADDRESSES) }) },
  { name: "time range", query: (_, { from, to }) => ({ from, to }) },
  {
    name: "time range + actor_id (2 %)",
    query: (n, { from, to }) => ({ from, to, actor_id: frequentActor(n % FREQUENT_ACTORS) }),
  },
  { name: "deep page, no filter", query: () => ({}), depth: 50_000 },
  {
    name: "deep page, actor_id (2 %)",
    query: (n) => ({ actor_id: frequentActor(n % FREQUENT_ACTORS) }),
    depth: 1_000,
  },
  { name: "action:*.rev* (1 %)", query: () => ({ q: "action:*.rev*" }) },
  { name: "ip range /28 (1.6 %)", query: (n) => ({ q: `ip:${address((n * 16) % ADDRESSES)}/28` }) },
  {
    name: "metadata.duration_ms (0.05 %)",
    query: (n) => ({ q: `metadata.duration_ms:${100 + n}` }),
    goalMs: TEXT_GOAL_MS,
  },
  { name: "phrase, in every entry", query: () => ({ q: '"quarterly figures"' }), goalMs: TEXT_GOAL_MS },
  {
    name: "phrase in an e-mail address (120 in all)",
    query: (n) => ({ q: `"${rareActor(n % RARE_ACTORS).replace("_", " ")} customer"` }),
    goalMs: TEXT_GOAL_MS,
  },
  {
    name: "phrase + actor_id (2 %)",
    query: (n) => ({ q: `"draft for the board"`, actor_id: frequentActor(n % FREQUENT_ACTORS) }),
    goalMs: TEXT_GOAL_MS,
  },
];
