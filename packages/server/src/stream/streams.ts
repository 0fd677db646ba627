/**
 * All streams of this server: how many there may be, one follower for each log that is followed, and their end.
 */
import type { Filter } from "@tallystick/core/filter";
import type { Database } from "../db/database.ts";
import type { LogIdentity } from "../log/identity.ts";
import { Reader } from "../log/reader.ts";
import { Backlog } from "./backlog.ts";
import { Follower } from "./follower.ts";
import type { Growth } from "./growth.ts";
import type { Carrier } from "./messages.ts";
import type { Outlet } from "./outlet.ts";
import { Slots } from "./slots.ts";
import { type End, Subscription } from "./subscription.ts";
import { TailReader } from "./tail-reader.ts";
import { Turns } from "./turns.ts";

export interface StreamLimits {
  /** Open at a time. */
  readonly streamsMax: number;
  /** The same of one tenant. */
  readonly streamsMaxPerTenant: number;
  /** What may wait for a client before it counts as slow, in bytes. */
  readonly streamBufferBytes: number;
  /** How often a stream says where it stands, and its credential is looked at again, in ms. */
  readonly streamHeartbeatMs: number;
  /** Ends a stream whose client takes nothing of what waits, in ms. */
  readonly stalledTimeoutMs: number;
}

export interface StreamsParts {
  readonly database: Database;
  readonly growth: Growth;
  readonly limits: StreamLimits;
  readonly metrics: {
    streamOpened(carrier: Carrier): void;
    streamClosed(carrier: Carrier): void;
    streamLagging(): void;
    countWaiting(waiting: () => number): void;
  };
  readonly logger: { warn(facts: object, message: string): void };
}

/** What a client has asked for, and has a place for. */
export interface StreamRequest {
  readonly log: LogIdentity;
  readonly filter: Filter;
  /** The first position that is wanted. */
  readonly from: number;
  /** Where it ends; undefined: never. */
  readonly until: number | undefined;
  readonly outlet: Outlet;
  /**
   * Looks whether its client may still have it, and whether its log is still written to; the end that it is given where not.
   * `considered`: it has been sent all before this.
   */
  readonly recheck: (considered: number) => Promise<End | undefined>;
}

/** There is no place for another stream. */
export class StreamsFullError extends Error {
  readonly code: "tenant_full" | "server_full" | "stopping";
  constructor(code: StreamsFullError["code"], message: string) {
    super(message);
    this.name = "StreamsFullError";
    this.code = code;
  }
}

/** At least so often a follower looks by itself, where few logs are followed: each look is a query. */
const POLL_MS = 1_000;
const POLL_MS_A_LOG = 10;
/** How many streams read what lies behind at a time. */
const BACKLOG_READS = 2;
/** How long a client may take for the last message at the server's end. */
const LAST_WORDS_MS = 1_000;

const STOPPING: End = {
  reason: "server_stopping",
  detail: "The server stops: connect again, and go on from seq.",
  code: "away",
};

interface Followed {
  readonly follower: Promise<Follower>;
  streams: number;
}

export class Streams {
  readonly #parts: StreamsParts;
  readonly #tail: TailReader;
  readonly #reader: Reader;
  readonly #slots = new Slots(BACKLOG_READS);
  readonly #turns = new Turns();
  readonly #followed = new Map<number, Followed>();
  readonly #followers = new Map<number, Follower>();
  readonly #open = new Map<Subscription, { readonly outlet: Outlet; readonly done: Promise<void> }>();
  readonly #places = new Map<string, number>();
  readonly #stopGrowth: () => void;
  #taken = 0;
  #stopping = false;

  constructor(parts: StreamsParts) {
    this.#parts = parts;
    this.#tail = new TailReader(parts.database);
    this.#reader = new Reader(parts.database);
    parts.metrics.countWaiting(() => [...this.#open.values()].reduce((sum, { outlet }) => sum + outlet.waiting, 0));
    this.#stopGrowth = parts.growth.onGrowth((logId) => this.#followers.get(logId)?.grew());
  }

  /**
   * Takes a place for a stream of this tenant.
   * @returns what gives it back; more than once is as good as once. @throws {StreamsFullError}
   */
  reserve(tenantId: string): () => void {
    const { streamsMax, streamsMaxPerTenant } = this.#parts.limits;
    const own = this.#places.get(tenantId) ?? 0;
    if (this.#stopping) throw new StreamsFullError("stopping", "The server stops: connect again in a moment.");
    if (own >= streamsMaxPerTenant) {
      const detail = `The tenant has ${own} streams open on this server, as many as it may (STREAMS_MAX_PER_TENANT): end one.`;
      throw new StreamsFullError("tenant_full", detail);
    }
    if (this.#taken >= streamsMax) {
      throw new StreamsFullError("server_full", "The server has as many streams open as it may: try again later.");
    }
    this.#taken++;
    this.#places.set(tenantId, own + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#taken--;
      const left = this.#places.get(tenantId)! - 1;
      if (left === 0) this.#places.delete(tenantId);
      else this.#places.set(tenantId, left);
    };
  }

  /** Entries that a log has now. */
  size(log: LogIdentity): Promise<number> {
    return this.#tail.size(log);
  }

  /**
   * Sends a stream until its client has gone or something ends it; resolves with the number of entries that were sent, once the
   * connection is closed. Never rejects.
   */
  async serve(request: StreamRequest): Promise<number> {
    const { log, outlet } = request;
    const { metrics } = this.#parts;
    metrics.streamOpened(outlet.carrier);
    try {
      const follower = await this.#follow(log);
      return await this.#serve(request, follower);
    } catch (error) {
      this.#parts.logger.warn({ err: error }, "a stream was ended: its log could not be followed");
      outlet.destroy();
      return 0;
    } finally {
      metrics.streamClosed(outlet.carrier);
      await this.#release(log.logId);
    }
  }

  async #serve({ log, filter, from, until, outlet, recheck }: StreamRequest, follower: Follower): Promise<number> {
    const { limits, logger, metrics } = this.#parts;
    let failed = false;
    const subscription = new Subscription({
      ...{ filter, outlet, follower, from, until },
      backlog: new Backlog(
        { reader: this.#reader, tail: this.#tail, slots: this.#slots, turns: this.#turns },
        log,
        filter,
      ),
      bufferBytes: limits.streamBufferBytes,
      onLagging: () => metrics.streamLagging(),
      pause: () => new Promise((resolve) => setTimeout(resolve, POLL_MS)),
      onError: (error) => {
        if (!failed) logger.warn({ err: error, log: log.name }, "a stream waits: what it is behind cannot be read");
        failed = true;
      },
    });
    const beat = setInterval(() => {
      if (outlet.stalledMs > limits.stalledTimeoutMs) return outlet.destroy();
      subscription.heartbeat();
      void recheck(subscription.considered).then((end) => end && subscription.end(end));
    }, limits.streamHeartbeatMs);
    const done = subscription.run().then(async () => {
      clearInterval(beat);
      await this.#lastWords(outlet);
    });
    this.#open.set(subscription, { outlet, done });
    if (this.#stopping) subscription.end(STOPPING);
    await done;
    this.#open.delete(subscription);
    return subscription.entries;
  }

  /** Ends all streams, each with a word why, and lets no new one begin. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#stopGrowth();
    for (const subscription of this.#open.keys()) subscription.end(STOPPING);
    await Promise.all([...this.#open.values()].map(({ done }) => done));
    for (const follower of this.#followers.values()) follower.stop();
  }

  /** A client that reads what it is sent reads the end too, and the connection goes; no longer than it is worth. */
  async #lastWords(outlet: Outlet): Promise<void> {
    const limitMs = this.#stopping ? LAST_WORDS_MS : this.#parts.limits.stalledTimeoutMs;
    const timer = setTimeout(() => outlet.destroy(), limitMs);
    await outlet.closed;
    clearTimeout(timer);
  }

  async #follow(log: LogIdentity): Promise<Follower> {
    const { logId } = log;
    const known = this.#followed.get(logId);
    if (known !== undefined) {
      known.streams++;
      return known.follower;
    }
    const follower = this.#tail.size(log).then((size) => {
      const started = new Follower(
        {
          log,
          reader: this.#tail,
          turns: this.#turns,
          pollMs: () => Math.max(POLL_MS, this.#followers.size * POLL_MS_A_LOG),
          onError: (error) =>
            this.#parts.logger.warn({ err: error, log: log.name }, "streams wait: the log cannot be read"),
        },
        size,
      );
      this.#followers.set(logId, started);
      return started;
    });
    this.#followed.set(logId, { follower, streams: 1 });
    return follower;
  }

  async #release(logId: number): Promise<void> {
    const followed = this.#followed.get(logId)!;
    if (--followed.streams > 0) return;
    this.#followed.delete(logId);
    const follower = await followed.follower.catch(() => undefined); // whoever waited for it has told
    follower?.stop();
    if (this.#followers.get(logId) === follower) this.#followers.delete(logId);
  }
}
