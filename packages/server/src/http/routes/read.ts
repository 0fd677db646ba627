/**
 * GET /v1/logs and /v1/logs/{id}.
 */
import type { Parameters } from "@tallystick/core/filter-parameters";
import type { FastifyInstance } from "fastify";
import { Reader } from "../../log/reader.ts";
import { entrySummary } from "../../log/summary.ts";
import { logOf } from "../log-of.ts";
import { linkOf, readPage } from "../page.ts";
import { Problem } from "../problem.ts";
import { parseListQuery } from "../query.ts";
import { getEntrySchema, listEntriesSchema } from "../schemas/entries.ts";
import type { Services } from "../server.ts";
import { byOf } from "../watched.ts";

const config = { scope: "read" } as const;

export function readRoutes(app: FastifyInstance, { database, tenants, watch, cursors }: Services): void {
  const reader = new Reader(database);

  app.get("/v1/logs", { schema: listEntriesSchema, config }, async (request, reply) => {
    const parameters = request.query as { log?: string } & Parameters;
    const { log: slug, cursor: _, limit: __, order: ___, tenant_id: ____, ...asked } = parameters;
    const log = await logOf(tenants, request.access.log, slug);
    const page = await readPage(reader, log, parseListQuery(parameters, log, cursors), cursors);
    watch.read({ log, by: byOf(request), asked, entries: page.data.length });
    const link = linkOf("/v1/logs", parameters, page);
    if (link !== undefined) reply.header("link", link);
    return page;
  });

  app.get("/v1/logs/:id", { schema: getEntrySchema, config }, async (request) => {
    const { id } = request.params as { id: string };
    const found = await reader.get(request.access.log, id.toLowerCase());
    if (found === undefined) throw new Problem(404, "not-found", `There is no entry ${id}.`);
    const { entry } = found;
    watch.read({ log: found.log, by: byOf(request), asked: { id: entry.id }, entries: 1 });
    return {
      ...entrySummary(entry),
      leaf: entry.leaf,
      ...(entry.opened.publisher !== undefined && { publisher: entry.opened.publisher }),
    };
  });
}
