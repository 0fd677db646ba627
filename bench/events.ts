/**
 * The events that are recorded: what an application's audit trail looks like, each a pure function of its number, so that
 * every side of a comparison gets the same ones and no two are alike.
 */
import type { Event } from "@tallystick/core/event";

/** What is in the events of a run. */
export interface EventShape {
  /** `context.ip` and `actor.email`, which the log keeps as commitments with openings. */
  readonly personal?: boolean;
  /** An `idempotency_key` each. */
  readonly keys?: boolean;
  /** One event in so many is by one of the {@link RARE_ACTORS}, evenly over the whole log. */
  readonly rareEvery?: number;
}

/** 2 % of all events each. */
export const FREQUENT_ACTORS = 10;
/** 0.1 % of all events each. */
export const MEDIUM_ACTORS = 500;
export const RARE_ACTORS = 20;
/** 0.1 % of all events each. */
export const BUSY_RESOURCES = 500;
/** 0.1 % of all events each. */
export const ADDRESSES = 1_000;
/** Events that one request of the application's users leads to. */
export const EVENTS_A_REQUEST = 4;

const DEFAULT_RARE_EVERY = 2_500;
const COLD_ACTORS = 200_000;
const COLD_RESOURCES = 1_000_000;
const FIRST_OCCURRED_AT_MS = Date.UTC(2026, 0, 1);
const EVENT_SPACING_MS = 7;

const ACTIONS = [
  "document.view",
  "document.update",
  "document.view",
  "user.login",
  "document.share",
  "report.export",
  "document.view",
  "comment.create",
  "permission.grant",
  "invoice.approve",
  "user.password_change",
  "api_key.rotate",
] as const;
const REGIONS = ["eu-central-1", "eu-west-3", "us-east-1", "ap-southeast-2"] as const;
const PLANS = ["enterprise", "team", "starter"] as const;

export const frequentActor = (n: number): string => `user_${padded(n)}`;
export const mediumActor = (n: number): string => `user_${padded(FREQUENT_ACTORS + n)}`;
export const rareActor = (n: number): string => `contractor_${padded(n)}`;
export const busyResource = (n: number): string => `doc_${padded(n)}`;
export const address = (n: number): string => `203.0.${n >> 8}.${n & 255}`;
export const requestId = (n: number): string =>
  `req_${padded(mix(n, 11)).slice(-8)}${n.toString(16).padStart(12, "0")}`;
/** Of 1 % of the events, all sorts of actors. */
export const UNCOMMON_ACTION = "api_key.revoke";

/** The event of number `index`. Its JSON has about 480 bytes, 70 more with personal values. */
export function eventAt(index: number, { personal, keys, rareEvery = DEFAULT_RARE_EVERY }: EventShape): Event {
  const at = (salt: number) => mix(index, salt);
  const actorId = actorAt(index, rareEvery);
  const resourceId =
    at(3) % 2 === 0 ? busyResource(at(4) % BUSY_RESOURCES) : busyResource(BUSY_RESOURCES + (at(5) % COLD_RESOURCES));
  const outcome = at(6) % 100;
  return {
    action: at(7) % 100 === 0 ? UNCOMMON_ACTION : ACTIONS[at(8) % ACTIONS.length]!,
    actor: { id: actorId, type: "user", ...(personal && { email: `${actorId}@customer.example` }) },
    resource: { type: "document", id: resourceId, name: "Quarterly figures, draft for the board" },
    outcome: outcome < 3 ? "failure" : outcome < 5 ? "denied" : "success",
    occurred_at: new Date(FIRST_OCCURRED_AT_MS + index * EVENT_SPACING_MS).toISOString(),
    context: {
      request_id: requestId(Math.floor(index / EVENTS_A_REQUEST)),
      user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
      ...(personal && { ip: address(at(9) % ADDRESSES) }),
    },
    metadata: {
      region: REGIONS[at(10) % REGIONS.length]!,
      plan: PLANS[at(12) % PLANS.length]!,
      duration_ms: at(13) % 2_000,
      changed_fields: ["title", "owner"],
      revision: at(14) % 300,
    },
    ...(keys && { idempotency_key: `order-service:${index}:${padded(at(15))}` }),
  };
}

function actorAt(index: number, rareEvery: number): string {
  if (index % rareEvery === 0) return rareActor((index / rareEvery) % RARE_ACTORS);
  const share = mix(index, 1) % 100;
  if (share < 20) return frequentActor(mix(index, 2) % FREQUENT_ACTORS);
  if (share < 70) return mediumActor(mix(index, 2) % MEDIUM_ACTORS);
  return mediumActor(MEDIUM_ACTORS + (mix(index, 2) % COLD_ACTORS));
}

function padded(n: number): string {
  return n.toString(16).padStart(8, "0");
}

/** 32 evenly spread bits of an index and a salt (the finaliser of MurmurHash3). */
function mix(index: number, salt: number): number {
  let h = Math.imul(index ^ (salt * 0x9e3779b9), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
