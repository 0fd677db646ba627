/**
 * What lists are asked for: text to filters, cursors and limits. Whatever is not understood is refused by name.
 */
import type { Filter } from "@tallystick/core/filter";
import { type FilterError, filterOf, type Parameters } from "@tallystick/core/filter-parameters";
import type { LogIdentity } from "../log/identity.ts";
import type { Order } from "../log/reader.ts";
import { type Cursor, type Cursors, listHash } from "./cursor.ts";
import { type FieldError, Problem } from "./problem.ts";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 1_000;

export interface ListQuery {
  readonly filter: Filter;
  /** `rank`: what says it in the more telling place first, among the newest that match; the only page that there is. */
  readonly order: Order | "rank";
  readonly limit: number;
  /** Where the page begins; undefined on the first. */
  readonly cursor: Cursor | undefined;
  /** Of its filter and order, for the cursors of its pages. */
  readonly list: string;
}

/**
 * Reads the filter among parameters; those of other names are the route's own.
 * @throws {Problem} 400 that names every parameter that is wrong.
 */
export function parseFilter(parameters: Parameters): Filter {
  const errors: FieldError[] = [];
  const filter = readFilter(parameters, errors);
  refuse(errors);
  return filter;
}

/**
 * Reads the parameters of a list. Names and enumerations have been checked against the route's schema.
 * @throws {Problem} 400 that names every parameter that is wrong, or says that the cursor is another list's.
 */
export function parseListQuery(query: Parameters, log: LogIdentity, cursors: Cursors): ListQuery {
  const errors: FieldError[] = [];
  const read = <T>(name: string, parse: (text: string) => T | undefined, must: string): T | undefined => {
    const text = query[name];
    if (typeof text !== "string") return undefined; // by the schema these are given once
    const value = parse(text);
    if (value === undefined) errors.push({ path: name, message: `must be ${must}, not "${text.slice(0, 100)}"` });
    return value;
  };
  const filter = readFilter(query, errors);
  const order = query.order === "asc" || query.order === "rank" ? query.order : "desc";
  const limit = read("limit", parseLimit, `a whole number from 1 to ${MAX_LIMIT}`) ?? DEFAULT_LIMIT;
  const cursor = read("cursor", (text) => cursors.decode(text), "a next_cursor or prev_cursor, unchanged");
  if (order === "rank") requireRankable(filter, query.cursor, errors);
  refuse(errors);
  const list = listHash([filter, order]);
  if (cursor !== undefined) requireOwn(cursor, log, list);
  return { filter, order, limit, cursor, list };
}

/** Where nothing is searched for as text there is no rank, and where entries come by it there is no position to go on from. */
function requireRankable({ clauses }: Filter, cursor: unknown, errors: FieldError[]): void {
  if (errors.length > 0) return;
  if (!clauses.some(({ field, negated }) => field === "text" && !negated)) {
    errors.push({ path: "order", message: "is rank, which needs a word in q to rank by: add one, or ask for desc" });
  }
  if (cursor !== undefined)
    errors.push({ path: "cursor", message: "does not go with order=rank, which has one page: raise limit" });
}

/** @throws {Problem} 400 where a cursor is another list's. */
export function requireOwn(cursor: Cursor, log: LogIdentity, list: string): void {
  if (cursor.logId === log.logId && cursor.list === list) return;
  const message =
    cursor.logId === log.logId ? "is another list's" : "is of another log, or of one that has been succeeded";
  throw new Problem(
    400,
    "invalid-cursor",
    "The cursor belongs to another list: send it with the filters and the order that it came from, or begin anew without it.",
    { errors: [{ path: "cursor", message }] },
  );
}

function readFilter(parameters: Parameters, errors: FieldError[]): Filter {
  const refused: FilterError[] = [];
  const filter = filterOf(parameters, refused);
  for (const { path, code, message } of refused) if (code === "invalid") errors.push({ path, message });
  return filter;
}

function refuse(errors: readonly FieldError[]): void {
  if (errors.length === 0) return;
  throw new Problem(400, "invalid-request", "The query was refused: mend the parameters in errors.", { errors });
}

function parseLimit(text: string): number | undefined {
  const limit = /^[1-9]\d{0,3}$/.test(text) ? Number(text) : Number.NaN;
  return limit <= MAX_LIMIT ? limit : undefined;
}
