/**
 * POST /v1/logs/search: a list whose query is in the body, where no access log keeps it and no length of URL bounds it.
 */
import type { Parameters } from "@tallystick/core/filter-parameters";
import type { FastifyInstance } from "fastify";
import { Reader } from "../../log/reader.ts";
import { jsonBody } from "../body.ts";
import { logOf } from "../log-of.ts";
import { readPage } from "../page.ts";
import { Problem } from "../problem.ts";
import { parseListQuery } from "../query.ts";
import { searchEntriesSchema } from "../schemas/search.ts";
import type { Services } from "../server.ts";
import { parseWith } from "../validate.ts";
import { byOf } from "../watched.ts";

interface SearchBody {
  readonly search_text?: string;
  readonly filters?: Parameters;
  readonly log?: string;
  readonly order?: "asc" | "desc" | "rank";
  readonly limit?: number;
  readonly cursor?: string;
}

export function searchRoutes(app: FastifyInstance, { database, tenants, watch, cursors }: Services): void {
  const reader = new Reader(database);

  app.post("/v1/logs/search", { schema: searchEntriesSchema, config: { scope: "read" } }, async (request) => {
    const body = parseWith<SearchBody>(searchEntriesSchema.body, jsonBody(request));
    const log = await logOf(tenants, request.access.log, body.log);
    const page = await readPage(
      reader,
      log,
      listQueryOf(body, () => parseListQuery(parametersOf(body), log, cursors)),
      cursors,
    );
    const asked = { ...body.filters, ...(body.search_text !== undefined && { search_text: body.search_text }) };
    watch.read({ log, by: byOf(request), asked, entries: page.data.length });
    return page;
  });
}

/** The same as parameters of a list. */
function parametersOf({ search_text, filters, order, limit, cursor }: SearchBody): Parameters {
  return {
    ...filters,
    ...(search_text !== undefined && { q: search_text }),
    ...(order !== undefined && { order }),
    ...(limit !== undefined && { limit: String(limit) }),
    ...(cursor !== undefined && { cursor }),
  };
}

/** Names what is wrong by its place in the body. */
function listQueryOf<T>({ filters = {} }: SearchBody, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const place = (path: string) => (path === "q" ? "/search_text" : path in filters ? `/filters/${path}` : `/${path}`);
    const errors = error.errors?.map(({ path, message }) => ({ path: place(path), message }));
    throw new Problem(error.status, error.problem, error.message, { ...(errors !== undefined && { errors }) });
  }
}
