import { pointerToken } from "./json.ts";

/** One thing wrong with an event. */
export type EventProblem = {
  /** RFC 6901 pointer in the event as the client sent it. */
  path: string;
  /** What is wrong, and what would be right. */
  message: string;
};

/** A request of a megabyte of unknown fields must not make an answer of several. */
const MAX_PROBLEMS = 100;

/** Collects what is wrong with one event, so that the client hears all of it at once. */
export class Problems {
  readonly list: EventProblem[] = [];
  /** Whether the event claims a service or an action that is the server's own. */
  reserved = false;

  readonly #limit: number;

  /** `limit`: how many problems are kept, and worth looking for. */
  constructor(limit = MAX_PROBLEMS) {
    this.#limit = limit;
  }

  get none(): boolean {
    return this.list.length === 0;
  }

  get full(): boolean {
    return this.list.length >= this.#limit;
  }

  /** Adds a problem with the member `key` of the value at the pointer `at`. */
  add(at: string, key: string | number, message: string): void {
    this.addAt(pointerTo(at, key), message);
  }

  addAt(path: string, message: string): void {
    if (!this.full) this.list.push({ path, message });
  }
}

export function pointerTo(at: string, key: string | number): string {
  return `${at}/${pointerToken(key)}`;
}

/**
 * The name in `known` that `name` is most probably a misspelling of: the same but for case and separators, or at
 * most two edits away and fewer than half its length. `undefined` where nothing is near.
 */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  if (name.length > 32) return undefined;
  const plain = plainForm(name);
  let best: string | undefined;
  let fewest = Math.min(3, Math.ceil(plain.length / 2));
  for (const candidate of known) {
    const other = knownForm(candidate);
    if (Math.abs(other.length - plain.length) >= fewest) continue;
    const edits = editDistance(plain, other);
    if (edits < fewest) [best, fewest] = [candidate, edits];
  }
  return best;
}

const plainForms = new Map<string, string>();

/** The plain form of a name of ours, kept: there are fewer than a hundred. */
function knownForm(name: string): string {
  const form = plainForms.get(name) ?? plainForm(name);
  plainForms.set(name, form);
  return form;
}

function plainForm(name: string): string {
  return name.toLowerCase().replaceAll(/[_\-. ]/g, "");
}

/** Levenshtein's distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
