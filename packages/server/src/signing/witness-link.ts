/**
 * One witness: which logs' checkpoints it is asked to cosign, when, and what came of it. Nobody waits for it.
 */
import { identity } from "@tallystick/core/note";
import type { LogIdentity } from "../log/identity.ts";
import type { SignedCheckpoint } from "./published.ts";
import { type Cosigned, type Dialogue, haveCosigned } from "./witness-dialogue.ts";
import { askWitness, type WitnessAddress, WitnessFault } from "./witness-request.ts";

/**
 * How it stands between a witness and a log: `waiting` before the first answer; `unproved` where this server could not make the proof,
 * or keep the cosignature; otherwise as {@link WitnessFault} has it.
 */
export interface WitnessStatus {
  readonly status: "ok" | "waiting" | "unproved" | WitnessFault["code"];
  readonly since?: Date;
  readonly detail?: string;
}

export interface LinkOptions {
  readonly timeoutMs: number;
  readonly logger: WitnessLogger;
  prove(log: LogIdentity, oldSize: number, checkpoint: SignedCheckpoint): ReturnType<Dialogue["prove"]>;
  newest(log: LogIdentity): ReturnType<Dialogue["newest"]>;
  keep(log: LogIdentity, cosigned: Cosigned): Promise<void>;
}

export interface WitnessLogger {
  error(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  info(message: string): void;
}

type Failure = Required<WitnessStatus>;

/** A log's place with the witness. At most one request of a log is under way. */
interface Lane {
  readonly log: LogIdentity;
  /** The newest checkpoint that it has not been asked for: those between are left out. */
  pending: SignedCheckpoint | undefined;
  state: "idle" | "queued" | "asking" | "resting";
  /** What the witness cosigned last, as far as we know. */
  cosigned: number;
  /** The newest whose cosignature is in the database. */
  kept: number | undefined;
  failure: Failure | undefined;
  failures: number;
  timer: NodeJS.Timeout | undefined;
}

// Requests at a time; one where it is silent, to see whether it is back.
const CONCURRENCY = 4;
const FIRST_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 60_000;

export class WitnessLink {
  readonly address: WitnessAddress;
  readonly #options: LinkOptions;
  readonly #lanes = new Map<number, Lane>();
  readonly #queue: Lane[] = [];
  readonly #requests = new Set<AbortController>();
  readonly #asking = new Set<Promise<void>>();
  #silence: Failure | undefined;
  #silences = 0;
  #pause: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(address: WitnessAddress, options: LinkOptions) {
    this.address = address;
    this.#options = options;
  }

  /** A checkpoint was published: the witness is asked as soon as may be. Costs nothing, and never throws. */
  offer(log: LogIdentity, checkpoint: SignedCheckpoint): void {
    let lane = this.#lanes.get(log.logId);
    if (lane === undefined) {
      lane = {
        log,
        pending: undefined,
        state: "idle",
        cosigned: 0,
        kept: undefined,
        failure: undefined,
        failures: 0,
        timer: undefined,
      };
      this.#lanes.set(log.logId, lane);
    }
    if (lane.kept === checkpoint.size || (lane.pending?.size ?? -1) > checkpoint.size) return;
    lane.pending = checkpoint;
    if (lane.state === "idle") this.#enqueue(lane);
  }

  statusOf(logId: number): WitnessStatus {
    const lane = this.#lanes.get(logId);
    const failure = lane?.failure ?? this.#silence;
    return failure ?? { status: lane?.kept === undefined ? "waiting" : "ok" };
  }

  /** The witness's silence, or the logs that it does not cosign. */
  get failures(): { readonly log?: string; readonly failure: Failure }[] {
    if (this.#silence !== undefined) return [{ failure: this.#silence }];
    return this.failing.map(({ log, failure }) => ({ log: log.name, failure }));
  }

  get failing(): { readonly log: LogIdentity; readonly failure: Failure }[] {
    return [...this.#lanes.values()].flatMap(({ log, failure }) => (failure === undefined ? [] : [{ log, failure }]));
  }

  /** The log is closed, and what was wrong with it does not matter to anyone any more. */
  drop(logId: number): void {
    const lane = this.#lanes.get(logId);
    if (lane?.state !== "resting") return;
    clearTimeout(lane.timer);
    this.#lanes.delete(logId);
  }

  /** Ends what is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#pause);
    for (const { timer } of this.#lanes.values()) clearTimeout(timer);
    for (const request of this.#requests) request.abort();
    await Promise.all(this.#asking);
  }

  #enqueue(lane: Lane): void {
    lane.state = "queued";
    this.#queue.push(lane);
    this.#next();
  }

  #next(): void {
    while (!this.#stopped && this.#pause === undefined && this.#asking.size < (this.#silences > 0 ? 1 : CONCURRENCY)) {
      const lane = this.#queue.shift();
      if (lane === undefined) return;
      const asking = this.#ask(lane).then(() => {
        this.#asking.delete(asking);
        this.#next();
      });
      this.#asking.add(asking);
    }
  }

  async #ask(lane: Lane): Promise<void> {
    const checkpoint = lane.pending!;
    lane.pending = undefined;
    lane.state = "asking";
    try {
      const cosigned = await haveCosigned(this.#dialogue(lane), checkpoint, lane.cosigned);
      lane.cosigned = cosigned.checkpoint.size;
      await this.#options.keep(lane.log, cosigned);
      lane.kept = cosigned.checkpoint.size;
      this.#answered();
      this.#recovered(lane);
    } catch (error) {
      if (this.#stopped) return;
      lane.pending ??= checkpoint;
      this.#failed(lane, error);
    }
  }

  #dialogue({ log }: Lane): Dialogue {
    const { prove, newest, logger } = this.#options;
    return {
      ask: (request) => this.#request((signal) => askWitness(this.address, request, signal)),
      prove: (oldSize, checkpoint) => prove(log, oldSize, checkpoint),
      newest: () => newest(log),
      wentBack: (from, to) =>
        logger.warn(
          { witness: this.#name, log: log.name },
          `the witness ${this.#name} says it has cosigned size ${to} of ${log.name}, and had cosigned ${from}: it has lost what it knew, and what it vouches for is worth less`,
        ),
    };
  }

  async #request<T>(ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const request = new AbortController();
    if (this.#stopped) request.abort();
    const timer = setTimeout(() => request.abort(), this.#options.timeoutMs);
    this.#requests.add(request);
    try {
      return await ask(request.signal);
    } finally {
      clearTimeout(timer);
      this.#requests.delete(request);
    }
  }

  #recovered(lane: Lane): void {
    if (lane.failure !== undefined) {
      this.#options.logger.info(`the witness ${this.#name} cosigns ${lane.log.name} again`);
    }
    lane.failure = undefined;
    lane.failures = 0;
    lane.state = "idle";
    if (lane.pending !== undefined) this.#enqueue(lane);
  }

  #failed(lane: Lane, error: unknown): void {
    const detail = (error as Error).message;
    if (error instanceof WitnessFault && error.code === "silent") {
      this.#wait(detail);
      lane.state = "queued";
      this.#queue.push(lane);
      return;
    }
    const status = error instanceof WitnessFault ? error.code : "unproved";
    if (status !== "unproved") this.#answered();
    if (lane.failure?.status !== status) {
      this.#report(lane.log, status, detail, error);
      lane.failure = { status, since: new Date(), detail };
    }
    lane.failure = { ...lane.failure, detail };
    lane.state = "resting";
    lane.timer = setTimeout(() => this.#enqueue(lane), pauseAfter(lane.failures++)).unref();
  }

  /** It does not answer: nobody asks it for a while, and then one. */
  #wait(detail: string): void {
    if (this.#silence === undefined) {
      this.#options.logger.warn(
        { witness: this.#name },
        `the witness ${this.#name} at ${this.address.url} does not answer (${detail}): nothing waits for it, and it is asked again`,
      );
      this.#silence = { status: "silent", since: new Date(), detail };
    }
    this.#silence = { ...this.#silence, detail };
    // Those that were under way together are one failure.
    if (this.#pause !== undefined) return;
    this.#pause = setTimeout(
      () => {
        this.#pause = undefined;
        this.#next();
      },
      pauseAfter(this.#silences++),
    ).unref();
  }

  #answered(): void {
    if (this.#silence !== undefined) this.#options.logger.info(`the witness ${this.#name} answers again`);
    this.#silence = undefined;
    this.#silences = 0;
  }

  #report(log: LogIdentity, status: WitnessStatus["status"], detail: string, error: unknown): void {
    const { logger } = this.#options;
    const facts = { witness: this.#name, log: log.name };
    if (status === "conflict") {
      logger.error(
        facts,
        `THE WITNESS ${this.#name} SAW ANOTHER HISTORY OF ${log.name}: ${detail}. Recording goes on; find out who else signs with the log's key, or what was restored: docs/witnesses.md, "The alarm"`,
      );
    } else if (status === "unproved") {
      logger.error({ ...facts, err: error }, `${log.name} could not be shown to the witness ${this.#name}: ${detail}`);
    } else {
      logger.warn(facts, `the witness ${this.#name} does not cosign ${log.name}: ${detail}`);
    }
  }

  get #name(): string {
    return identity(this.address.key);
  }
}

/** Doubles from a second to a minute; spread, so that servers that lost a witness together do not come back together. */
function pauseAfter(failures: number): number {
  return Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures) * (0.5 + Math.random() / 2);
}
