/** The chains of services through the entries of an evidence file. */
import type { EvidenceFinding } from "./evidence-report.ts";
import { type Leaf, NO_PREVIOUS } from "./leaf.ts";

/** What the selection of the file makes of a chain. */
interface Expectation {
  /** Whether the file begins where the log does. */
  readonly fromStart: boolean;
  /** Whether all entries of the service between two that are there must be there. */
  readonly gapless: boolean;
}

type Broken = Pick<EvidenceFinding, "kind" | "field" | "stored" | "expected" | "detail">;

/** Follows each service's chain from entry to entry; memory grows with the number of services. */
export class EvidenceChains {
  readonly #last = new Map<string, { seq: number; hash: string }>();
  readonly #services = new Set<string>();
  /** Whether an entry went by whose place in a chain is not known. */
  #lost = false;
  #links = 0;

  get services(): number {
    return this.#services.size;
  }

  /** Entries whose `prev` is the hash of the entry before in their chain, or that are the first of it. */
  get links(): number {
    return this.#links;
  }

  /** An entry went by of which nothing can be said: the chains go on behind it. */
  restart(): void {
    this.#last.clear();
    this.#lost = true;
  }

  /** Takes the next entry, whose leaf hash is `hash`; tells what is wrong with its link. */
  follow({ service: { id, seq, prev } }: Leaf, hash: string, { fromStart, gapless }: Expectation): Broken | undefined {
    const last = this.#last.get(id);
    this.#last.set(id, { seq, hash });
    this.#services.add(id);
    if (seq === 0) {
      if (last !== undefined) return outOfOrder(id, seq, last.seq + 1);
      return this.#link(id, prev, NO_PREVIOUS);
    }
    if (last === undefined) {
      if (!fromStart || this.#lost) return undefined; // the entry before it is not in the file
      return outOfOrder(id, seq, 0);
    }
    if (seq === last.seq + 1) return this.#link(id, prev, last.hash);
    if (seq > last.seq && !gapless) return undefined;
    return outOfOrder(id, seq, last.seq + 1);
  }

  #link(service: string, prev: string, expected: string): Broken | undefined {
    if (prev === expected) {
      this.#links += 1;
      return undefined;
    }
    return {
      kind: "chain",
      field: "service.prev",
      stored: prev,
      expected,
      detail: `the entry does not follow on the one before it of service ${service}: one of the two was changed`,
    };
  }
}

function outOfOrder(service: string, seq: number, expected: number): Broken {
  const what = seq > expected ? "entries of the service before it are missing" : "the entry is there twice, or moved";
  return {
    kind: seq > expected ? "missing" : "chain",
    field: "service.seq",
    stored: `${seq}`,
    expected: `${expected}`,
    detail: `service ${service}: ${what}`,
  };
}
