/**
 * GET /v1/logs/stream: entries as they are recorded, as server-sent events or on a WebSocket.
 */
import type { OutgoingHttpHeaders } from "node:http";
import websocket from "@fastify/websocket";
import type { Filter } from "@tallystick/core/filter";
import type { Parameters } from "@tallystick/core/filter-parameters";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { LogIdentity } from "../../log/identity.ts";
import { Outlet } from "../../stream/outlet.ts";
import { StreamsFullError } from "../../stream/streams.ts";
import type { End } from "../../stream/subscription.ts";
import { BEARER_PROTOCOL } from "../authentication.ts";
import { logOf } from "../log-of.ts";
import { Problem, problemOf } from "../problem.ts";
import { parseFilter } from "../query.ts";
import { streamSchema } from "../schemas/stream.ts";
import type { Services } from "../server.ts";
import { byOf } from "../watched.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Set before the handler of a stream. */
    streamPlan: StreamPlan;
  }
}

/** What is asked for, all of it checked: from here on there is no answer but the stream. */
interface StreamPlan {
  readonly log: LogIdentity;
  /** Whether the log is the tenant's current one: it ends when that is another. */
  readonly isCurrent: boolean;
  readonly filter: Filter;
  readonly from: number;
  readonly until: number | undefined;
  readonly asked: Parameters;
  /** Gives its place back. */
  readonly release: () => void;
}

/** Parameters that are no filter. */
interface StreamQuery {
  readonly tenant_id?: string;
  readonly log?: string;
  readonly since_seq?: string;
  readonly follow?: string;
}

const config = { scope: "stream" } as const;
/** Clients have nothing to say: what is larger than a ping ends the stream. */
const MAX_INCOMING_BYTES = 4_096;
const RETRY_AFTER_SECONDS = { tenant_full: 10, server_full: 10, stopping: 1 } as const;

/** To be registered before any route: it looks at each. */
export async function takeWebSockets(app: FastifyInstance): Promise<void> {
  app.decorateRequest("streamPlan", null as never);
  await app.register(websocket, {
    options: {
      maxPayload: MAX_INCOMING_BYTES,
      // A browser hangs up unless one of those that it names is taken; the one with the credential only where there is no other.
      handleProtocols: (protocols) => {
        const [first] = protocols;
        return [...protocols].find((one) => !one.startsWith(BEARER_PROTOCOL)) ?? first ?? false;
      },
    },
    errorHandler: (_error, socket) => socket.terminate(),
    // Streams have been ended by then.
    preClose(this: FastifyInstance, done: () => void) {
      for (const client of this.websocketServer.clients) client.terminate();
      this.websocketServer.close();
      done();
    },
  });
}

export function streamRoutes(app: FastifyInstance, services: Services): void {
  const { streams, tenants, gate, watch } = services;

  app.route({
    method: "GET",
    url: "/v1/logs/stream",
    exposeHeadRoute: false,
    schema: streamSchema,
    config,
    preHandler: async (request) => {
      request.streamPlan = await planOf(request);
    },
    handler: (request, reply) => {
      reply.hijack();
      // Also those of hooks, such as CORS; a proxy that gathers what is sent would hold it back.
      reply.headers({ "content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no" });
      reply.raw.writeHead(200, reply.getHeaders() as OutgoingHttpHeaders);
      void serve(request, Outlet.sse(reply.raw));
    },
    wsHandler: (socket, request) => serve(request, Outlet.webSocket(socket)),
  });

  async function planOf(request: FastifyRequest): Promise<StreamPlan> {
    const query = request.query as StreamQuery & Parameters;
    const { tenant_id: _, log: slug, since_seq, follow, ...parameters } = query;
    const filter = parseFilter(parameters);
    const current = request.access.log;
    const log = await logOf(tenants, current, slug);
    const size = await streams.size(log);
    const isCurrent = log.logId === current.logId;
    return {
      ...{ log, isCurrent, filter },
      from: fromOf(request, since_seq, size),
      // Of a log that has been succeeded there is nothing to wait for.
      until: follow === "false" || !isCurrent ? size : undefined,
      asked: { ...parameters, ...(slug !== undefined && { log: slug }), stream: request.ws ? "websocket" : "sse" },
      release: placeFor(request),
    };
  }

  function placeFor({ access, raw }: FastifyRequest): () => void {
    let release: () => void;
    try {
      release = streams.reserve(access.log.tenantId);
    } catch (error) {
      if (!(error instanceof StreamsFullError)) throw error;
      const { code, message } = error;
      const retryAfterSeconds = RETRY_AFTER_SECONDS[code];
      if (code === "tenant_full") throw new Problem(429, "too-many-requests", message, { retryAfterSeconds });
      throw new Problem(503, code === "stopping" ? "unavailable" : "overloaded", message, { retryAfterSeconds });
    }
    // Where the stream does not come about, as with a handshake that is none.
    raw.socket.once("close", release);
    return () => {
      raw.socket.off("close", release);
      release();
    };
  }

  async function serve(request: FastifyRequest, outlet: Outlet): Promise<void> {
    const { log, filter, from, until, asked, release, isCurrent } = request.streamPlan;
    const entries = await streams.serve({
      ...{ log, filter, from, until, outlet },
      recheck: async (considered) => {
        try {
          const now = await gate.admitStill(request, config.scope);
          if (!isCurrent || now.logId === log.logId) return undefined;
          return considered >= (await streams.size(log)) ? succeeded(now) : undefined; // it grows no more
        } catch (error) {
          return endOf(error);
        }
      },
    });
    release();
    // Once for a stream, and behind it: an entry for each message would be one more to send.
    watch.read({ log, by: byOf(request), asked, entries });
  }
}

/** @throws {Problem} 400 that names what lies beyond the log's end. */
function fromOf({ headers, ws }: FastifyRequest, since: string | undefined, size: number): number {
  const lastId = headers["last-event-id"];
  const [path, from] =
    !ws && typeof lastId === "string"
      ? ["Last-Event-ID", Number(lastId) + 1]
      : ["since_seq", since === undefined ? size : Number(since)];
  if (from <= size) return from;
  const message = `must be at most ${path === "since_seq" ? size : size - 1}: the log has ${size} entries`;
  throw new Problem(400, "invalid-request", "The stream cannot begin behind the log's end.", {
    errors: [{ path, message }],
  });
}

function succeeded({ name }: LogIdentity): End {
  const detail = `The log has been succeeded by ${name}, and all of it has been sent: connect again for that one.`;
  return { reason: "log_succeeded", detail, code: "normal" };
}

/** The end of a stream whose request would be refused now; undefined where nobody can tell at the moment. */
function endOf(error: unknown): End | undefined {
  const { status, reason, message } = problemOf(error);
  if (status >= 500) return undefined;
  return { reason: reason ?? "failed", detail: message, code: "policy" };
}
