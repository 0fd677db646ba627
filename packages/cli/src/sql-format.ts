/**
 * Results of SQL as a table, JSON or CSV.
 */
import type { FieldDef } from "pg";
import type { SqlResult } from "./sql-session.ts";
import { formatCsv, formatTable } from "./table.ts";

export type SqlFormat = "table" | "json" | "csv";

/** A result as text, without a newline at its end. A statement without rows is its tag: `CREATE TABLE`. */
export function formatResult({ columns, rows, tag }: SqlResult, format: SqlFormat): string {
  if (columns.length === 0) return format === "table" ? tag : "";
  const names = columns.map(({ name }) => name);
  if (format === "csv") return formatCsv(names, rows);
  if (format === "json")
    return JSON.stringify(
      rows.map((row) => toJson(columns, row)),
      null,
      2,
    );
  return `${formatTable(names, rows)}\n(${rows.length} ${rows.length === 1 ? "row" : "rows"})`;
}

function toJson(columns: readonly FieldDef[], row: readonly (string | null)[]): Record<string, unknown> {
  return Object.fromEntries(
    columns.map(({ name, dataTypeID }, index) => [name, jsonValue(dataTypeID, row[index] ?? null)]),
  );
}

const BOOL = 16;
const JSON_TYPES = [114, 3802];
const NUMBERS = [20, 21, 23, 26, 700, 701];

/** Numbers stay text where JSON's numbers could not hold them. */
function jsonValue(type: number, text: string | null): unknown {
  if (text === null) return null;
  if (type === BOOL) return text === "t";
  if (JSON_TYPES.includes(type)) return JSON.parse(text);
  if (!NUMBERS.includes(type)) return text;
  const number = Number(text);
  return Number.isFinite(number) && (!Number.isInteger(number) || Number.isSafeInteger(number)) ? number : text;
}
