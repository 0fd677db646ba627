/**
 * When credentials were last used: kept in memory by the requests that use them, and written now and then for all of them.
 */

/** How old the written time may be. */
const FLUSH_MS = 60_000;

/** Writes when each of these was last used. */
export type WriteLastUsed = (ids: readonly string[], times: readonly Date[]) => Promise<unknown>;

export class LastUsed {
  readonly #write: WriteLastUsed;
  readonly #onError: (error: unknown) => void;
  readonly #timer: NodeJS.Timeout;
  #used = new Map<string, number>();

  /** @param onError told of a write that failed; its times go with the next. */
  constructor(write: WriteLastUsed, onError: (error: unknown) => void) {
    this.#write = write;
    this.#onError = onError;
    this.#timer = setInterval(() => void this.flush(), FLUSH_MS).unref();
  }

  /** @param atMs ms since the Unix epoch. */
  note(id: string, atMs: number): void {
    this.#used.set(id, atMs);
  }

  /** Writes what has been noted since the last time. */
  async flush(): Promise<void> {
    const used = this.#used;
    if (used.size === 0) return;
    this.#used = new Map();
    try {
      await this.#write(
        [...used.keys()],
        [...used.values()].map((at) => new Date(at)),
      );
    } catch (error) {
      for (const [id, at] of used) if (!this.#used.has(id)) this.#used.set(id, at);
      this.#onError(error);
    }
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.flush();
  }
}
