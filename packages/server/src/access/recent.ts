/**
 * What was looked up a moment ago: credentials, found by a hash. Both what there is and what there is not are remembered, each by
 * itself, so that strangers' guesses put nothing real out of memory.
 */

/** A revocation, or a new credential, is seen by every server within this time. */
const KEEP_MS = 1_000;
/** What is used after this time is looked up again while it still counts: requests do not all wait for it once a second. */
const RENEW_MS = 500;
const SIZE = 10_000;

export class Recent<T> {
  readonly #known = new Map<string, { readonly value: T; readonly at: number }>();
  readonly #unknown = new Map<string, number>();
  readonly #lookups = new Map<string, Promise<T | undefined>>();

  /** Whether it was found before, however long ago. */
  has(key: string): boolean {
    return this.#known.has(key);
  }

  /** What is remembered and need not be looked up again yet; undefined says nothing. */
  known(key: string, nowMs: number): T | undefined {
    const known = this.#known.get(key);
    return known !== undefined && nowMs - known.at < RENEW_MS ? known.value : undefined;
  }

  /** What `lookUp` finds, now or at most a second ago. Who asks for the same meanwhile shares the look-up. */
  async find(key: string, nowMs: number, lookUp: () => Promise<T | undefined>): Promise<T | undefined> {
    const known = this.#known.get(key);
    if (known !== undefined && nowMs - known.at < KEEP_MS) {
      if (nowMs - known.at >= RENEW_MS && !this.#lookups.has(key)) this.#start(key, nowMs, lookUp).catch(() => {}); // tried again
      return known.value;
    }
    const unknownAt = this.#unknown.get(key);
    if (unknownAt !== undefined && nowMs - unknownAt < KEEP_MS) return undefined;
    return this.#lookups.get(key) ?? this.#start(key, nowMs, lookUp);
  }

  /** The next look is a new one: at this, or at everything. */
  forget(key?: string): void {
    if (key === undefined) {
      for (const each of [this.#known, this.#unknown, this.#lookups]) each.clear();
      return;
    }
    this.#known.delete(key);
    this.#unknown.delete(key);
    this.#lookups.delete(key);
  }

  #start(key: string, nowMs: number, lookUp: () => Promise<T | undefined>): Promise<T | undefined> {
    const lookup = lookUp();
    this.#lookups.set(key, lookup);
    const isNewest = () => this.#lookups.get(key) === lookup; // else something has changed since it began
    lookup.then(
      (value) => {
        if (!isNewest()) return;
        this.#lookups.delete(key);
        if (value === undefined) remember(this.#unknown, key, nowMs);
        else remember(this.#known, key, { value, at: nowMs });
      },
      () => {
        if (isNewest()) this.#lookups.delete(key);
      },
    );
    return lookup;
  }
}

/** Keeps the newest; the oldest makes room. */
function remember<V>(cache: Map<string, V>, key: string, value: V): void {
  cache.delete(key);
  if (cache.size >= SIZE) cache.delete(cache.keys().next().value!);
  cache.set(key, value);
}
