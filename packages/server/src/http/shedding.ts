/**
 * Load shedding: requests are refused while there is more to do than can be done, before time or memory run out for all.
 */
import { getHeapStatistics } from "node:v8";
import underPressure from "@fastify/under-pressure";
import type { FastifyInstance } from "fastify";
import { Problem } from "./problem.ts";

/** Of the memory that V8 may use; beyond it collecting garbage is nearly all it does. */
const HEAP_SHARE = 0.9;
/** It is measured every second. */
const RETRY_AFTER_SECONDS = 2;
/** The log is told once of a time of overload, which ends when nothing was refused for so long. */
const QUIET_MS = 10_000;

export interface SheddingOptions {
  /** Mean delay of the event loop in a second, in ms; 0 is no limit. */
  readonly maxEventLoopDelayMs: number;
  /** Memory of the process; without it only V8's own limit counts. */
  readonly maxMemoryBytes: number | undefined;
}

/** Health, metrics and documentation are answered all the same: who looks why it is slow must see something. */
export async function shedLoad(app: FastifyInstance, options: SheddingOptions): Promise<void> {
  let shedAt = Number.NEGATIVE_INFINITY;
  await app.register(underPressure, {
    maxEventLoopDelay: options.maxEventLoopDelayMs,
    maxHeapUsedBytes: getHeapStatistics().heap_size_limit * HEAP_SHARE,
    maxRssBytes: options.maxMemoryBytes ?? 0,
    pressureHandler: async (request, _reply, what, value) => {
      if (request.routeOptions.config.scope === undefined) return;
      const now = performance.now();
      if (now - shedAt > QUIET_MS) request.log.warn({ [what]: value }, "overloaded: requests are refused");
      shedAt = now;
      const detail = "The server has more to do than it can: try again later, and send less at a time.";
      throw new Problem(503, "overloaded", detail, { retryAfterSeconds: RETRY_AFTER_SECONDS });
    },
  });
}
