/**
 * Query parameters of lists: text to filters, cursors and limits. Whatever is not understood is refused by name.
 */
import { normalizeIp } from "@tallystick/core/ip";
import { normalizeTimestamp } from "@tallystick/core/timestamp";
import { EQUALITY_FIELDS, type Filter } from "../log/filter.ts";
import { type Cursor, type Order, queryHash } from "../log/reader.ts";
import { type FieldError, Problem } from "./problem.ts";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 1_000;
const BARE_DATE = /^\d{4}-\d{2}-\d{2}$/;
const LAST_DATE = "9999-12-31";
const DAY_MS = 86_400_000;

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
export function parseListQuery(query: Readonly<Record<string, string>>, logId: number): ListQuery {
  const errors: FieldError[] = [];
  const read = <T>(name: string, parse: (text: string) => T | undefined, must: string): T | undefined => {
    const text = query[name];
    if (text === undefined) return undefined;
    const value = parse(text);
    if (value === undefined) errors.push({ path: name, message: `must be ${must}, not "${text.slice(0, 100)}"` });
    return value;
  };
  const time = "an RFC 3339 time such as 2026-01-31T12:00:00Z, or a date";
  const equals: { [field in (typeof EQUALITY_FIELDS)[number]]?: string } = {};
  for (const field of EQUALITY_FIELDS) if (query[field] !== undefined) equals[field] = query[field];
  const filter: Filter = {
    equals,
    action: read("action", parseAction, "an action, with * at either end or both"),
    ip: read("ip", normalizeIp, "an IPv4 or IPv6 address"),
    from: read("from", startOf, time),
    to: read("to", endOf, time),
    occurredFrom: read("occurred_from", startOf, time),
    occurredTo: read("occurred_to", endOf, time),
  };
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

function parseAction(text: string): string | undefined {
  return text.length > 0 && text !== "**" && !text.slice(1, -1).includes("*") ? text : undefined;
}

function parseLimit(text: string): number | undefined {
  const limit = /^[1-9]\d{0,3}$/.test(text) ? Number(text) : Number.NaN;
  return limit <= MAX_LIMIT ? limit : undefined;
}

function startOf(text: string): string | undefined {
  return parseTime(BARE_DATE.test(text) ? `${text}T00:00:00Z` : text);
}

/** A bare date includes its day: the end is the next day's start. */
function endOf(text: string): string | undefined {
  if (!BARE_DATE.test(text)) return parseTime(text);
  if (text === LAST_DATE) return parseTime(`${text}T23:59:59.999999Z`); // there is no next day to name
  const start = parseTime(`${text}T00:00:00Z`);
  return start === undefined ? undefined : parseTime(new Date(Date.parse(start) + DAY_MS).toISOString());
}

function parseTime(text: string): string | undefined {
  try {
    return normalizeTimestamp(text);
  } catch {
    return undefined; // the caller names the parameter and says what would be right
  }
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
