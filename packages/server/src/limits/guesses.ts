/**
 * Guessed credentials: how many of one source have been refused, so that looking them up does not keep the database busy.
 */
import { sourceName } from "../access/source.ts";
import { Bucket } from "./bucket.ts";

/** Sources in memory; the oldest makes room. */
const MAX_SOURCES = 10_000;

export class Guesses {
  readonly #limit: number;
  readonly #sources = new Map<string, Bucket>();

  /** @param limit refused credentials a minute of one source; 0 is no limit. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** In how many seconds a credential that is not known yet may be looked up for this address; 0 is now. */
  secondsToWait(ip: string): number {
    const bucket = this.#sources.get(sourceName(ip));
    return bucket === undefined || bucket.open ? 0 : bucket.secondsUntilOpen;
  }

  /** Counts a credential that was refused. */
  refused(ip: string): void {
    if (this.#limit === 0) return;
    const source = sourceName(ip);
    const bucket = this.#sources.get(source) ?? new Bucket(this.#limit);
    this.#sources.delete(source);
    if (this.#sources.size >= MAX_SOURCES) this.#sources.delete(this.#sources.keys().next().value!);
    this.#sources.set(source, bucket);
    // What is cached as unknown is refused without a look: a source that goes on with it owes no more than a minute.
    if (bucket.open) bucket.take(1);
  }
}
