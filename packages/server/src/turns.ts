/** Work that is done one piece at a time, in the order of arrival. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `work` when all before it has ended, however it ended. Resolves or rejects as `work` does. */
  take<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined); // the caller hears of it; the next in turn does not care
    return result;
  }
}
