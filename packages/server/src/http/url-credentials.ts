/**
 * Credentials do not belong into URLs, which end up in logs of servers and proxies, in histories and in Referer headers.
 */
import type { FastifyRequest } from "fastify";
import { Problem } from "./problem.ts";

/** Parameters that would hold one, without case and separators. */
const PARAMETERS = new Set([
  ...["apikey", "xapikey", "token", "accesstoken", "authtoken", "idtoken", "refreshtoken", "apitoken", "bearertoken"],
  ...[
    "jwt",
    "bearer",
    "auth",
    "authorization",
    "admintoken",
    "xadmintoken",
    "password",
    "passwd",
    "secret",
    "clientsecret",
  ],
  ...["credential", "credentials"],
]);

/**
 * Refuses a request with a credential in its URL, good or not: whoever sends one there has to notice, and to replace it.
 * @throws {Problem} 400 that names the parameter and where credentials belong, and never the value.
 */
export function refuseUrlCredentials({ query, raw }: FastifyRequest): void {
  // The only case that costs anything is a URL with parameters.
  const names = Object.keys((query ?? {}) as object).filter((name) =>
    PARAMETERS.has(name.toLowerCase().replaceAll(/[-_.]/g, "")),
  );
  const inAuthority = /^[a-z]+:\/\/[^/?#]*@/i.test(raw.url ?? "");
  if (names.length === 0 && !inAuthority) return;
  const message = "is a credential: send it as Authorization: Bearer or X-API-Key";
  throw new Problem(
    400,
    "invalid-request",
    "The URL holds a credential, and URLs end up in logs and histories: send it in a header, and replace it, because it may have been written down already.",
    { errors: [...names, ...(inAuthority ? ["URL"] : [])].map((path) => ({ path, message })) },
  );
}
