/** Elements of the page. Everything that a file holds goes in as text: nothing of it is ever read as HTML. */

type Child = Node | string;

/** An element with a class and children; texts become text nodes. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  className = "",
  ...children: readonly Child[]
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  if (className !== "") made.className = className;
  made.append(...children);
  return made;
}

/** The element of page.html with this id. */
export function byId<Type extends HTMLElement = HTMLElement>(id: string): Type {
  return document.getElementById(id) as Type;
}

/** A term and its description, for a list of them. */
export function pair(term: string, ...description: readonly Child[]): [HTMLElement, HTMLElement] {
  return [element("dt", "", term), element("dd", "", ...description)];
}

const DIRECTIONS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/**
 * Text from the file. Characters that turn the direction of what follows are shown as escapes: with them a name could
 * make a line read as something else than it says.
 */
export function plain(text: string): string {
  return text.replace(DIRECTIONS, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
