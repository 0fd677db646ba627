/**
 * Large bodies: counted while they arrive, and thrown away for a while where the request is refused before they are there.
 */
import type { IncomingMessage } from "node:http";
import type { FastifyReply, FastifyRequest, preParsingHookHandler } from "fastify";
import type { Bodies } from "../limits/bodies.ts";
import { Problem } from "./problem.ts";

/** Smaller ones are not counted: there can be no more of them than connections. */
export const LARGE_BYTES = 64 * 1024;
/** How long the rest of a refused body is read: a client that is cut at once sees a reset in place of its answer. */
const DISCARD_MS = 5_000;

/** Whether the body is large, or may be. */
function isLarge({ headers }: IncomingMessage): boolean {
  return Number(headers["content-length"] ?? 0) > LARGE_BYTES || headers["transfer-encoding"] !== undefined;
}

/** Refuses a body that finds no room (503), when it finds none: also after a part of it has arrived. */
export function countBodies(bodies: Bodies): preParsingHookHandler {
  return (request: FastifyRequest, reply: FastifyReply, payload, done) => {
    if (!isLarge(request.raw)) return done(null, payload);
    const count = bodies.count(request.access.log.tenantId);
    reply.raw.once("close", () => count.release());
    const onData = (chunk: Buffer) => {
      const isRead = payload.listenerCount("error") > 0; // else it was refused already, and is thrown away
      if (isRead && count.add(chunk.length)) return;
      payload.off("data", onData);
      count.release();
      if (isRead) payload.emit("error", noRoom("body")); // to whoever reads it; the stream is not broken
    };
    payload.on("data", onData);
    done(null, payload);
  };
}

/** Before a request whose answer will be large, and cannot be refused once its work is done. @throws {Problem} 503 where there is no room. */
export function requireRoom(bodies: Bodies, tenantId: string): void {
  if (!bodies.count(tenantId).add(0)) throw noRoom("answer");
}

export function noRoom(what: "body" | "answer"): Problem {
  const detail =
    what === "body"
      ? "The server has no room for another large body now: try again, or send fewer events in a request."
      : "The server has no room for another large answer now: read those that you have asked for, try again, or ask for less at a time.";
  return new Problem(503, "overloaded", detail, { retryAfterSeconds: 1 });
}

/** Lets the rest of a refused request's body come for a while, and ends the connection if it has not come by then. */
export function discardRest({ raw }: FastifyRequest, reply: FastifyReply): void {
  if (raw.complete || !isLarge(raw)) return;
  reply.removeHeader("connection"); // Fastify would close while it is still coming
  raw.resume();
  const timer = setTimeout(() => raw.socket.destroy(), DISCARD_MS).unref();
  const done = () => clearTimeout(timer);
  raw.once("end", done);
  raw.once("close", done);
}
