/**
 * Reads: counted by log, credential and filter in memory, and told of together. Reading again what a read has caused, an entry of
 * this kind, adds to a count and no more.
 */
import type { JsonObject } from "@tallystick/core/json";
import { type By, byWhom } from "../access/by.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { SystemEvent } from "../log/system.ts";
import { type Asked, keptFilter } from "./acts.ts";
import { entryTime } from "./time.ts";

/** A read that was answered. */
export interface Read {
  readonly log: LogIdentity;
  readonly by: By;
  /** What was asked for; not the page of it. */
  readonly asked: Asked;
  /** How many entries the answer had. */
  readonly entries: number;
}

/** Of one filter. */
interface Count {
  readonly reads: number;
  readonly entries: number;
}

/** Those of one credential in one log. */
interface Group {
  readonly log: LogIdentity;
  /** Whose reads: the address is that of the first. */
  readonly by: By;
  readonly firstMs: number;
  readonly lastMs: number;
  /** By the filter's JSON. */
  readonly filters: ReadonlyMap<string, Count>;
  /** Of the filters that there was no room for. */
  readonly others: Count;
}

/** What one entry tells apart: with it, an entry stays well below the size that a leaf may have. */
const MAX_FILTERS = 50;
const MAX_FILTER_BYTES = 16 * 1_024;
/** Credentials and logs that are told apart between two times of recording: of one tenant, so that none crowds out others, and of all. */
export const MAX_GROUPS_OF_TENANT = 500;
export const MAX_GROUPS = 4_000;
const NONE: Count = { reads: 0, entries: 0 };

export class Reads {
  readonly #secrets: readonly string[];
  #groups = new Map<string, Group>();
  /** How many groups are whose. */
  #ofTenants = new Map<string, number>();

  /** @param secrets never kept of a filter, whatever they look like. */
  constructor(secrets: readonly string[] = []) {
    this.#secrets = secrets;
  }

  /** Whether there is room for no more credentials of this tenant: time to record. */
  full(tenantId: string): boolean {
    return this.#groups.size >= MAX_GROUPS || (this.#ofTenants.get(tenantId) ?? 0) >= MAX_GROUPS_OF_TENANT;
  }

  /**
   * Counts a read.
   * @param atMs ms since the Unix epoch.
   * @returns whether there was room for it.
   */
  add({ log, by, asked, entries }: Read, atMs: number): boolean {
    const filter = JSON.stringify(keptFilter(asked, this.#secrets));
    return this.#merge({
      ...{ log, by, firstMs: atMs, lastMs: atMs, others: NONE },
      filters: new Map([[filter, { reads: 1, entries }]]),
    });
  }

  /** What has been counted since the last time, an event for each credential and log, each with how to count it again. */
  take(): readonly { readonly tenantId: string; readonly event: SystemEvent; readonly putBack: () => void }[] {
    const groups = [...this.#groups.values()];
    this.#groups = new Map();
    this.#ofTenants = new Map();
    return groups.map((group) => ({
      tenantId: group.log.tenantId,
      event: eventOf(group),
      putBack: () => void this.#merge(group),
    }));
  }

  #merge(group: Group): boolean {
    const key = keyOf(group);
    const known = this.#groups.get(key);
    if (known === undefined) {
      const { tenantId } = group.log;
      if (this.full(tenantId)) return false;
      this.#ofTenants.set(tenantId, (this.#ofTenants.get(tenantId) ?? 0) + 1);
    }
    this.#groups.set(key, known === undefined ? bounded(group, group.filters) : together(known, group));
    return true;
  }
}

function keyOf({ log, by }: Group): string {
  return JSON.stringify([log.tenantId, log.name, by.credential?.kind, by.credential?.id]);
}

function together(known: Group, group: Group): Group {
  const filters = new Map(known.filters);
  for (const [filter, count] of group.filters) filters.set(filter, sum(filters.get(filter) ?? NONE, count));
  return bounded(
    {
      ...known,
      firstMs: Math.min(known.firstMs, group.firstMs),
      lastMs: Math.max(known.lastMs, group.lastMs),
      others: sum(known.others, group.others),
    },
    filters,
  );
}

/** A group with as many of these filters as there is room for. */
function bounded(group: Group, filters: ReadonlyMap<string, Count>): Group {
  const kept = new Map<string, Count>();
  let { others } = group;
  let bytes = 0;
  for (const [filter, count] of filters) {
    const size = Buffer.byteLength(filter);
    if (kept.size < MAX_FILTERS && bytes + size <= MAX_FILTER_BYTES) {
      kept.set(filter, count);
      bytes += size;
    } else {
      others = sum(others, count);
    }
  }
  return { ...group, filters: kept, others };
}

function sum(a: Count, b: Count): Count {
  return { reads: a.reads + b.reads, entries: a.entries + b.entries };
}

function eventOf({ log, by, firstMs, lastMs, filters, others }: Group): SystemEvent {
  const shown = [...filters].map(([filter, count]) => ({ filter: JSON.parse(filter) as JsonObject, ...count }));
  const all = [...filters.values()].reduce(sum, others);
  return {
    action: "tallystick.log.read",
    ...byWhom({ ...by, requestId: undefined }), // one of many
    resource: { type: "log", id: log.name },
    outcome: "success",
    operation: "VIEW",
    occurred_at: entryTime(lastMs),
    metadata: {
      ...all,
      first_at: entryTime(firstMs),
      last_at: entryTime(lastMs),
      filters: shown,
      ...(others.reads > 0 && { others: { ...others } }),
    },
  };
}
