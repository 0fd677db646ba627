/**
 * Entries as rows for people: when, who, what, on what, and how it ended.
 */
import { outcomeOf } from "@tallystick/core/defaults";
import type { Actor, Event } from "@tallystick/core/event";
import { visible } from "./table.ts";

/** An entry as lists show it; of it, what is shown. */
export interface ListedEntry {
  readonly seq: number;
  readonly id: string;
  readonly recorded_at: string;
  readonly event: Event;
}

const HEADER = ["time", "actor", "action", "resource", "outcome"];
/** A column is no wider than this for the sake of one value. */
const MAX_WIDTH = 40;

/** Lines of a table that comes page by page: columns are as wide as the first page wants them. */
export class EntryTable {
  #widths: readonly number[] | undefined;

  lines(entries: readonly ListedEntry[]): string[] {
    if (entries.length === 0) return [];
    const rows = entries.map((entry) => cellsOf(entry).map(visible));
    const first = this.#widths === undefined;
    this.#widths ??= HEADER.map((name, column) =>
      Math.max(name.length, ...rows.map((row) => Math.min(MAX_WIDTH, [...row[column]!].length))),
    );
    const widths = this.#widths;
    const rule = widths.map((width) => "-".repeat(width));
    return [...(first ? [HEADER, rule] : []), ...rows].map((row) =>
      row
        .map((cell, column) => cell + " ".repeat(Math.max(0, widths[column]! - [...cell].length)))
        .join("  ")
        .trimEnd(),
    );
  }
}

/** The cells of an entry, in the order of the columns. What comes from outside is in them as it is. */
export function cellsOf({ recorded_at, event }: ListedEntry): string[] {
  const { resource } = event;
  return [
    `${recorded_at.slice(0, 23)}Z`,
    actorOf(event.actor),
    event.action,
    resource === undefined ? "" : resource.id === undefined ? resource.type : `${resource.type}:${resource.id}`,
    outcomeOf(event),
  ];
}

/** The id, with the name where it is to be seen, and whom it was for. */
function actorOf({ id, type, name, on_behalf_of: principal }: Actor): string {
  // An erased name is no text.
  const named = `${id ?? type ?? ""}${typeof name === "string" ? ` (${name})` : ""}`;
  return principal === undefined ? named : `${named} for ${actorOf(principal)}`;
}
