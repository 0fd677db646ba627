/**
 * Entries against the chain of their service: each names the one before it, and service_heads name the newest of each commit.
 */
import { NO_PREVIOUS } from "@tallystick/core/leaf";
import type { LogIdentity } from "../log/identity.ts";
import type { CheckedEntry } from "./entry.ts";
import type { ProblemList } from "./report.ts";

/** A stored service head. */
export interface ServiceHeadRow {
  readonly serviceId: string;
  readonly seq: number;
  readonly tenantId: string;
  /** Hex. */
  readonly leafHash: string;
}

/** A stretch of one service's chain, whole in itself. */
export interface ChainSegment {
  readonly serviceId: string;
  readonly firstSeq: number;
  readonly firstPrev: string;
  readonly last: CheckedEntry;
  /** Whether the last one lies in a full tile. */
  readonly sealed: boolean;
  /** Whether the last one has a stored head. */
  readonly headed: boolean;
  /** Whether it begins before the first head of its range. */
  readonly inFirstCommit: boolean;
  /** Whether its last entry is behind the last head of its range. */
  readonly open: boolean;
}

/** An entry in its chain. */
interface Link {
  readonly entry: CheckedEntry;
  readonly serviceSeq: number;
  /** Its hash in its full tile, where there is one. */
  readonly sealed: string | undefined;
}

export class ChainCheck {
  readonly #log: LogIdentity;
  readonly #problems: ProblemList;
  readonly #newest = new Map<string, Link>();
  /** The newest entry of each service that has a stored head: its commit may end in a later range. */
  readonly #headed = new Map<string, CheckedEntry>();
  /** The last position whose entry is missing or cannot be trusted: chains that lead across it start anew behind it. */
  #gapAt = -1;

  constructor(log: LogIdentity, problems: ProblemList) {
    this.#log = log;
    this.#problems = problems;
  }

  /** Tells of a position whose entry says nothing about its chain. */
  gap(seq: number): void {
    this.#gapAt = seq;
  }

  /** Checks the log's next entry; entries before `certifiedSize` are known to be as they were recorded. */
  check(entry: CheckedEntry, sealed: string | undefined, certifiedSize: number): void {
    const { service } = entry;
    if (service === undefined) {
      this.gap(entry.seq);
      return;
    }
    const changed = entry.computed !== entry.stored || (sealed !== undefined && sealed !== entry.computed);
    const before = this.#newest.get(service.id);
    const crossesGap = this.#gapAt > (before?.entry.seq ?? -1);
    // What a changed leaf says about its chain is no evidence; that it was changed is reported elsewhere.
    if (!changed && !crossesGap) this.#compare(entry, service, before, certifiedSize);
    if (changed && before !== undefined && service.seq !== before.serviceSeq + 1) this.gap(entry.seq);
    else this.#newest.set(service.id, { entry, serviceSeq: service.seq, sealed });
  }

  #compare(
    entry: CheckedEntry,
    service: NonNullable<CheckedEntry["service"]>,
    before: Link | undefined,
    certifiedSize: number,
  ): void {
    const { seq, id } = entry;
    const serviceSeq = before === undefined ? 0 : before.serviceSeq + 1;
    if (service.seq !== serviceSeq) {
      const gap = service.seq === serviceSeq + 1 ? `${serviceSeq}` : `${serviceSeq} to ${service.seq - 1}`;
      this.#problems.add({
        seq,
        id,
        kind: "chain",
        field: "service.seq",
        stored: `${service.seq}`,
        expected: `${serviceSeq}`,
        detail:
          service.seq > serviceSeq
            ? `entries ${gap} of the chain of "${service.id}" are missing before this one`
            : `the chain of "${service.id}" repeats a number`,
      });
      return;
    }
    if (before === undefined) {
      if (service.prev !== NO_PREVIOUS) {
        this.#problems.add({
          seq,
          id,
          kind: "chain",
          field: "service.prev",
          stored: service.prev,
          expected: NO_PREVIOUS,
          detail: `the first entry of "${service.id}" names one before it`,
        });
      }
      return;
    }
    if (isHashOf(before, service.prev)) return;
    const previous = before.entry;
    const detail = `entry ${seq} (${id}) of "${service.id}" is chained to another hash than that of entry ${previous.seq} (${previous.id})`;
    if (previous.seq < certifiedSize || before.sealed !== undefined) {
      this.#problems.add({
        seq,
        id,
        kind: "chain",
        field: "service.prev",
        stored: service.prev,
        expected: previous.computed,
        detail,
      });
    } else {
      this.#problems.add({
        seq: previous.seq,
        id: previous.id,
        kind: "chain",
        field: "leaf_hash",
        stored: previous.computed,
        expected: service.prev,
        detail,
      });
    }
  }

  /** Whether a stretch begins where the chain of its service has ended. */
  fits({ serviceId, firstSeq, firstPrev }: ChainSegment): boolean {
    const before = this.#newest.get(serviceId);
    if (this.#gapAt > (before?.entry.seq ?? -1)) return true;
    if (before === undefined) return firstSeq === 0 && firstPrev === NO_PREVIOUS;
    return firstSeq === before.serviceSeq + 1 && isHashOf(before, firstPrev);
  }

  /** Goes on behind a stretch that fits. */
  join({ serviceId, last, sealed, headed }: ChainSegment): void {
    const { seq: serviceSeq } = last.service!;
    this.#newest.set(serviceId, { entry: last, serviceSeq, sealed: sealed ? last.computed : undefined });
    if (headed) this.#headed.set(serviceId, last);
  }

  /** Whether an entry, the newest of its service so far, has a stored head. */
  isHeaded(entry: CheckedEntry): boolean {
    return entry.service !== undefined && this.#headed.get(entry.service.id) === entry;
  }

  /**
   * Compares the stored heads of a range of the log with its entries.
   * @param ended the newest entries of services in commits that have ended, in this range or an earlier one: each has a head.
   */
  checkHeads(
    entries: readonly CheckedEntry[],
    heads: readonly ServiceHeadRow[],
    ended: readonly CheckedEntry[],
    certifiedSize: number,
  ): void {
    const stored = new Map<string, Map<number, ServiceHeadRow>>();
    for (const head of heads) {
      const ofService = stored.get(head.serviceId);
      if (ofService === undefined) stored.set(head.serviceId, new Map([[head.seq, head]]));
      else ofService.set(head.seq, head);
    }
    const headed = new Set<CheckedEntry>();
    for (const entry of entries) {
      const { service } = entry;
      const ofService = service === undefined ? undefined : stored.get(service.id);
      const head = ofService?.get(service!.seq);
      if (head === undefined) continue;
      ofService!.delete(head.seq);
      headed.add(entry);
      this.#checkHead(entry, head, certifiedSize);
    }
    for (const entry of ended) {
      const { seq, id, service, computed, stored: column } = entry;
      if (service === undefined || computed !== column || headed.has(entry) || this.isHeaded(entry)) continue;
      const detail = `the head of the chain of "${service.id}" at its number ${service.seq} is missing`;
      this.#problems.add({ seq, id, kind: "service_head", expected: computed, detail });
    }
    for (const entry of headed) this.#headed.set(entry.service!.id, entry);
    for (const ofService of stored.values()) for (const head of ofService.values()) this.#withoutEntry(head);
  }
  #checkHead(entry: CheckedEntry, head: ServiceHeadRow, certifiedSize: number): void {
    const { seq, id, computed, stored } = entry;
    const name = `the head of the chain of "${head.serviceId}" at its number ${head.seq}`;
    if (head.tenantId !== this.#log.tenantId) {
      this.#problems.add({
        seq,
        id,
        kind: "service_head",
        field: "tenant_id",
        stored: head.tenantId,
        expected: this.#log.tenantId,
        detail: `${name} is filed under another tenant than its log`,
      });
    }
    if (head.leafHash === computed || (computed !== stored && head.leafHash === stored)) return;
    if (seq < certifiedSize) {
      this.#problems.add({
        seq,
        id,
        kind: "service_head",
        field: "leaf_hash",
        stored: head.leafHash,
        expected: computed,
        detail: `${name} has another hash than its entry`,
      });
    } else {
      this.#problems.add({
        seq,
        id,
        kind: "chain",
        field: "leaf_hash",
        stored: computed,
        expected: head.leafHash,
        detail: `${name} has another hash than this entry`,
      });
    }
  }

  #withoutEntry(head: ServiceHeadRow): void {
    if (this.#gapAt >= 0) return; // its entry is among those that are missing
    this.#problems.add({
      seq: null,
      id: null,
      kind: "service_head",
      stored: head.leafHash,
      detail: `there is a head of the chain of "${head.serviceId}" at its number ${head.seq}, and no such entry`,
    });
  }

  /** Compares the newest stored head of every service, read with the log's head, with where the chains have ended. */
  finish(newest: readonly ServiceHeadRow[], serviceId: string | undefined): void {
    for (const head of newest) {
      if (serviceId !== undefined && head.serviceId !== serviceId) continue;
      const last = this.#newest.get(head.serviceId);
      if (last === undefined || head.seq > last.serviceSeq) this.#withoutEntry(head);
    }
  }
}

/** Any of the hashes that stand for an entry: where they differ, that is reported elsewhere. */
function isHashOf({ entry, sealed }: Link, hash: string): boolean {
  return hash === entry.computed || hash === entry.stored || hash === sealed;
}
