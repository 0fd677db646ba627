/**
 * The report in docs/performance.md: the part between two markers is replaced, the words around it are written by hand.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { type Machine, machineLine } from "./machine.ts";
import { markdownTable, type Result } from "./result.ts";

const PAGE = new URL("../docs/performance.md", import.meta.url);
const BEGIN = "<!-- bench: begin -->";
const END = "<!-- bench: end -->";

const QUICK = "\nA quick run: it shows that all works; its figures scatter widely.";

export interface Report {
  readonly machine: Machine;
  readonly command: string;
  readonly quick: boolean;
  readonly results: readonly Result[];
}

/** Writes the report into the page. @throws {Error} where the page has lost its markers. */
export function writeReport(report: Report): void {
  const page = readFileSync(PAGE, "utf8");
  const from = page.indexOf(BEGIN);
  const to = page.indexOf(END);
  if (from === -1 || to < from) throw new Error(`docs/performance.md lacks ${BEGIN} and ${END}: put them back`);
  writeFileSync(PAGE, `${page.slice(0, from)}${BEGIN}\n${markdown(report)}\n${page.slice(to)}`);
}

function markdown({ machine, command, quick, results }: Report): string {
  const day = new Date().toISOString().slice(0, 10);
  return `
Made on ${day} by \`${command}\` on ${machineLine(machine)}.${quick ? QUICK : ""}

${markdownTable(results)}
`;
}
