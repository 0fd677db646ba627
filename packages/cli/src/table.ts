/**
 * Rows as text: aligned for people, CSV for programs.
 */

/** A value that came from a database or a server; null is PostgreSQL's NULL. */
export type Cell = string | number | boolean | null | undefined;

/** Columns under a ruled header, as psql shows them. What a terminal would act on is shown escaped. */
export function formatTable(header: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const cells = [header, ...rows].map((row) => row.map((cell) => visible(cell === null ? "" : String(cell ?? ""))));
  const widths = header.map((_, column) => Math.max(...cells.map((row) => widthOf(row[column] ?? ""))));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell + " ".repeat(Math.max(0, widths[column]! - widthOf(cell))))
      .join("  ")
      .trimEnd();
  const rule = widths.map((width) => "-".repeat(width)).join("  ");
  return [line(cells[0]!), rule, ...cells.slice(1).map(line)].join("\n");
}

/** RFC 4180, the lines ended by a bare newline. NULL is an empty field, an empty string is `""`. */
export function formatCsv(header: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return [header, ...rows].map((row) => row.map(csvField).join(",")).join("\n");
}

function csvField(cell: Cell): string {
  if (cell === null || cell === undefined) return "";
  const text = String(cell);
  return text === "" || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Text with its control characters escaped: a recorded value must not move the cursor of the person who looks at it. */
export function visible(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\t") return "\\t";
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

function widthOf(text: string): number {
  return [...text].length;
}
