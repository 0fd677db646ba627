/**
 * The Prefer header (RFC 7240).
 */
import type { FastifyRequest } from "fastify";

/** The value of a preference, in lower case; the empty string where it has none, undefined where it was not sent. */
export function preference(request: FastifyRequest, name: string): string | undefined {
  const header = request.headers.prefer;
  if (header === undefined) return undefined;
  for (const part of String(header).split(",")) {
    const [token, value = ""] = part.split(";")[0]!.split("=");
    if (token!.trim().toLowerCase() === name)
      return value
        .trim()
        .replace(/^"(.*)"$/, "$1")
        .toLowerCase();
  }
  return undefined;
}
