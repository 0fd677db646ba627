/**
 * The watched watcher: what is done with the log itself, and who was turned away, become entries of the log.
 */

import type { By } from "../access/by.ts";
import type { LogIdentity } from "../log/identity.ts";
import { LeafTooLargeError } from "../log/prepare.ts";
import type { SystemEvent } from "../log/system.ts";
import type { VerifyReport } from "../verify/report.ts";
import { type Export, exportedEvent, verifiedEvent } from "./acts.ts";
import { type Denial, Denials } from "./denials.ts";
import { type Read, Reads } from "./reads.ts";
import { type RecordParts, recordEvents } from "./record.ts";

export interface WatchOptions extends RecordParts {
  /** How often what is gathered in memory is recorded. */
  readonly intervalMs: number;
  /** Whether reads are told of as well. */
  readonly recordReads: boolean;
  /** Known secrets: never kept of what somebody searched for. */
  readonly secrets?: readonly string[];
  /** Our clock, in ms since the Unix epoch. */
  readonly now?: () => number;
  /** Told of what could not be recorded, and will be tried again; without an error where it will not. */
  readonly onError: (error: unknown, what: string) => void;
}

/** Logs that are recorded in side by side. */
const MAX_AT_A_TIME = 20;
/** Results of verifications that are kept until they can be recorded. */
const MAX_WAITING = 1_000;

/** An event, and how to gather it again where it cannot be recorded. */
interface Gathered {
  readonly event: SystemEvent;
  readonly putBack: () => void;
}

export class Watch {
  readonly #options: WatchOptions;
  readonly #now: () => number;
  readonly #timer: NodeJS.Timeout;
  readonly #denials = new Denials();
  readonly #reads: Reads;
  /** Reads that there was no room for, since that was last told. */
  #uncounted = 0;
  readonly #waiting: { readonly tenantId: string; readonly event: SystemEvent }[] = [];
  #flushing = Promise.resolve();
  /** Whether it has been recorded before its time since the last time. */
  #early = false;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#reads = new Reads(options.secrets);
    this.#timer = setInterval(() => {
      this.#early = false;
      void this.flush();
    }, options.intervalMs).unref();
  }

  /** Counts a refused credential; costs memory, and little of it, until it is recorded. */
  denied(denial: Denial): void {
    this.#denials.add(denial, this.#now());
  }

  /** Counts a read of entries; costs memory, and little of it, until it is recorded. */
  read(read: Read): void {
    if (!this.#options.recordReads) return;
    if (!this.#reads.add(read, this.#now())) this.#uncounted++;
    if (!this.#early && this.#reads.full(read.log.tenantId)) {
      this.#early = true;
      void this.flush();
    }
  }

  /**
   * Records that entries are about to be exported. Before the first of them is sent.
   * @throws {import("../log/errors.ts").AppendError} where it cannot be recorded: nothing may be exported then.
   */
  async exported(log: LogIdentity, by: By, what: Export): Promise<void> {
    await recordEvents(this.#options, log.tenantId, [exportedEvent(log, by, what, this.#options.secrets ?? [])]);
  }

  /**
   * Records what a verification found. Where it cannot be recorded now it is tried again later: a report that says what is wrong
   * must not be withheld because something is.
   */
  async verified(log: LogIdentity, by: By, report: VerifyReport, serviceId: string | undefined): Promise<void> {
    const event = verifiedEvent(log, by, report, serviceId);
    try {
      await recordEvents(this.#options, log.tenantId, [event]);
    } catch (error) {
      this.#options.onError(error, event.action);
      if (this.#waiting.length < MAX_WAITING) this.#waiting.push({ tenantId: log.tenantId, event });
    }
  }

  /** Records what has been gathered. What cannot be recorded is gathered on. */
  flush(): Promise<void> {
    this.#flushing = this.#flushing.then(() => this.#record());
    return this.#flushing;
  }

  /** Records what is left; before the sequencer is drained. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.flush();
  }

  async #record(): Promise<void> {
    const denials = this.#denials.take();
    const waiting = this.#waiting.splice(0).map((one) => ({ ...one, putBack: () => void this.#waiting.push(one) }));
    const gathered = [...waiting, ...this.#reads.take()];
    if (this.#uncounted > 0) {
      this.#options.onError(
        undefined,
        `${this.#uncounted} reads, by more credentials than are told apart, not counted`,
      );
      this.#uncounted = 0;
    }
    await this.#try(denials, async (events) => {
      const operator = await this.#options.tenants.operatorLog();
      await recordEvents(this.#options, operator.tenantId, events);
    });
    const ofTenants = [...Map.groupBy(gathered, ({ tenantId }) => tenantId)];
    // Some at a time: what can wait a minute must not fill the queue of what cannot.
    for (let next = 0; next < ofTenants.length; next += MAX_AT_A_TIME) {
      const some = ofTenants.slice(next, next + MAX_AT_A_TIME);
      await Promise.all(
        some.map(([tenantId, own]) => this.#try(own, (events) => recordEvents(this.#options, tenantId, events))),
      );
    }
  }

  async #try(gathered: readonly Gathered[], record: (events: readonly SystemEvent[]) => Promise<void>): Promise<void> {
    if (gathered.length === 0) return;
    try {
      await record(gathered.map(({ event }) => event));
    } catch (error) {
      if (error instanceof LeafTooLargeError && gathered.length > 1) {
        // Nothing of them is recorded: all but the one that is too large can be.
        const half = gathered.length >> 1;
        await this.#try(gathered.slice(0, half), record);
        await this.#try(gathered.slice(half), record);
        return;
      }
      // One that is too large would be so for ever.
      if (!(error instanceof LeafTooLargeError)) for (const one of gathered) one.putBack();
      this.#options.onError(error, [...new Set(gathered.map(({ event }) => event.action))].join(", "));
    }
  }
}
