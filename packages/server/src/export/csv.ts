/**
 * CSV (RFC 4180), written so that no spreadsheet takes a recorded value for a formula.
 */
import { CSV_MANIFEST_MARK } from "@tallystick/core/export-file";

/**
 * What a spreadsheet may take for a formula (OWASP, CSV Injection), or a reader for our manifest: such a text gets a `'` in front. One
 * that has a `'` there already gets another, so that taking one away gives every text back.
 */
const MISTAKABLE = new RegExp(`^'*(?:[=+\\-@\\t\\r\\n＝＋－＠]|${CSV_MANIFEST_MARK})`);
const TO_BE_QUOTED = /[",\r\n]/;

/** One record, with its line end. */
export function csvRecord(values: readonly unknown[]): string {
  // A record of one empty cell would be an empty line, which readers leave out.
  if (values.length === 1) return `${csvCell(values[0]) || '""'}\r\n`;
  let record = "";
  for (let i = 0; i < values.length; i++) record += i === 0 ? csvCell(values[i]) : `,${csvCell(values[i])}`;
  return `${record}\r\n`;
}

/** Texts as they are; numbers and truth values by their names; objects and arrays as JSON; nothing for what is not there, or null. */
function csvCell(value: unknown): string {
  switch (typeof value) {
    case "string":
      return quoted(MISTAKABLE.test(value) ? `'${value}` : value);
    case "number": // no formula, whatever its sign
    case "boolean":
      return String(value);
    case "object":
      return value === null ? "" : quoted(JSON.stringify(value)); // begins with a bracket
    default:
      return "";
  }
}

function quoted(text: string): string {
  return TO_BE_QUOTED.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
