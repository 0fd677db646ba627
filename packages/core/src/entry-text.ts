/**
 * The text of an entry: what free words are looked for in. Its action, names, e-mail addresses, reason and description, and the
 * members of its metadata and changes, keys and values alike.
 *
 * It is one line. Each value's words stand between single spaces, values are parted by a tab: ` ship order \t gold `. A phrase
 * is in an entry just where its words with a space before and behind are in the line, and no phrase goes over two values.
 */
import type { Event } from "./event.ts";
import { wordsOf } from "./words.ts";

/** The line of some values, without those that have no word. */
export function lineOf(values: readonly string[]): string {
  let line = "";
  for (const value of values) {
    const words = wordsOf(value);
    if (words.length > 0) line += `${line === "" ? "" : "\t"} ${words.join(" ")} `;
  }
  return line;
}

/** The line of an event as it is now, made when it is first asked for: once for all that look into it. */
export function lazyLineOf(event: Event): () => string {
  let line: string | undefined;
  return () => {
    line ??= lineOf(textsOf(event));
    return line;
  };
}

/** The text that is looked for in lines: words with a space around them; with `prefix` the last one may go on. */
export function phraseOf(words: readonly string[], prefix: boolean): string {
  return ` ${words.join(" ")}${prefix ? "" : " "}`;
}

/**
 * The values of an event that are searched as text; of those that are committed only the ones that have been opened. Takes any
 * leaf's event, whatever stands where its members should.
 */
export function textsOf({ action, actor, resource, related, reason, description, metadata, changes }: Event): string[] {
  const texts: string[] = [];
  const add = (value: unknown) => {
    if (typeof value === "string") texts.push(value);
  };
  add(action);
  for (let one = actor; isObject(one); one = (one as typeof actor).on_behalf_of as typeof actor) {
    add(one.name);
    add(one.email);
  }
  add((resource as { name?: unknown } | null | undefined)?.name);
  if (Array.isArray(related)) for (const one of related) add((one as { name?: unknown } | null)?.name);
  add(reason);
  add(description);
  addMembers(metadata, texts);
  addMembers(changes, texts);
  return texts;
}

/** Keys, texts and numbers of a JSON value. */
function addMembers(value: unknown, texts: string[]): void {
  if (typeof value === "string") texts.push(value);
  else if (typeof value === "number") texts.push(String(value));
  else if (Array.isArray(value)) for (const item of value) addMembers(item, texts);
  else if (isObject(value)) {
    for (const key in value) {
      if (key === "$committed" || key === "$masked") continue; // the server's marks are no words of the client's
      texts.push(key);
      addMembers((value as Record<string, unknown>)[key], texts);
    }
  }
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
