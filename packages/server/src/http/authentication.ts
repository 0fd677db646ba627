/**
 * Who asks: the credential that a request brings, and who holds it.
 */
import type { Actor } from "@tallystick/core/event";
import type { FastifyRequest } from "fastify";
import { type AdminToken, OPERATOR } from "../access/admin-token.ts";
import { type ApiKeys, SECRET_PREFIX } from "../access/api-keys.ts";
import { type Caller, CredentialError } from "../access/caller.ts";
import type { Certificates } from "../access/certificates.ts";
import { KeysUnavailableError } from "../access/jwks.ts";
import type { Tokens } from "../access/jwt.ts";
import { looksLikeToken } from "../access/token-form.ts";
import type { Guesses } from "../limits/guesses.ts";
import { claimsProxy, clientCertificateOf, refuseForged } from "./client-certificate.ts";
import { tooManyRefused } from "./rate-limit.ts";
import type { TrustedProxies } from "./trusted-proxies.ts";

/** What decides about each kind of credential. */
export interface AuthenticationParts {
  readonly adminToken: AdminToken;
  readonly apiKeys: ApiKeys;
  /** None where no issuer of tokens is set. */
  readonly tokens: Tokens | undefined;
  readonly certificates: Certificates;
  readonly proxies: TrustedProxies;
  readonly guesses: Guesses;
}

/** Whoever sends a request. */
export interface Asker {
  readonly caller: Caller;
  /** Whether they may act across tenants: by their credential, or by the admin token beside it. */
  readonly operator: boolean;
  /** Who it is, for the entries that tell of what was done. */
  readonly actor: Actor;
}

const BEARER = "Bearer ";
/** Begins the subprotocol by which a page's WebSocket passes its credential. */
export const BEARER_PROTOCOL = "bearer.";

export class Authentication {
  readonly #parts: AuthenticationParts;

  constructor(parts: AuthenticationParts) {
    this.#parts = parts;
  }

  /** Who sends this request, where its key or token was found good a moment ago; undefined says nothing. */
  known({ headers }: FastifyRequest): Asker | undefined {
    if (headers["x-admin-token"] !== undefined || claimsProxy(headers)) return undefined;
    const caller = this.#knownCaller(headers);
    return caller && { caller, operator: caller.scopes.includes("operator"), actor: caller.actor };
  }

  #knownCaller({ authorization, "x-api-key": key }: FastifyRequest["headers"]): Caller | undefined {
    const { apiKeys, tokens } = this.#parts;
    if (authorization === undefined) return typeof key === "string" ? apiKeys.known(key) : undefined;
    if (!authorization.startsWith(BEARER)) return undefined;
    const secret = authorization.slice(BEARER.length);
    return tokens !== undefined && isToken(secret) ? tokens.known(secret) : apiKeys.known(secret);
  }

  /**
   * Who sends this request.
   * @throws {CredentialError} without a good credential (401). @throws {KeysUnavailableError} where a token cannot be judged now.
   * @throws {import("./problem.ts").Problem} 429 where too many credentials of its address were refused.
   */
  async whoAsks(request: FastifyRequest): Promise<Asker> {
    try {
      return await this.#whoAsks(request);
    } catch (error) {
      if (isGuess(error)) this.#parts.guesses.refused(request.ip);
      throw error;
    }
  }

  /** The same of a request whose answer lasts: what was good when it came is no guess now, whatever has become of it. */
  whoAsksStill(request: FastifyRequest): Promise<Asker> {
    return this.#whoAsks(request, () => {});
  }

  async #whoAsks(request: FastifyRequest, onStranger = () => this.#refuseGuesses(request)): Promise<Asker> {
    refuseForged(request, this.#parts.proxies);
    const token = request.headers["x-admin-token"];
    const admin = typeof token === "string" ? this.#parts.adminToken.authenticate(token, onStranger) : undefined;
    // Beside another credential the admin token adds the operator's rights, and the tenant stays that credential's. A certificate
    // is the connection's and not the request's: it counts where the request itself brings nothing.
    const caller = (await this.#callerOf(request, onStranger)) ?? admin ?? (await this.#certifiedOf(request));
    if (caller === undefined) {
      throw new CredentialError(
        "credential_missing",
        'Send an API key as "Authorization: Bearer <key>" or "X-API-Key".',
      );
    }
    const operator = admin !== undefined || caller.scopes.includes("operator");
    return { caller, operator, actor: admin === undefined ? caller.actor : OPERATOR };
  }

  /** Whoever holds the credential that the request brings beside the admin token; undefined where it brings none. */
  #callerOf(request: FastifyRequest, onStranger: () => void): Promise<Caller> | undefined {
    const { apiKeys, tokens } = this.#parts;
    const bearer = bearerOf(request);
    if (bearer !== undefined) {
      if (tokens !== undefined && isToken(bearer)) return tokens.authenticate(bearer, onStranger);
      const caller = apiKeys.authenticate(bearer, onStranger);
      return isToken(bearer) ? caller.catch(noTokensTaken) : caller;
    }
    const key = request.headers["x-api-key"];
    return typeof key === "string" ? apiKeys.authenticate(key, onStranger) : undefined;
  }

  /** Whoever holds the certificate of the request's connection; undefined where it has none. */
  #certifiedOf(request: FastifyRequest): Promise<Caller> | undefined {
    const certificate = clientCertificateOf(request, this.#parts.proxies);
    return certificate && this.#parts.certificates.authenticate(certificate); // a CA has vouched for it: it is no guess
  }

  /** Before a credential is looked up that this server has not found before: those it has are never held up by a neighbour. */
  #refuseGuesses(request: FastifyRequest): void {
    const seconds = this.#parts.guesses.secondsToWait(request.ip);
    if (seconds > 0) throw tooManyRefused(seconds);
  }
}

/** Whether a bearer is a token by its form; one that begins as API keys do never is. */
function isToken(bearer: string): boolean {
  return !bearer.startsWith(SECRET_PREFIX) && looksLikeToken(bearer);
}

/** Whether a credential was brought that was not found good. One by a key that cannot be had may be anybody's. */
function isGuess(error: unknown): boolean {
  if (error instanceof KeysUnavailableError) return true;
  return error instanceof CredentialError && error.reason !== "credential_missing";
}

/** API_KEY may have a token's form where no issuer is set, so that it is looked up all the same. */
function noTokensTaken(error: unknown): never {
  if (!(error instanceof CredentialError && error.reason === "api_key_unknown")) throw error;
  throw new CredentialError(
    "jwt_invalid",
    "This looks like a token, and this installation takes no tokens: JWT_ISSUER is not set. Send an API key, or have the operator set the issuer up.",
    { cause: error },
  );
}

function bearerOf({ headers }: FastifyRequest): string | undefined {
  const { authorization } = headers;
  if (authorization === undefined) return headers["x-api-key"] === undefined ? protocolBearerOf(headers) : undefined;
  const [scheme, secret, ...rest] = authorization.split(" ");
  if (scheme?.toLowerCase() !== "bearer" || secret === undefined || rest.length > 0) {
    throw new CredentialError("credential_malformed", 'The Authorization header must be "Bearer <key>".');
  }
  return secret;
}

/** A page cannot give a WebSocket headers, but names of subprotocols: one of them is `bearer.` and the credential. */
function protocolBearerOf({ upgrade, "sec-websocket-protocol": protocols }: FastifyRequest["headers"]) {
  if (protocols === undefined || upgrade?.toLowerCase() !== "websocket") return undefined;
  const bearers = protocols
    .split(",")
    .map((one) => one.trim())
    .filter((one) => one.startsWith(BEARER_PROTOCOL));
  if (bearers.length > 1) {
    throw new CredentialError("credential_malformed", 'Name one subprotocol "bearer.<token>", not several.');
  }
  return bearers[0]?.slice(BEARER_PROTOCOL.length);
}
