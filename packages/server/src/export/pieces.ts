/**
 * An export, in pieces: entries are read some at a time, when the reader of the file has taken what was there. No transaction lasts
 * longer than one page, and the checkpoint is fixed at the start, so that what is recorded meanwhile changes nothing.
 */
import { type ExportFacts, ExportSeal } from "@tallystick/core/export-file";
import type { Entry } from "../log/reader.ts";
import { entrySummary } from "../log/summary.ts";
import type { Column } from "./columns.ts";
import { csvRecord } from "./csv.ts";

/** Text that is handed on at once. */
const PIECE_CHARACTERS = 65_536;

export interface ExportPlan extends ExportFacts {
  /** The columns of CSV, of the names that the facts say. */
  readonly cells: readonly Column[];
  /** Whether the manifest is left out. */
  readonly bare: boolean;
}

/**
 * The file. Whoever stops early, or meets an error, has one without a manifest.
 * @param batches the entries, in the order of their positions.
 */
export async function* exportPieces(
  plan: ExportPlan,
  batches: AsyncIterable<readonly Entry[]>,
): AsyncGenerator<Uint8Array, void> {
  const seal = new ExportSeal(plan);
  const { cells, type } = plan;
  const write = type === "csv" ? (entry: Entry) => csvRecord(cells.map(({ read }) => read(entry))) : ndjsonLine;
  let piece = type === "csv" ? csvRecord(cells.map(({ name }) => name)) : "";
  let rows = 0;
  for await (const entries of batches) {
    for (const entry of entries) {
      piece += write(entry);
      rows += 1;
      if (piece.length < PIECE_CHARACTERS) continue;
      yield seal.add(piece, rows);
      piece = "";
      rows = 0;
    }
  }
  if (piece !== "") yield seal.add(piece, rows);
  if (!plan.bare) yield seal.manifest();
}

/** As lists show entries. U+2028 and U+2029 are escaped: some readers take them for the end of a line. */
function ndjsonLine(entry: Entry): string {
  const line = JSON.stringify(entrySummary(entry));
  return `${line.replace(/[\u2028\u2029]/g, (one) => (one === "\u2028" ? "\\u2028" : "\\u2029"))}\n`;
}
