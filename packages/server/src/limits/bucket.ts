/**
 * Token buckets: how much each tenant, credential or address may still do. They fill evenly, and are full after a minute.
 */
import { TokenBucket } from "limiter";

/** In how many seconds an empty bucket is full. */
export const WINDOW_SECONDS = 60;

/**
 * A bucket of `limit` tokens that fills with as many a minute, full at first. Whoever finds a token in it may take any number:
 * a request that costs more than there is leaves a debt, which is paid before the next is let through. So every request
 * is let through at some time, and in the long run no more than the limit is.
 */
export class Bucket {
  readonly #tokens: TokenBucket;
  #limit: number;
  #used = 0;

  /** @param limit tokens a minute, 1 or more. */
  constructor(limit: number) {
    this.#limit = limit;
    this.#tokens = new TokenBucket({ bucketSize: limit, tokensPerInterval: limit, interval: WINDOW_SECONDS * 1_000 });
    this.#tokens.content = limit;
  }

  /** Tokens a minute, and the most that it holds. */
  get limit(): number {
    return this.#limit;
  }

  set limit(limit: number) {
    if (limit === this.#limit) return;
    // What was used remains used: a limit that is raised lets more through at once, and one that is lowered takes it away.
    this.#tokens.content += limit - this.#limit;
    this.#limit = limit;
    this.#tokens.bucketSize = limit;
    this.#tokens.tokensPerInterval = limit;
  }

  /** How many are in it now; negative where it is in debt. */
  get level(): number {
    this.#tokens.drip();
    return this.#tokens.content;
  }

  /** Whether it is as if nothing had been taken. */
  get full(): boolean {
    return this.level >= this.#limit;
  }

  /** Whether something may be taken. */
  get open(): boolean {
    return this.level >= 1;
  }

  take(cost: number): void {
    this.#tokens.content -= cost;
    this.#used += cost;
  }

  /** In how many whole seconds something may be taken again, 1 or more. */
  get secondsUntilOpen(): number {
    return Math.max(1, Math.ceil(((1 - this.level) * WINDOW_SECONDS) / this.#limit));
  }

  /** What was taken since the last time that this was asked. */
  takeUsed(): number {
    const used = this.#used;
    this.#used = 0;
    return used;
  }

  /** What is taken and not told by {@link takeUsed} yet. */
  get used(): number {
    return this.#used;
  }

  /** Gives back to {@link takeUsed} what could not be told to anyone. */
  untold(used: number): void {
    this.#used += used;
  }

  /** Sets the level to what all servers together have left; what is no number would be it for ever, and is passed over. */
  settle(level: number): void {
    if (!Number.isFinite(level)) return;
    this.#tokens.drip();
    this.#tokens.content = Math.min(level, this.#limit);
  }
}
