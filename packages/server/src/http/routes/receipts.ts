/**
 * GET /v1/logs/{id}/receipt: the proof that an entry is in the log.
 */
import type { FastifyInstance } from "fastify";
import { Reader } from "../../log/reader.ts";
import { Problem } from "../problem.ts";
import { receiptOf } from "../receipts.ts";
import { receiptSchema } from "../schemas/log.ts";
import type { Services } from "../server.ts";
import { byOf } from "../watched.ts";

const config = { scope: "read" } as const;

export function receiptRoutes(app: FastifyInstance, services: Services): void {
  const reader = new Reader(services.database);

  app.get("/v1/logs/:id/receipt", { schema: receiptSchema, config }, async (request, reply) => {
    const { id } = request.params as { id: string };
    const { tree_size: size, cosigned } = request.query as { tree_size?: string; cosigned?: string };
    const found = await reader.get(request.access.log, id.toLowerCase(), "latest");
    if (found === undefined) throw new Problem(404, "not-found", `There is no entry ${id}.`);
    const receipt = await receiptOf(services, found.log, found.entry.seq, {
      ...(size !== undefined && { treeSize: Number(size) }),
      ...(cosigned !== undefined && { cosigned: Number(cosigned) }),
    });
    services.watch.read({
      log: found.log,
      by: byOf(request),
      asked: { id: found.entry.id, receipt: "true" },
      entries: 1,
    });
    return reply.type("text/plain; charset=utf-8").send(receipt);
  });
}
