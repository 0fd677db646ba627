/**
 * What a benchmark found, and how it is shown.
 */

/** One line of the report: a figure, and what it is held against. */
export interface Result {
  readonly benchmark: string;
  /** What was measured, in words. */
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  /** The yardstick's figure, in the same unit. */
  readonly yardstick?: number;
  /** What the yardstick is, in words. */
  readonly against?: string;
  /** `value / yardstick`. */
  readonly ratio?: number;
  /** Least ratio, or greatest value where `goalIs` says so. */
  readonly goal?: number;
  readonly goalIs?: "least ratio" | "greatest value" | "greatest ratio";
}

/** A figure against its yardstick's. */
export function compared(result: Omit<Result, "ratio"> & { readonly yardstick: number }): Result {
  return { ...result, ratio: result.value / result.yardstick };
}

/** Whether the goal is reached; undefined where there is none. */
export function reached({ value, ratio, goal, goalIs = "least ratio" }: Result): boolean | undefined {
  if (goal === undefined) return undefined;
  if (goalIs === "greatest value") return value <= goal;
  return goalIs === "least ratio" ? ratio! >= goal : ratio! <= goal;
}

const HEADINGS = ["benchmark", "measured", "figure", "yardstick", "ratio", "goal"];

function cells(result: Result): string[] {
  const { benchmark, what, value, unit, yardstick, against, ratio, goal, goalIs = "least ratio" } = result;
  const goalText = {
    "least ratio": `≥ ${goal}`,
    "greatest ratio": `≤ ${goal}×`,
    "greatest value": `< ${goal} ${unit}`,
  };
  return [
    benchmark,
    what,
    `${figure(value)} ${unit}`,
    yardstick === undefined ? "" : `${figure(yardstick)} (${against})`,
    ratio === undefined ? "" : ratio.toFixed(2),
    goal === undefined ? "" : `${goalText[goalIs]} ${reached(result) ? "✓" : "✗"}`,
  ];
}

function figure(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);
}

/** A table for a terminal. */
export function textTable(results: readonly Result[]): string {
  const rows = [HEADINGS, ...results.map(cells)];
  const widths = HEADINGS.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** The same in Markdown. */
export function markdownTable(results: readonly Result[]): string {
  const rows = [HEADINGS, HEADINGS.map(() => "---"), ...results.map(cells)];
  return rows.map((row) => `| ${row.join(" | ")} |`).join("\n");
}
