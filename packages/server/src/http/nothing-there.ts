/**
 * Paths and methods that no route has.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { Problem } from "./problem.ts";

const METHODS = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"] as const;

/** @throws {Problem} 404, or 405 with Allow where the path has other methods. */
export function nothingThere(app: FastifyInstance, request: FastifyRequest, reply: FastifyReply): never {
  // The path is not repeated: with a credential in it, it would be in one more place.
  const url = request.url.split("?")[0] ?? request.url;
  const found = METHODS.flatMap((method) => {
    const route = app.findRoute({ url, method });
    return route === null ? [] : [{ method, exact: Object.keys(route.params).length === 0 }];
  });
  // Where there is a route of this very path, others whose parameter it would be are not meant.
  const isExact = found.some(({ exact }) => exact);
  const allowed = found.filter(({ exact }) => exact || !isExact).map(({ method }) => method);
  if (allowed.length === 0) {
    throw new Problem(404, "not-found", "There is nothing at this path. The routes are listed at /docs.");
  }
  reply.header("allow", allowed.join(", "));
  throw new Problem(405, "method-not-allowed", `This path takes ${allowed.join(" and ")}, not ${request.method}.`);
}
