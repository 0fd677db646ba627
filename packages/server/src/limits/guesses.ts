/**
 * Guessed credentials: how many of one source have been refused, so that looking them up does not keep the database busy.
 */
import { isIPv6 } from "node:net";
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
    const bucket = this.#sources.get(sourceOf(ip));
    return bucket === undefined || bucket.open ? 0 : bucket.secondsUntilOpen;
  }

  /** Counts a credential that was refused. */
  refused(ip: string): void {
    if (this.#limit === 0) return;
    const source = sourceOf(ip);
    const bucket = this.#sources.get(source) ?? new Bucket(this.#limit);
    this.#sources.delete(source);
    if (this.#sources.size >= MAX_SOURCES) this.#sources.delete(this.#sources.keys().next().value!);
    this.#sources.set(source, bucket);
    // What is cached as unknown is refused without a look: a source that goes on with it owes no more than a minute.
    if (bucket.open) bucket.take(1);
  }
}

/** Whoever has one address of an IPv6 /64 has all of them: they are one source. */
export function sourceOf(ip: string): string {
  if (!isIPv6(ip)) return ip;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(ip);
  if (mapped !== null) return mapped[1]!;
  const [head = "", tail] = ip.split("%")[0]!.split("::") as [string, string?];
  const front = head === "" ? [] : head.split(":");
  const back = tail === undefined || tail === "" ? [] : tail.split(":");
  const missing = tail === undefined ? 0 : 8 - front.length - back.length;
  const groups = [...front, ...Array<string>(missing).fill("0"), ...back];
  const network = groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${network.join(":")}::/64`;
}
