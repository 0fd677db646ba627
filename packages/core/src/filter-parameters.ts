/**
 * Filters as parameters, the same for lists, exports and streams. A parameter that is given several times means any of its values.
 */
import { type Clause, type Filter, TERM_FIELDS, type Wanted } from "./filter.ts";
import { endOf, startOf, TIME_FORM } from "./filter-times.ts";
import { FIELD_VALUES } from "./filter-values.ts";
import { parseIpRange } from "./ip-range.ts";
import { parseQuery } from "./query.ts";

/** Parameters by name, each with its value or values. */
export type Parameters = Readonly<Record<string, string | readonly string[]>>;

/** What is not understood of a filter's parameters. */
export interface FilterError {
  /** The parameter. */
  readonly path: string;
  /** `unknown`: there is no parameter of this name. */
  readonly code: "unknown" | "invalid";
  /** What is wrong, and what would be right. */
  readonly message: string;
}

/** A text in which `*` is any text. Undefined where there is nothing but wildcards. */
function parsePattern(text: string): Wanted | undefined {
  if (!text.includes("*")) return text === "" ? undefined : { kind: "exact", value: text };
  const parts = text.split(/\*+/); // two in a row are one
  return parts.every((part) => part === "") ? undefined : { kind: "pattern", parts };
}

/** Reads parameters. What is not understood goes to `errors`, and is not in the filter. */
export function filterOf(parameters: Parameters, errors: FilterError[]): Filter {
  const names = new Set(Object.keys(parameters));
  const clauses: Clause[] = [];
  const valuesOf = (path: string): readonly string[] => {
    const given = parameters[path];
    names.delete(path);
    return given === undefined ? [] : typeof given === "string" ? [given] : given;
  };
  const readAll = <T>(path: string, parse: (text: string) => T | undefined, must: string): T[] => {
    const read: T[] = [];
    for (const text of valuesOf(path)) {
      const value = parse(text);
      if (value === undefined) errors.push(invalid(path, `must be ${must}, not "${text.slice(0, 100)}"`));
      else read.push(value);
    }
    return read;
  };
  const readOne = (path: string, parse: (text: string) => string | undefined): string | undefined => {
    const [value, ...others] = readAll(path, parse, TIME_FORM);
    if (others.length > 0) errors.push(invalid(path, "must be given once"));
    return value;
  };
  for (const field of TERM_FIELDS) {
    const allowed = FIELD_VALUES[field];
    const anyOf =
      field === "action"
        ? readAll(field, parsePattern, "an action, in which * stands for any text")
        : readAll(
            field,
            (value): Wanted | undefined => (allowed?.includes(value) === false ? undefined : { kind: "exact", value }),
            `one of ${allowed?.join(", ")}`,
          );
    if (anyOf.length > 0) clauses.push({ field, negated: false, anyOf });
  }
  const ranges = readAll(
    "ip",
    parseIpRange,
    "an IPv4 or IPv6 address, or a range such as 10.0.0.0/8 with no bits set behind its prefix",
  );
  if (ranges.length > 0) clauses.push({ field: "ip", negated: false, anyOf: ranges });
  const times = {
    from: readOne("from", startOf),
    to: readOne("to", endOf),
    occurredFrom: readOne("occurred_from", startOf),
    occurredTo: readOne("occurred_to", endOf),
  };
  const refuseEmpty = (path: string, from: string | undefined, to: string | undefined) => {
    if (from !== undefined && to !== undefined && from > to)
      errors.push(invalid(path, "must not be before the beginning of the range"));
  };
  refuseEmpty("to", times.from, times.to);
  refuseEmpty("occurred_to", times.occurredFrom, times.occurredTo);
  const queries = valuesOf("q");
  if (queries.length > 1) errors.push(invalid("q", "must be given once"));
  const asked = parseQuery(queries[0] ?? "", (message) => errors.push(invalid("q", message)));
  for (const path of names) {
    errors.push({ path, code: "unknown", message: "is no parameter here" });
  }
  return {
    clauses: [...clauses, ...asked.clauses],
    from: latest(times.from, asked.from),
    to: earliest(times.to, asked.to),
    occurredFrom: latest(times.occurredFrom, asked.occurredFrom),
    occurredTo: earliest(times.occurredTo, asked.occurredTo),
  };
}

function invalid(path: string, message: string): FilterError {
  return { path, code: "invalid", message };
}

function latest(a: string | undefined, b: string | undefined): string | undefined {
  return a === undefined || (b !== undefined && b > a) ? b : a;
}

function earliest(a: string | undefined, b: string | undefined): string | undefined {
  return a === undefined || (b !== undefined && b < a) ? b : a;
}
