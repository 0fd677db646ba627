/**
 * The witness over HTTP: add-checkpoint, and what it has seen for anyone who asks.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { toBase64 } from "@tallystick/core/base64";
import { formatVerifierKey } from "@tallystick/core/verifier-key";
import { isBusy } from "./state.ts";
import { Witness, type WitnessParts } from "./witness.ts";

/** The largest body: 63 lines of proof and a checkpoint with many signatures take a tenth of it. */
const MAX_BODY_BYTES = 131_072;
/** For a whole request, so that nobody holds connections by sending slowly. */
const REQUEST_TIMEOUT_MS = 10_000;
/** Kept open this long between requests: logs send every second or so. */
const KEEP_ALIVE_MS = 60_000;

/** A server that is not listening yet. It takes the witness's answers; errors are logged and answered 500 or 503. */
export function witnessServer(parts: WitnessParts): Server {
  const witness = new Witness(parts);
  const routes: Record<string, Record<string, (request: IncomingMessage, response: ServerResponse) => unknown>> = {
    "/add-checkpoint": {
      POST: async (request, response) => {
        const body = await bodyOf(request);
        if (body === undefined) return refuseBody(response);
        const { status, contentType, body: text } = witness.addCheckpoint(body);
        response.writeHead(status, { "content-type": contentType }).end(text);
      },
    },
    "/": { GET: (_request, response) => json(response, status(parts)) },
    "/conflicts": { GET: (_request, response) => json(response, { conflicts: conflicts(parts) }) },
  };
  const options = {
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: 1_000,
  };
  return createServer(options, async (request, response) => {
    const { method = "", url = "" } = request;
    const [path = ""] = url.split("?");
    const route = Object.hasOwn(routes, path) ? routes[path]! : undefined;
    const handle = route !== undefined && Object.hasOwn(route, method) ? route[method]! : undefined;
    try {
      if (route === undefined) text(response, 404, "there is nothing here");
      else if (handle === undefined)
        text(response, 405, "another method is needed here", { allow: Object.keys(route).join() });
      else await handle(request, response);
    } catch (error) {
      // The sender went away; nobody is left to be answered.
      if (request.destroyed && !request.complete) return;
      parts.log.error({ err: error }, `${method} ${path} failed`);
      if (isBusy(error)) text(response, 503, "the state is in use by another process", { "retry-after": "1" });
      else text(response, 500, "the witness has failed, and has not cosigned");
    }
  });
}

async function bodyOf(request: IncomingMessage): Promise<Uint8Array | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    length += (chunk as Buffer).length;
    if (length > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

function refuseBody(response: ServerResponse): void {
  text(response, 413, `a body has at most ${MAX_BODY_BYTES} bytes`, { connection: "close" });
}

function status({ cosigner, logs, state }: WitnessParts) {
  return {
    name: cosigner.key.name,
    vkey: formatVerifierKey(cosigner.key),
    logs: [...logs.keys()].map((origin) => {
      const last = state.cosigned(origin);
      if (last === undefined) return { origin, size: 0, root: null, time: null };
      return { origin, size: last.size, root: toBase64(last.root), time: rfc3339(last.time) };
    }),
    conflicts: state.conflicts().length,
  };
}

function conflicts({ state }: WitnessParts) {
  return state.conflicts().map(({ origin, kind, size, seenAt, note, keptNote }) => ({
    origin,
    kind,
    size,
    seen_at: rfc3339(seenAt),
    checkpoint: note,
    cosigned_before: keptNote,
  }));
}

function rfc3339(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(`${JSON.stringify(value, null, 2)}\n`);
}

function text(response: ServerResponse, code: number, line: string, headers: Record<string, string> = {}): void {
  response.writeHead(code, { "content-type": "text/plain; charset=utf-8", ...headers }).end(`${line}\n`);
}
