/**
 * Files that are sent as they are made: at the client's speed, compressed where it wants that, and cut where they cannot be finished.
 */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { FastifyReply, FastifyRequest } from "fastify";
import { Problem } from "./problem.ts";

export interface Download {
  readonly mediaType: string;
  /** The file's name, without what is added where it is compressed. */
  readonly name: string;
  /** Whether the file itself is compressed, whatever the client can decompress. */
  readonly gzip: boolean;
}

/** Little over half the work of zlib's default, for files that are 7 % larger (docs/decisions/0015). */
const GZIP_LEVEL = 3;

/** Aborted when the client is gone: nobody waits for what is still searched for. */
export function goneSignal(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once("close", () => {
    gone.abort(new Problem(400, "invalid-request", "The connection was closed before the export was done."));
  });
  return gone.signal;
}

/** Sets the headers of a download; `pieces` follow with {@link sendDownload}. */
export function announceDownload(request: FastifyRequest, reply: FastifyReply, download: Download): void {
  const { mediaType, name, gzip } = download;
  reply
    .type(gzip ? "application/gzip" : mediaType)
    .header("cache-control", "no-store")
    .header("vary", "Accept-Encoding")
    .header("content-disposition", `attachment; filename="${name}${gzip ? ".gz" : ""}"`);
  if (!gzip && acceptsGzip(request)) reply.header("content-encoding", "gzip");
}

/**
 * Sends what has been announced. A failure behind the first piece ends the connection: the client sees that the file was cut off.
 */
export function sendDownload(
  request: FastifyRequest,
  reply: FastifyReply,
  { gzip }: Download,
  pieces: AsyncIterable<string | Uint8Array>,
): FastifyReply {
  const source = Readable.from(pieces, { objectMode: false });
  const failed = (error: Error) => {
    if (!request.raw.socket.destroyed) request.log.error({ err: error }, "an export was cut off");
  };
  if (!gzip && !acceptsGzip(request)) return reply.send(source.once("error", failed));
  const compressed = createGzip({ level: GZIP_LEVEL });
  pipeline(source, compressed).catch(failed);
  return reply.send(compressed);
}

/** Whether the client says that it can decompress (RFC 9110, section 12.5.3). */
function acceptsGzip(request: FastifyRequest): boolean {
  const codings = String(request.headers["accept-encoding"] ?? "").split(",");
  const weights = new Map(
    codings.map((coding) => {
      const [name, ...parameters] = coding.split(";").map((part) => part.trim().toLowerCase());
      const weight = parameters.find((parameter) => parameter.startsWith("q="));
      return [name, weight === undefined ? 1 : Number(weight.slice(2))];
    }),
  );
  return (weights.get("gzip") ?? weights.get("*") ?? 0) > 0;
}
