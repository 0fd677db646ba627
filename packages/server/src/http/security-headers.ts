/**
 * Headers by which browsers, and caches on the way, are told to make nothing of an answer but what the client asked for.
 */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { TrustedProxies } from "./trusted-proxies.ts";

/**
 * With every answer, those of Node's parser included. Of a page these would forbid all that it is made of: /docs has a policy of
 * its own. Not by @fastify/helmet: it sets a dozen, most of them about pages, and cost a request 20 us of CPU where this costs 1.
 */
export const SECURITY_HEADERS = {
  // Entries hold what clients sent: no answer may ever be taken for a page or a script.
  "x-content-type-options": "nosniff",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "x-frame-options": "DENY",
  // No other site may load an answer as an image or a script and learn from it, whatever the browser sends along.
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  // Routes whose answers never change say so instead.
  "cache-control": "no-store",
} as const;

/** A year, as the preload lists ask; without subdomains, which are not ours to speak for. */
const HSTS = "max-age=31536000";

/** Puts the headers on every answer. Routes may set others of the same names. */
export function setSecurityHeaders(app: FastifyInstance): void {
  app.addHook("onRequest", (request, reply, done) => {
    reply.headers(SECURITY_HEADERS);
    // Over plain HTTP browsers ignore it (RFC 6797 section 7.2). Behind a trusted proxy this is the protocol that the client used.
    if (request.protocol === "https") reply.header("strict-transport-security", HSTS);
    done();
  });
}

const UNSAFE = new Set(["POST", "PUT", "PATCH", "DELETE"]);

/**
 * Whether a browser sends this on behalf of another site, with nothing but what it sends by itself: a client certificate. Other
 * credentials are headers, which a page of another site cannot set without being asked about first (CORS).
 */
export function isForeignPage({ method, headers }: FastifyRequest): boolean {
  const site = headers["sec-fetch-site"];
  if (!UNSAFE.has(method) || (site !== "cross-site" && site !== "same-site")) return false;
  return ["authorization", "x-api-key", "x-admin-token"].every((name) => headers[name] === undefined);
}

/**
 * Whether a browser opens a WebSocket for a page of another origin than these and the server's own. Nobody is asked about those
 * first, and the page would read all that comes: so the credential makes no difference. Programs send no Origin.
 */
export function isForeignSocket(
  request: FastifyRequest,
  { corsOrigins: allowed, proxies }: { corsOrigins: readonly string[]; proxies: Pick<TrustedProxies, "has"> },
): boolean {
  const { origin, upgrade } = request.headers;
  if (origin === undefined || upgrade?.toLowerCase() !== "websocket") return false;
  if (allowed.includes("*") || allowed.includes(origin)) return false;
  const page = URL.parse(origin);
  if (page === null) return true;
  // Where nobody can tell the scheme it may be the page's: an origin's host and port are compared in any case.
  const own = URL.parse(`${schemeOf(request, proxies) ?? page.protocol}//${request.host}`);
  return own === null || own.protocol !== page.protocol || own.host !== page.host;
}

/** The scheme of this server's origin; undefined where a proxy may have ended TLS, and none that is trusted says. */
function schemeOf({ headers, protocol, socket }: FastifyRequest, proxies: Pick<TrustedProxies, "has">) {
  const isSaid = headers["x-forwarded-proto"] !== undefined && proxies.has(socket.remoteAddress);
  if (!isSaid && protocol === "http") return undefined;
  // Some proxies name the protocol of WebSockets.
  return ["https", "wss"].includes(protocol) ? "https:" : "http:";
}
