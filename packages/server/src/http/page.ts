/**
 * Pages of a list, in both directions.
 */
import type { Parameters } from "@tallystick/core/filter-parameters";
import type { LogIdentity } from "../log/identity.ts";
import type { Entry, Order, Reader } from "../log/reader.ts";
import { entrySummary } from "../log/summary.ts";
import type { Cursors } from "./cursor.ts";
import type { ListQuery } from "./query.ts";

/** A page as it is answered. */
export interface PageAnswer {
  readonly data: readonly object[];
  readonly next_cursor: string | null;
  readonly prev_cursor: string | null;
}

/**
 * The page that a query asks for. The pages before are read against the order of the list and turned round, so that going forth and
 * back shows the same entries; what has been recorded since the first page is before it where the newest come first.
 *
 * @throws {import("../log/find.ts").SearchTimeoutError} as the reader does.
 */
export async function readPage(
  reader: Reader,
  log: LogIdentity,
  { filter, order, limit, cursor, list }: ListQuery,
  cursors: Cursors,
): Promise<PageAnswer> {
  if (order === "rank") {
    const ranked = await reader.ranked(log, filter, limit);
    return { data: ranked.map(entrySummary), next_cursor: null, prev_cursor: null };
  }
  const back = cursor?.towards === "prev";
  const page = await reader.page(log, filter, { order: back ? opposite(order) : order, limit, after: cursor });
  const entries = back ? page.entries.toReversed() : page.entries;
  const more = page.next !== undefined;
  const to = (towards: "next" | "prev", entry: Entry | undefined) =>
    entry === undefined ? null : cursors.encode({ logId: log.logId, list, towards, seq: entry.seq });
  return {
    data: entries.map(entrySummary),
    // Whoever came from a page can go back to it.
    next_cursor: (back ? cursor !== undefined : more) ? to("next", entries.at(-1)) : null,
    prev_cursor: (back ? more : cursor !== undefined) ? to("prev", entries[0]) : null,
  };
}

/** Of a `Link`: clients refuse answers whose headers have more than 8 or 16 kB in all. */
const MAX_LINK_BYTES = 4_096;

/** The `Link` header (RFC 8288) of a page; undefined where it is the only one, or where the query is so long that the cursors in the body must do. */
export function linkOf(path: string, parameters: Parameters, page: PageAnswer): string | undefined {
  const links = (["next", "prev"] as const).flatMap((rel) => {
    const cursor = page[`${rel}_cursor`];
    return cursor === null ? [] : `<${path}?${searchOf({ ...parameters, cursor })}>; rel="${rel}"`;
  });
  const link = links.join(", ");
  return link === "" || link.length > MAX_LINK_BYTES ? undefined : link;
}

function searchOf(parameters: Parameters): string {
  const pairs = Object.entries(parameters).flatMap(([name, values]) =>
    [values].flat().map((value): [string, string] => [name, value as string]),
  );
  return new URLSearchParams(pairs).toString();
}

function opposite(order: Order): Order {
  return order === "asc" ? "desc" : "asc";
}
