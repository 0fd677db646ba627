/**
 * Query parameters of lists: text to filters, cursors and limits. Whatever is not understood is refused by name.
 */
import type { Filter } from "@tallystick/core/filter";
import { type FilterError, filterOf, type Parameters } from "@tallystick/core/filter-parameters";
import { type Cursor, type Order, queryHash } from "../log/reader.ts";
import { type FieldError, Problem } from "./problem.ts";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 1_000;

export interface ListQuery {
  readonly filter: Filter;
  readonly order: Order;
  readonly limit: number;
  readonly after: Cursor | undefined;
}

/**
 * Reads the parameters of a list. Names and enumerations have been checked against the route's schema.
 * @throws {Problem} 400 that names every parameter that is wrong.
 */
export function parseListQuery(query: Parameters, logId: number): ListQuery {
  const errors: FieldError[] = [];
  const read = <T>(name: string, parse: (text: string) => T | undefined, must: string): T | undefined => {
    const text = query[name];
    if (typeof text !== "string") return undefined; // by the schema these are given once
    const value = parse(text);
    if (value === undefined) errors.push({ path: name, message: `must be ${must}, not "${text.slice(0, 100)}"` });
    return value;
  };
  const refused: FilterError[] = [];
  const filter = filterOf(query, refused);
  // Those of other names are the route's own.
  for (const { path, code, message } of refused) if (code === "invalid") errors.push({ path, message });
  const order: Order = query.order === "asc" ? "asc" : "desc";
  const limit = read("limit", parseLimit, `a whole number from 1 to ${MAX_LIMIT}`) ?? DEFAULT_LIMIT;
  const after = read("cursor", (text) => decodeCursor(text), "a cursor from next_cursor, unchanged");
  if (errors.length > 0)
    throw new Problem(400, "invalid-request", "The query was refused: mend the parameters in errors.", { errors });
  if (after !== undefined && (after.logId !== logId || after.query !== queryHash(filter, order))) {
    throw new Problem(
      400,
      "invalid-cursor",
      "The cursor belongs to another list: send it with the filters and the order that it came from.",
      {
        errors: [{ path: "cursor", message: "is another list's" }],
      },
    );
  }
  return { filter, order, limit, after };
}

function parseLimit(text: string): number | undefined {
  const limit = /^[1-9]\d{0,3}$/.test(text) ? Number(text) : Number.NaN;
  return limit <= MAX_LIMIT ? limit : undefined;
}

export function encodeCursor({ logId, query, seq }: Cursor): string {
  return Buffer.from(`${logId}.${query}.${seq}`).toString("base64url");
}

function decodeCursor(text: string): Cursor | undefined {
  const bytes = Buffer.from(text, "base64url");
  const match = /^(\d{1,10})\.([\w-]{16})\.(\d{1,16})$/.exec(bytes.toString("latin1"));
  if (match === null || bytes.toString("base64url") !== text) return undefined;
  return { logId: Number(match[1]), query: match[2]!, seq: Number(match[3]) };
}
