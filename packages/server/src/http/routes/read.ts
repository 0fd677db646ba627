/**
 * GET /v1/logs and /v1/logs/{id}.
 */

import type { Parameters } from "@tallystick/core/filter-parameters";
import { toHex } from "@tallystick/core/hex";
import type { FastifyInstance } from "fastify";
import { type Entry, Reader } from "../../log/reader.ts";
import { logOf } from "../log-of.ts";
import { Problem } from "../problem.ts";
import { encodeCursor, parseListQuery } from "../query.ts";
import { getEntrySchema, listEntriesSchema } from "../schemas/entries.ts";
import type { Services } from "../server.ts";
import { byOf } from "../watched.ts";

const config = { scope: "read" } as const;

export function readRoutes(app: FastifyInstance, { database, tenants, watch }: Services): void {
  const reader = new Reader(database);

  app.get("/v1/logs", { schema: listEntriesSchema, config }, async (request, reply) => {
    const { log: slug, ...query } = request.query as { log?: string } & Parameters;
    const log = await logOf(tenants, request.access.log, slug);
    const { filter, order, limit, after } = parseListQuery(query, log.logId);
    const { entries, next } = await reader.page(log, filter, { order, limit, after });
    watch.read({ log, by: byOf(request), asked: askedOf(query), entries: entries.length });
    const cursor = next === undefined ? null : encodeCursor(next);
    if (cursor !== null) {
      const parameters = { ...query, ...(slug !== undefined && { log: slug }), cursor };
      reply.header("link", `</v1/logs?${searchOf(parameters)}>; rel="next"`);
    }
    return { data: entries.map(summary), next_cursor: cursor };
  });

  app.get("/v1/logs/:id", { schema: getEntrySchema, config }, async (request) => {
    const { id } = request.params as { id: string };
    const found = await reader.get(request.access.log, id.toLowerCase());
    if (found === undefined) throw new Problem(404, "not-found", `There is no entry ${id}.`);
    const { entry } = found;
    watch.read({ log: found.log, by: byOf(request), asked: { id: entry.id }, entries: 1 });
    return {
      ...summary(entry),
      leaf: entry.leaf,
      ...(entry.opened.publisher !== undefined && { publisher: entry.opened.publisher }),
    };
  });
}

/** What a list asks for, whichever page of it. */
function askedOf({ cursor: _, limit: __, order: ___, tenant_id: ____, ...asked }: Parameters) {
  return asked;
}

function searchOf(parameters: Parameters): string {
  const pairs = Object.entries(parameters).flatMap(([name, values]) =>
    [values].flat().map((value) => [name, value as string]),
  );
  return new URLSearchParams(pairs as [string, string][]).toString();
}

function summary({ id, seq, recordedAt, leafHash, opened }: Entry) {
  return { id, seq, recorded_at: recordedAt, leaf_hash: toHex(leafHash), service: opened.service, event: opened.event };
}
