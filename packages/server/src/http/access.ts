/**
 * Who asks, and what they may do: the credential of a request, checked against the route's scope and the tenant that is named.
 */
import type { Actor } from "@tallystick/core/event";
import type { FastifyRequest } from "fastify";
import { type AdminToken, OPERATOR } from "../access/admin-token.ts";
import { type ApiKeys, SECRET_PREFIX } from "../access/api-keys.ts";
import { type Caller, CredentialError } from "../access/caller.ts";
import type { Certificates } from "../access/certificates.ts";
import { KeysUnavailableError } from "../access/jwks.ts";
import type { Tokens } from "../access/jwt.ts";
import type { Scope } from "../access/scopes.ts";
import { looksLikeToken } from "../access/token-form.ts";
import type { Guesses } from "../limits/guesses.ts";
import type { TenantLog, Tenants } from "../log/tenants.ts";
import { clientCertificateOf, refuseForged } from "./client-certificate.ts";
import { Problem } from "./problem.ts";
import { tooManyRefused } from "./rate-limit.ts";
import type { TrustedProxies } from "./trusted-proxies.ts";

/** What a request may do: decided before its handler runs. */
export interface Access {
  /** The tenant it works on. */
  readonly log: TenantLog;
  /** Whose credential it is; none where the route is open to all. */
  readonly caller: Caller | undefined;
  /** The service that its credential is bound to. */
  readonly serviceId: string | undefined;
  /**
   * Whose choice the tenant is: the credential's, for good; the operator's, who has named it by header or parameter; nobody's
   * yet, and the operator may name one in the body.
   */
  readonly tenantBy: "credential" | "operator" | "default";
  /** Whether it may act across tenants. */
  readonly operator: boolean;
  /** Who it is, for the entries that tell of what was done. */
  readonly actor: Actor;
}

/** What a route asks for. `any` is any credential's of the tenant; without a scope the route is open to all. */
export type RequiredScope = Scope | "any";

/** The tenant that the operator works on who names none. */
const DEFAULT_TENANT = "default";

/** What decides about each kind of credential. */
export interface GateParts {
  readonly tenants: Tenants;
  readonly adminToken: AdminToken;
  readonly apiKeys: ApiKeys;
  /** None where no issuer of tokens is set. */
  readonly tokens: Tokens | undefined;
  readonly certificates: Certificates;
  readonly proxies: TrustedProxies;
  readonly guesses: Guesses;
}

export class Gate {
  readonly #parts: GateParts;
  readonly #tenants: Tenants;

  constructor(parts: GateParts) {
    this.#parts = parts;
    this.#tenants = parts.tenants;
  }

  /**
   * The access of a request.
   * @throws {CredentialError} without a good credential (401). @throws {Problem} 403 where it may not do this, 404 where the
   *   operator names no tenant there is, 429 where too many credentials of its address were refused.
   */
  async check(request: FastifyRequest, scope: RequiredScope): Promise<Access> {
    try {
      return await this.#check(request, scope);
    } catch (error) {
      if (isGuess(error)) this.#parts.guesses.refused(request.ip);
      throw error;
    }
  }

  async #check(request: FastifyRequest, scope: RequiredScope): Promise<Access> {
    refuseForged(request, this.#parts.proxies);
    const token = request.headers["x-admin-token"];
    const admin = typeof token === "string" ? this.#parts.adminToken.authenticate(token) : undefined;
    // Beside another credential the admin token adds the operator's rights, and the tenant stays that credential's. A certificate
    // is the connection's and not the request's: it counts where the request itself brings nothing.
    const caller = (await this.#callerOf(request)) ?? admin ?? (await this.#certifiedOf(request));
    if (caller === undefined) {
      throw new CredentialError(
        "credential_missing",
        'Send an API key as "Authorization: Bearer <key>" or "X-API-Key".',
      );
    }
    const operator = admin !== undefined || caller.scopes.includes("operator");
    if (!operator && scope !== "any" && !caller.scopes.includes(scope)) throw scopeMissing(caller, scope);
    const access = {
      caller,
      serviceId: caller.serviceId,
      operator,
      actor: admin === undefined ? caller.actor : OPERATOR,
    };
    const [named, ...again] = namedTenants(request);
    if (caller.tenantId === undefined || caller.scopes.includes("operator")) {
      const log = await this.#tenantOf(named ?? DEFAULT_TENANT);
      for (const other of again) requireSame(log, other);
      return { ...access, log, tenantBy: named === undefined ? "default" : "operator" };
    }
    const log = await this.#tenantOf(caller.tenantId);
    for (const one of named === undefined ? [] : [named, ...again]) requireTenant(log, one, caller);
    return { ...access, log, tenantBy: "credential" };
  }

  /**
   * The access of a request to what a log shows to anyone, by the path's tenant.
   * @throws {Problem} 404 where there is no such tenant.
   */
  async checkPublic(request: FastifyRequest): Promise<Access> {
    const [named] = namedTenants(request);
    const log = await this.#tenantOf(named ?? DEFAULT_TENANT);
    const actor: Actor = { type: "anonymous" };
    return { log, caller: undefined, serviceId: undefined, tenantBy: "operator", operator: false, actor };
  }

  /** The log that a body's `tenant_id` names: the operator's choice, for everyone else only their own. */
  async logOf(access: Access, named: string | undefined): Promise<TenantLog> {
    if (named === undefined) return access.log;
    if (access.tenantBy === "default") return this.#tenantOf(named);
    if (access.tenantBy === "operator") requireSame(access.log, named);
    else requireTenant(access.log, named, access.caller);
    return access.log;
  }

  /** Whoever holds the credential that the request brings beside the admin token; undefined where it brings none. */
  #callerOf(request: FastifyRequest): Promise<Caller> | undefined {
    const { apiKeys, tokens } = this.#parts;
    const onStranger = () => this.#refuseGuesses(request);
    const bearer = bearerOf(request);
    if (bearer !== undefined) {
      const isToken = tokens !== undefined && !bearer.startsWith(SECRET_PREFIX) && looksLikeToken(bearer);
      return isToken ? tokens.authenticate(bearer, onStranger) : apiKeys.authenticate(bearer, onStranger);
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

  async #tenantOf(idOrSlug: string): Promise<TenantLog> {
    const log = await this.#tenants.find(idOrSlug.toLowerCase());
    if (log === undefined) throw new Problem(404, "not-found", `There is no tenant "${idOrSlug}".`);
    return log;
  }
}

/** Whether a credential was brought that was not found good. One by a key that cannot be had may be anybody's. */
function isGuess(error: unknown): boolean {
  if (error instanceof KeysUnavailableError) return true;
  return error instanceof CredentialError && error.reason !== "credential_missing";
}

function scopeMissing({ scopes, credential }: Caller, scope: Scope): Problem {
  const own = scopes.map((one) => `"${one}"`).join(", ");
  const detail = `This needs the scope "${scope}"; the credential has ${own === "" ? "none" : own}.`;
  return new Problem(403, "forbidden", detail, { reason: "scope_missing", credential });
}

function isNameOf(log: TenantLog, named: string): boolean {
  return named.toLowerCase() === log.tenantId || named.toLowerCase() === log.slug;
}

/** What the operator names twice. */
function requireSame(log: TenantLog, named: string | undefined): void {
  if (named === undefined || isNameOf(log, named)) return;
  throw new Problem(400, "invalid-request", "The request names two tenants: name one.", {
    errors: [{ path: "/tenant_id", message: `names another tenant than "${log.slug}"` }],
  });
}

function requireTenant(log: TenantLog, named: string, caller: Caller | undefined): void {
  if (isNameOf(log, named)) return;
  throw new Problem(403, "forbidden", "The credential belongs to another tenant than the one that is named.", {
    reason: "tenant_foreign",
    credential: caller?.credential,
    errors: [{ path: "tenant_id", message: "must be the credential's own tenant, or be left out" }],
  });
}

/** The tenants that the path (where the route says that it does), the header and the parameter name. */
function namedTenants(request: FastifyRequest): string[] {
  const { tenantInPath } = request.routeOptions.config;
  const path = tenantInPath ? (request.params as { id?: unknown }).id : undefined;
  const header = request.headers["x-tenant-id"];
  const parameter = (request.query as Record<string, unknown> | undefined)?.tenant_id;
  return [path, header, parameter].filter((named) => typeof named === "string");
}

function bearerOf(request: FastifyRequest): string | undefined {
  const { authorization } = request.headers;
  if (authorization === undefined) return undefined;
  const [scheme, secret, ...rest] = authorization.split(" ");
  if (scheme?.toLowerCase() !== "bearer" || secret === undefined || rest.length > 0) {
    throw new CredentialError("credential_malformed", 'The Authorization header must be "Bearer <key>".');
  }
  return secret;
}
