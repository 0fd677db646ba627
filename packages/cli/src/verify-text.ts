/**
 * Reports of a verification as lines for people: every entry that is wrong, what is wrong with it, and what to look at next.
 */
import type { VerifyProblem, VerifyReport } from "@tallystick/server/verify/report";
import { visible } from "./table.ts";

/** What to run next to look at what a problem names. */
export type NextCommand = (report: VerifyReport, problem: VerifyProblem) => string;

/** The slug of the tenant; of a report that lacks it, as servers before this one sent them, that of the log. */
export function tenantOf({ tenant, log }: VerifyReport): string {
  return (tenant as string | undefined) ?? log.slice(log.lastIndexOf("/") + 1);
}

type AnyProblem = Pick<VerifyProblem, "field" | "stored" | "expected" | "detail"> & { readonly kind: string };

/** One report. `next` adds a command for each entry that is named. */
export function reportLines(report: VerifyReport, next?: NextCommand): string[] {
  const { ok, log, size, root, checked, erased, signatures, problems } = report;
  const entries = `${checked} of ${size} ${size === 1 ? "entry" : "entries"} checked`;
  const gone = erased === 0 ? "" : `, ${erased} erased ${erased === 1 ? "value" : "values"}`;
  const signed = signatures.valid === 0 ? "" : `, ${signatures.valid} signed by their publisher`;
  const unsigned = signatures.erased === 0 ? "" : `, ${signatures.erased} with the signature erased`;
  const lines = [
    `${ok ? "good" : "BAD "}  ${log}  ${entries}${signed}${unsigned}${gone}`,
    `      size ${size}, root ${root}`,
  ];
  let shown: number | null | undefined;
  problems.forEach((problem, index) => {
    if (problem.seq === null || problem.seq !== shown) lines.push(headingOf(report, problem));
    shown = problem.seq;
    lines.push(...problemLines(problem));
    // After the last problem of an entry, so that the command stands once.
    const last = problem.seq === null || problems[index + 1]?.seq !== problem.seq;
    const command = last ? next?.(report, problem) : undefined;
    if (command !== undefined) lines.push(`        see it: ${command}`);
  });
  return lines;
}

function headingOf(report: VerifyReport, { seq, id }: VerifyProblem): string {
  if (seq === null) return `    tenant ${tenantOf(report)}`;
  return `    tenant ${tenantOf(report)}, seq ${seq}${id === null ? "" : `, id ${id}`}`;
}

/** What is wrong, with the values that do not agree. */
export function problemLines({ kind, field, stored, expected, detail }: AnyProblem): string[] {
  const lines = [`      ${kind}${field === undefined ? "" : ` (${field})`}: ${visible(detail)}`];
  if (stored !== undefined) lines.push(`        stored   ${visible(stored)}`);
  if (expected !== undefined) lines.push(`        expected ${visible(expected)}`);
  return lines;
}
