/**
 * Large answers: counted with the large bodies while they wait for their clients, who may never read them.
 */
import type { FastifyInstance } from "fastify";
import type { Bodies } from "../limits/bodies.ts";
import { LARGE_BYTES, noRoom } from "./large-bodies.ts";

/**
 * Refuses a large answer for which there is no room (503). One that tells what was recorded is sent all the same: it counts, and the
 * next bulk request is not begun. Streams are sent at the client's speed, and count for nothing.
 */
export function countAnswers(app: FastifyInstance, bodies: Bodies): void {
  app.addHook("onSend", (request, reply, payload, done) => {
    const bytes = sizeOf(payload);
    if (bytes <= LARGE_BYTES) return done(null, payload);
    // Null of a route that is open to all, such as documentation: strangers together have the share of one tenant.
    const access = request.access as typeof request.access | null;
    const count = bodies.count(access?.log.tenantId ?? "");
    // Asked before it is counted, so that one which is larger than all the room there is goes out at some time.
    if (!request.routeOptions.config.records && !count.add(0)) return done(noRoom("answer"));
    count.add(bytes);
    reply.raw.once("close", () => count.release()); // sent whole, or cut
    done(null, payload);
  });
}

function sizeOf(payload: unknown): number {
  if (Buffer.isBuffer(payload)) return payload.length;
  if (typeof payload !== "string") return 0;
  // A character has 3 bytes at most: small answers, nearly all of them, are not looked through.
  return payload.length * 3 <= LARGE_BYTES ? 0 : Buffer.byteLength(payload);
}
