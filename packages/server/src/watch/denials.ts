/**
 * Refused credentials: counted by reason and source in memory, and told of together. A stranger can cause a bounded number of
 * entries, however many requests they send: the operator's log is never deleted either.
 */
import type { EventContext } from "@tallystick/core/event";
import { credentialResource } from "../access/by.ts";
import type { Caller } from "../access/caller.ts";
import { type Source, sourceOf } from "../access/source.ts";
import type { SystemEvent } from "../log/system.ts";
import { entryTime } from "./time.ts";

/** A request that was refused for its credential. */
export interface Denial {
  /** One of a fixed set: a `DenialReason`, or `signature_wrong`. */
  readonly reason: string;
  readonly ip: string | undefined;
  /** Where it is known which one it was. */
  readonly credential: Caller["credential"] | undefined;
  /** The route is a template, such as `/v1/logs/:id`: nothing that the client chose. */
  readonly http: NonNullable<EventContext["http"]> | undefined;
}

/** Those of one reason and one source. */
interface Group {
  readonly reason: string;
  /** `others`: of the sources that there was no room for. */
  readonly source: Source | "unknown" | "others";
  readonly count: number;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly credentials: ReadonlyMap<string, Caller["credential"]>;
  /** Of the last one. */
  readonly http: Denial["http"];
}

/**
 * Sources that are told apart in one interval; the rest are told of together, one entry a reason. Each of the 18 reasons has places
 * of its own, so that who comes from many addresses with nothing at all does not hide who tries something else from one: 100 entries,
 * or a few more.
 */
const SHARED_GROUPS = 30;
const OWN_GROUPS = 3;
/** Of the reason that matters most. */
const OWN_GROUPS_OF: Readonly<Record<string, number>> = { admin_token_wrong: 19 };
const MAX_CREDENTIALS = 16;

export class Denials {
  #groups = new Map<string, Group>();
  /** By reason, how many sources are told apart. */
  #sources = new Map<string, number>();
  /** How many of them are beyond their reason's own places. */
  #shared = 0;

  /** @param atMs ms since the Unix epoch. */
  add({ reason, ip, credential, http }: Denial, atMs: number): void {
    this.#merge({
      reason,
      source: sourceOf(ip) ?? "unknown",
      count: 1,
      firstMs: atMs,
      lastMs: atMs,
      credentials: new Map(credential === undefined ? [] : [[`${credential.kind} ${credential.id}`, credential]]),
      http,
    });
  }

  /** What has been counted since the last time, an event for each reason and source, each with how to count it again. */
  take(): readonly { readonly event: SystemEvent; readonly putBack: () => void }[] {
    const groups = [...this.#groups.values()];
    this.#groups = new Map();
    this.#sources = new Map();
    this.#shared = 0;
    return groups.map((group) => ({ event: eventOf(group), putBack: () => this.#merge(group) }));
  }

  #merge(group: Group): void {
    const own = keyOf(group);
    const hasPlace = group.source === "others" || this.#groups.has(own) || this.#takePlace(group.reason);
    const key = hasPlace ? own : keyOf({ reason: group.reason, source: "others" });
    const known = this.#groups.get(key);
    if (known === undefined) {
      this.#groups.set(key, key === own ? group : { ...group, source: "others" });
      return;
    }
    this.#groups.set(key, {
      ...known,
      count: known.count + group.count,
      firstMs: Math.min(known.firstMs, group.firstMs),
      credentials: new Map([...known.credentials, ...group.credentials].slice(0, MAX_CREDENTIALS)),
      lastMs: Math.max(known.lastMs, group.lastMs),
      http: group.lastMs >= known.lastMs ? group.http : known.http,
    });
  }

  /** Whether there is a place for one more source of this reason. */
  #takePlace(reason: string): boolean {
    const taken = this.#sources.get(reason) ?? 0;
    if (taken >= (OWN_GROUPS_OF[reason] ?? OWN_GROUPS)) {
      if (this.#shared >= SHARED_GROUPS) return false;
      this.#shared++;
    }
    this.#sources.set(reason, taken + 1);
    return true;
  }
}

function keyOf({ reason, source }: Pick<Group, "reason" | "source">): string {
  return `${reason} ${typeof source === "string" ? source : source.address}`;
}

function eventOf({ reason, source, count, firstMs, lastMs, credentials, http }: Group): SystemEvent {
  const context: EventContext = {
    // An address is a personal value: it stands in the entry as a commitment, and can be erased.
    ...(typeof source !== "string" && { ip: source.address }),
    ...(http !== undefined && { http }),
  };
  return {
    action: "tallystick.access.denied",
    actor: { type: "anonymous" },
    outcome: "denied",
    severity: "WARNING",
    reason,
    occurred_at: entryTime(lastMs),
    ...(Object.keys(context).length > 0 && { context }),
    ...(credentials.size > 0 && { related: [...credentials.values()].map(credentialResource) }),
    metadata: {
      count,
      first_at: entryTime(firstMs),
      last_at: entryTime(lastMs),
      source: typeof source === "string" ? source : source.prefixLength === 32 ? "address" : "network of 64 bits",
    },
  };
}
