/**
 * One stream: from the log up to where its follower is, then live, and back to the log whenever its client was too slow. Position is
 * everything: what lies before it has been sent or does not match, what lies behind it has not been sent.
 */
import { type Filter, type Matcher, matcherOf } from "@tallystick/core/filter";
import type { Backlog } from "./backlog.ts";
import type { Follower, Follows } from "./follower.ts";
import { type EndReason, Item, type Message, messageFor } from "./messages.ts";
import type { CloseCode, Outlet } from "./outlet.ts";

/** How a stream ends, in words for its client. */
export interface End {
  readonly reason: EndReason;
  readonly detail: string;
  readonly code: CloseCode;
}

export interface SubscriptionOptions {
  readonly filter: Filter;
  readonly outlet: Outlet;
  readonly follower: Follower;
  readonly backlog: Backlog;
  /** The first position that is wanted. */
  readonly from: number;
  /** Where it ends; undefined: never. */
  readonly until: number | undefined;
  /** What may wait for a client before it counts as slow, in bytes. */
  readonly bufferBytes: number;
  /** Told each time that a client was too slow. */
  readonly onLagging: () => void;
  /** Resolves when it is time to try again after the log could not be read. */
  readonly pause: () => Promise<void>;
  readonly onError: (error: unknown) => void;
}

const END_OF_LOG: End = {
  reason: "end_of_log",
  detail: "All that was there when you asked has been sent.",
  code: "normal",
};

export class Subscription implements Follows {
  readonly filter: Filter;
  readonly #options: SubscriptionOptions;
  readonly #matches: Matcher;
  readonly #outlet: Outlet;
  #position: number;
  #entries = 0;
  #live = false;
  #end: End | undefined;
  /** Called when it is live no more, or ended. */
  #wake = () => {};

  constructor(options: SubscriptionOptions) {
    this.filter = options.filter;
    this.#options = options;
    this.#matches = matcherOf(options.filter);
    this.#outlet = options.outlet;
    this.#position = options.from;
    void this.#outlet.closed.then(() => this.#leave());
  }

  get position(): number {
    return this.#position;
  }

  /** Entries that were sent. */
  get entries(): number {
    return this.#entries;
  }

  /** Everything before this has been sent or does not match. */
  get considered(): number {
    return this.#live ? Math.max(this.#position, this.#options.follower.position) : this.#position;
  }

  /** Sends until the client has gone or {@link end} is called, and all before the end has been given to the connection. Never throws. */
  async run(): Promise<void> {
    this.#tell({ type: "heartbeat", seq: this.#position });
    while (!this.#isOver) {
      if (this.#isDone) this.#end ??= END_OF_LOG;
      else if (this.#join()) await this.#follow();
      else await this.#catchUp();
    }
    if (this.#outlet.isClosed) return;
    const { reason, detail, code } = this.#end!;
    this.#tell({ type: "end", reason, detail, seq: this.#position });
    this.#outlet.finish(code);
  }

  /** Ends it behind what has been sent. The first reason counts. */
  end(end: End): void {
    this.#end ??= end;
    this.#leave();
  }

  /** Says where it stands, where nothing waits: whatever waits says as much once it arrives. */
  heartbeat(): void {
    if (!this.#isOver && this.#outlet.waiting === 0) this.#tell({ type: "heartbeat", seq: this.considered });
  }

  offer(item: Item): void {
    const { entry, line } = item;
    if (!this.#live || entry.seq < this.#position || !this.#matches(entry.opened, line)) return;
    if (this.#isFull) {
      this.#position = entry.seq;
      this.#leave();
      return;
    }
    this.#send(item);
  }

  get #isOver(): boolean {
    return this.#end !== undefined || this.#outlet.isClosed;
  }

  get #isDone(): boolean {
    const { until } = this.#options;
    return until !== undefined && this.#position >= until;
  }

  get #isFull(): boolean {
    return this.#outlet.waiting > this.#options.bufferBytes;
  }

  /** Goes live, where what it has not been given is there to be had at once. */
  #join(): boolean {
    const { until, follower } = this.#options;
    if (until !== undefined) return false;
    this.#live = true; // it is offered what it has missed meanwhile, and may be too slow for that already
    const joined = follower.join(this);
    if (!joined) this.#live = false;
    return joined;
  }

  /** Waits while it is live; says so where it is so no more because its client was too slow. */
  async #follow(): Promise<void> {
    if (this.#live) await new Promise<void>((resolve) => (this.#wake = resolve));
    if (this.#isOver) return;
    this.#options.onLagging();
    const { position: seq } = this;
    // The follower may not be done with the entry that there was no room for.
    const behind = Math.max(1, this.#options.follower.position - seq);
    this.#tell({ type: "lagging", seq, behind });
    await this.#emptied();
  }

  /** Reads what the follower has gone past, as fast as the client takes it. */
  async #catchUp(): Promise<void> {
    const { backlog, follower, until, onError, pause } = this.#options;
    try {
      const piece = await backlog.next(this.#position, until ?? follower.position);
      let sent = 0;
      for (const entry of piece.entries) {
        // What is not sent is read again, rather than kept for as long as the client likes.
        if (this.#isOver || this.#isFull) break;
        this.#send(new Item(entry));
        sent++;
      }
      backlog.took(sent, piece);
      if (sent === piece.entries.length) this.#position = piece.position;
      else await this.#emptied();
    } catch (error) {
      onError(error);
      await pause();
    }
  }

  #send(item: Item): void {
    this.#outlet.write(item.for(this.#outlet.carrier));
    this.#position = item.entry.seq + 1;
    this.#entries++;
  }

  #tell(message: Message): void {
    this.#outlet.write(messageFor(this.#outlet.carrier, message));
  }

  async #emptied(): Promise<void> {
    if (!this.#isOver) await Promise.race([this.#outlet.emptied(), new Promise<void>((wake) => (this.#wake = wake))]);
  }

  #leave(): void {
    if (this.#live) {
      this.#options.follower.leave(this);
      this.#position = this.#isOver ? this.considered : this.#position;
      this.#live = false;
    }
    this.#wake();
  }
}
