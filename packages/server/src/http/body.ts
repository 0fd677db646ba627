/**
 * Bodies: bytes to JSON, by the media type that the client names.
 */
import { isAscii } from "node:buffer";
import {
  decodeUtf8,
  JsonError,
  type JsonItem,
  type JsonValue,
  parseJson,
  parseJsonItems,
  parseJsonLines,
} from "@tallystick/core/json";
import type { FastifyRequest } from "fastify";
import { Problem } from "./problem.ts";

/** Most events in a bulk request. */
export const MAX_BULK_EVENTS = 5_000;

type Media = "json" | "ndjson";

function mediaOf(request: FastifyRequest, accepted: readonly Media[]): Media {
  const [type, ...parameters] = (request.headers["content-type"]?.split(";") ?? []).map((part) =>
    part.trim().toLowerCase(),
  );
  requireUtf8(request, parameters);
  const media =
    type === undefined
      ? undefined
      : /^application\/([a-z0-9.+-]+\+)?json$/.test(type)
        ? "json"
        : /^application\/(x-)?(nd|json-?l(ines)?|ndjson)/.test(type)
          ? "ndjson"
          : undefined;
  if (media !== undefined && accepted.includes(media)) return media;
  if (request.headers["x-admin-token"] !== undefined) return "json"; // a hand-typed curl of the operator's
  throw new Problem(
    415,
    "unsupported-media-type",
    `Send Content-Type: application/json${accepted.includes("ndjson") ? " or application/x-ndjson" : ""}.`,
    {
      errors: [{ path: "Content-Type", message: type === undefined ? "is missing" : `"${type}" is not taken here` }],
    },
  );
}

/** Bytes that are something else than UTF-8 JSON could read as other text than was meant. */
function requireUtf8(request: FastifyRequest, parameters: readonly string[]): void {
  const charset = parameters.find((parameter) => parameter.startsWith("charset="))?.slice("charset=".length);
  const coding = request.headers["content-encoding"];
  if (charset !== undefined && !/^"?(utf-?8|us-ascii)"?$/.test(charset)) {
    throw new Problem(415, "unsupported-media-type", "Send the body in UTF-8.", {
      errors: [{ path: "Content-Type", message: `the charset ${charset} is not taken here` }],
    });
  }
  if (coding !== undefined && coding.toLowerCase() !== "identity") {
    throw new Problem(415, "unsupported-media-type", "Send the body uncompressed.", {
      errors: [{ path: "Content-Encoding", message: `"${coding}" is not taken here` }],
    });
  }
}

function textOf(request: FastifyRequest): string {
  const { body } = request;
  if (!Buffer.isBuffer(body) || body.length === 0) {
    throw new Problem(400, "invalid-json", "The body is empty: send a JSON object.", {
      errors: [{ path: "", message: "is empty" }],
    });
  }
  // Most bodies are ASCII, which is decoded by copying: 1 us an event less.
  return isAscii(body) ? body.toString("latin1") : decodeUtf8(body);
}

/**
 * A JSON body.
 * @throws {Problem} 415, or 400 for an empty body. @throws {JsonError} where it is no JSON that we take.
 */
export function jsonBody(request: FastifyRequest): JsonValue {
  mediaOf(request, ["json"]);
  return parseJson(textOf(request));
}

/** The items of a bulk body and where in it they are: an item's path is `${at}/${index}`. Errors as {@link jsonBody}. */
export function bulkBody(request: FastifyRequest): { items: readonly JsonItem[]; at: string } {
  const media = mediaOf(request, ["json", "ndjson"]);
  const text = textOf(request);
  const limits = { maxItems: MAX_BULK_EVENTS };
  try {
    const bulk = media === "ndjson" ? { items: parseJsonLines(text, limits), at: "" } : parseJsonItems(text, limits);
    if (bulk.items.length > 0) return bulk;
  } catch (error) {
    if (error instanceof JsonError && error.code === "too_many_items") {
      throw new Problem(
        413,
        "too-large",
        `A bulk request takes at most ${MAX_BULK_EVENTS} events: send the rest in another.`,
        { cause: error },
      );
    }
    throw error;
  }
  throw new Problem(400, "invalid-request", "The body has no events: send at least one.", {
    errors: [{ path: "/events", message: "is empty" }],
  });
}
