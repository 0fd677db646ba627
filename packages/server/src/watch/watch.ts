/**
 * The watched watcher: what is done with the log itself, and who was turned away, become entries of the log.
 */
import type { LogIdentity } from "../log/identity.ts";
import { LeafTooLargeError } from "../log/prepare.ts";
import type { SystemEvent } from "../log/system.ts";
import type { VerifyReport } from "../verify/report.ts";
import { type Export, exportedEvent, verifiedEvent } from "./acts.ts";
import type { By } from "./by.ts";
import { type Denial, Denials } from "./denials.ts";
import { type RecordParts, recordEvents } from "./record.ts";

export interface WatchOptions extends RecordParts {
  /** How often what is gathered in memory is recorded. */
  readonly intervalMs: number;
  /** Our clock, in ms since the Unix epoch. */
  readonly now?: () => number;
  /** Told of what could not be recorded, and will be tried again. */
  readonly onError: (error: unknown, what: string) => void;
}

/** Results of verifications that are kept until they can be recorded. */
const MAX_WAITING = 1_000;

export class Watch {
  readonly #options: WatchOptions;
  readonly #now: () => number;
  readonly #timer: NodeJS.Timeout;
  readonly #denials = new Denials();
  #waiting: { readonly tenantId: string; readonly event: SystemEvent }[] = [];
  #flushing = Promise.resolve();

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#timer = setInterval(() => void this.flush(), options.intervalMs).unref();
  }

  /** Counts a refused credential; costs memory, and little of it, until it is recorded. */
  denied(denial: Denial): void {
    this.#denials.add(denial, this.#now());
  }

  /**
   * Records that entries are about to be exported. Before the first of them is sent.
   * @throws {import("../log/errors.ts").AppendError} where it cannot be recorded: nothing may be exported then.
   */
  async exported(log: LogIdentity, by: By, what: Export): Promise<void> {
    await recordEvents(this.#options, log.tenantId, [exportedEvent(log, by, what)]);
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
      this.#options.onError(error, "that a log was verified");
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
    const waiting = this.#waiting;
    this.#waiting = [];
    await Promise.all([
      this.#try("refused credentials", denials.events, denials.putBack, async () => {
        const operator = await this.#options.tenants.operatorLog();
        await recordEvents(this.#options, operator.tenantId, denials.events);
      }),
      ...[...Map.groupBy(waiting, ({ tenantId }) => tenantId)].map(([tenantId, some]) => {
        const events = some.map(({ event }) => event);
        const putBack = () => this.#waiting.push(...some);
        return this.#try("that a log was verified", events, putBack, () =>
          recordEvents(this.#options, tenantId, events),
        );
      }),
    ]);
  }

  async #try(
    what: string,
    events: readonly SystemEvent[],
    putBack: () => void,
    record: () => Promise<void>,
  ): Promise<void> {
    if (events.length === 0) return;
    try {
      await record();
    } catch (error) {
      if (!(error instanceof LeafTooLargeError)) putBack(); // that one would be so for ever
      this.#options.onError(error, what);
    }
  }
}
