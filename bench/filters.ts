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
}

export interface LogFacts {
  readonly size: number;
  /** Times between which a tenth of the log was recorded, in its middle. */
  readonly from: string;
  readonly to: string;
}

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
];
