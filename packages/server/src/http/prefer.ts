/**
 * The Prefer header (RFC 7240).
 */
import type { FastifyRequest } from "fastify";

/** Longest wait that is granted, in seconds. */
const MAX_WAIT_SECONDS = 600;

/** How long a client is ready to wait for an answer. */
export interface Wait {
  readonly seconds: number;
  /** For Preference-Applied. */
  readonly applied: string;
}

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

/**
 * What a request prefers of `wait` and `respond-async`; undefined where it says nothing that can be understood, which RFC 7240 has a
 * server ignore. More than ten minutes is ten minutes.
 */
export function preferredWait(request: FastifyRequest): Wait | undefined {
  const wait = preference(request, "wait");
  if (wait !== undefined && /^\d{1,9}$/.test(wait)) {
    const seconds = Math.min(Number(wait), MAX_WAIT_SECONDS);
    return { seconds, applied: `wait=${seconds}` };
  }
  return preference(request, "respond-async") === undefined ? undefined : { seconds: 0, applied: "respond-async" };
}
