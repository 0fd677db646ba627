/**
 * Shutting down without cutting a request.
 */
import { Server } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { FastifyInstance } from "fastify";

/** How long kept-alive connections may still bring a request: each is told to close with its answer. */
const GRACE_MS = 250;

/**
 * Stops listening, answers what has been accepted, then closes.
 *
 * Node's own close() ends idle connections at once, also one whose next request is already on the wire: that request would be
 * cut. So listening ends first, and connections are closed with the answers they carry, or after a grace period.
 *
 * @param endStreams ends the answers that have no end of their own.
 */
export async function drainHttp(app: FastifyInstance, endStreams: () => Promise<void> = async () => {}): Promise<void> {
  Server.prototype.close.call(app.server);
  app.server.on("request", (_request, response) => response.setHeader("connection", "close"));
  // Once nobody can come back to this server: who is told that it stops is to find another.
  await Promise.all([endStreams(), delay(GRACE_MS)]);
  await app.close();
}
