/**
 * Long work in the one thread that everybody shares, in slices: between two of them requests are served.
 */

/** Of all that takes turns together, in ms; writers notice no less than that. */
const SLICE_MS = 4;

export class Turns {
  #endsMs = Number.NEGATIVE_INFINITY;
  #next: Promise<void> | undefined;

  /** Whether it is the others' turn. */
  get isOver(): boolean {
    return performance.now() >= this.#endsMs;
  }

  /** Resolves once the others have had theirs, with how long that took, in ms. All who wait share the slice that follows. */
  async next(): Promise<number> {
    const askedMs = performance.now();
    this.#next ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#next = undefined;
        this.#endsMs = performance.now() + SLICE_MS;
        resolve();
      });
    });
    await this.#next;
    return performance.now() - askedMs;
  }
}
