/**
 * Limits that replicas share: what each has let through is told to the database about once a second, and what all of them have
 * left comes back. No request waits for it; without the database each server goes on by what it knows.
 */
import type { Bucket } from "./bucket.ts";
import type { RateLimits } from "./rate-limits.ts";

const EXCHANGE_MS = 1_000;
/** Rows of buckets that are full again are deleted every so many exchanges. */
const FORGET_EVERY = 600;

/** The database, as far as it is needed here. */
interface Store {
  query(text: string, values: unknown[]): Promise<Record<string, unknown>[]>;
}

export class SharedUse {
  readonly #store: Store;
  readonly #limits: RateLimits;
  readonly #onError: (error: unknown) => void;
  readonly #timer: NodeJS.Timeout;
  #exchanging: Promise<void> | undefined;
  #exchanges = 0;
  #failed = false;

  /** @param onError told once of each time that the database cannot be reached. */
  constructor(store: Store, limits: RateLimits, onError: (error: unknown) => void) {
    this.#store = store;
    this.#limits = limits;
    this.#onError = onError;
    this.#timer = setInterval(() => void this.exchange(), EXCHANGE_MS).unref();
  }

  /** Tells what was used since the last time, and takes over what is left; never throws. One at a time. */
  exchange(): Promise<void> {
    this.#exchanging ??= this.#exchange().finally(() => {
      this.#exchanging = undefined;
    });
    return this.#exchanging;
  }

  /** The last exchange: what was used here counts for the others, and after a restart. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#exchanging;
    await this.exchange();
  }

  async #exchange(): Promise<void> {
    const told = new Map<string, { bucket: Bucket; used: number }>();
    for (const [key, bucket] of this.#limits.inUse()) told.set(key, { bucket, used: bucket.takeUsed() });
    if (told.size === 0) return;
    const shown = [...told.values()];
    try {
      const rows = await this.#store.query("select key, level from tallystick.use_rate_limits($1, $2, $3)", [
        [...told.keys()],
        shown.map(({ used }) => used),
        shown.map(({ bucket }) => bucket.limit),
      ]);
      for (const { key, level } of rows) {
        const { bucket } = told.get((key as string).replaceAll("-", ""))!;
        bucket.settle(Number(level) - bucket.used); // less what was taken while this was under way
      }
      if (++this.#exchanges % FORGET_EVERY === 0) await this.#store.query("select tallystick.forget_rate_limits()", []);
      this.#failed = false;
    } catch (error) {
      // Perhaps it was counted, and is counted again: limits are rather too tight for a moment than too wide.
      for (const { bucket, used } of shown) bucket.untold(used);
      if (!this.#failed) this.#onError(error);
      this.#failed = true;
    }
  }
}
