/**
 * Work of which only so much is done at a time, shared fairly: who has the least under way is next, and of those who was served
 * longest ago. So nobody gets a second slot while somebody else has none.
 */
export class Slots {
  #free: number;
  /** Of whom, in the order of their turns. */
  readonly #waiting = new Map<string, (() => void)[]>();
  /** Of whom how much is under way. */
  readonly #underWay = new Map<string, number>();

  constructor(count: number) {
    this.#free = count;
  }

  /** Runs `work` as soon as it is the turn of `whose`; what one has to do keeps its order. Resolves or rejects as `work` does. */
  async take<T>(whose: string, work: () => Promise<T>): Promise<T> {
    if (this.#free === 0) {
      await new Promise<void>((resolve) => {
        const own = this.#waiting.get(whose);
        if (own === undefined) this.#waiting.set(whose, [resolve]);
        else own.push(resolve);
      });
    } else this.#begin(whose);
    try {
      return await work();
    } finally {
      this.#end(whose);
    }
  }

  #begin(whose: string): void {
    this.#free--;
    this.#underWay.set(whose, this.#underWayOf(whose) + 1);
  }

  #end(whose: string): void {
    this.#free++;
    const left = this.#underWayOf(whose) - 1;
    if (left === 0) this.#underWay.delete(whose);
    else this.#underWay.set(whose, left);
    const waiting = this.#waiting.get(whose);
    if (waiting !== undefined) {
      this.#waiting.delete(whose);
      this.#waiting.set(whose, waiting); // behind the others
    }
    this.#wakeNext();
  }

  #wakeNext(): void {
    let next: string | undefined;
    for (const whose of this.#waiting.keys()) {
      if (next === undefined || this.#underWayOf(whose) < this.#underWayOf(next)) next = whose;
    }
    if (next === undefined) return;
    const waiting = this.#waiting.get(next)!;
    const wake = waiting.shift()!;
    if (waiting.length === 0) this.#waiting.delete(next);
    this.#begin(next); // before anybody else can
    wake();
  }

  #underWayOf(whose: string): number {
    return this.#underWay.get(whose) ?? 0;
  }
}
