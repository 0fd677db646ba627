/**
 * GET /v1/logs/history
 */
import { type FilterError, filterOf, type Parameters } from "@tallystick/core/filter-parameters";
import type { FastifyInstance } from "fastify";
import { Reader } from "../../log/reader.ts";
import { type Change, type HistoryQuery, readHistory } from "../../stats/history.ts";
import { parsePath } from "../../stats/path.ts";
import { listHash } from "../cursor.ts";
import { logOf } from "../log-of.ts";
import { type FieldError, Problem } from "../problem.ts";
import { requireOwn } from "../query.ts";
import { historySchema } from "../schemas/stats.ts";
import type { Services } from "../server.ts";
import { byOf } from "../watched.ts";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 1_000;

export function historyRoutes(app: FastifyInstance, { database, tenants, watch, cursors }: Services): void {
  const reader = new Reader(database);

  app.get("/v1/logs/history", { schema: historySchema, config: { scope: "read" } }, async (request, reply) => {
    const { log: slug, tenant_id: _, limit, cursor, ...parameters } = request.query as Record<string, string>;
    const log = await logOf(tenants, request.access.log, slug);
    const errors: FieldError[] = [];
    const query = parseHistoryQuery(parameters, errors);
    const count = limit === undefined ? DEFAULT_LIMIT : Number(limit);
    if (!(count >= 1 && count <= MAX_LIMIT)) {
      errors.push({
        path: "limit",
        message: `must be a whole number from 1 to ${MAX_LIMIT}, not "${limit!.slice(0, 100)}"`,
      });
    }
    const list = listHash(["history", query]);
    const place = cursor === undefined ? undefined : cursors.decode(cursor);
    if (cursor !== undefined && place?.towards !== "next") {
      errors.push({ path: "cursor", message: `must be a next_cursor, unchanged, not "${cursor.slice(0, 100)}"` });
    }
    if (errors.length > 0) {
      throw new Problem(400, "invalid-request", "The query was refused: mend the parameters in errors.", { errors });
    }
    if (place !== undefined) requireOwn(place, log, list);
    const { changes, next } = await readHistory(reader, log, query, { limit: count, before: place?.seq });
    watch.read({ log, by: byOf(request), asked: parameters, entries: changes.length });
    const nextCursor =
      next === undefined ? null : cursors.encode({ logId: log.logId, list, towards: "next", seq: next });
    if (nextCursor !== null) {
      const again = { ...(request.query as Record<string, string>), cursor: nextCursor };
      reply.header("link", `</v1/logs/history?${new URLSearchParams(again)}>; rel="next"`);
    }
    const data = changes.map(bodyOf);
    return { ...(place === undefined && { last_set: data[0] ?? null }), data, next_cursor: nextCursor };
  });
}

function parseHistoryQuery(parameters: Readonly<Record<string, string>>, errors: FieldError[]): HistoryQuery {
  const { resource = "", field = "", ...times } = parameters;
  const [, type = "", id = ""] = /^([^:]+):(.+)$/s.exec(resource) ?? [];
  if (id === "") {
    errors.push({ path: "resource", message: `must be type:id, as in order:o-17, not "${resource.slice(0, 100)}"` });
  }
  const path = parsePath(field);
  if (path === undefined) {
    errors.push({
      path: "field",
      message: `must be a path of keys between dots, as in status or address.city, where keys that have dots or quotes stand in quotes, not "${field.slice(0, 100)}"`,
    });
  }
  const refused: FilterError[] = [];
  const { from, to } = filterOf(times as Parameters, refused);
  for (const { path: name, message } of refused) errors.push({ path: name, message });
  return { type, id, path: path ?? [], from, to };
}

function bodyOf({ entry: { seq, id, recordedAt, opened }, before, after }: Change) {
  const { action, actor } = opened.event;
  return {
    ...{ seq, id, recorded_at: recordedAt, action, actor },
    ...(before !== undefined && { before }),
    ...(after !== undefined && { after }),
  };
}
