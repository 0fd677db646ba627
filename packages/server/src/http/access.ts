/**
 * Who asks, and what they may do: credentials of a request, checked against the route's scope.
 */
import { hash, timingSafeEqual } from "node:crypto";
import type { Actor } from "@tallystick/core/event";
import type { FastifyRequest } from "fastify";
import type { ApiKeys, Scope } from "../log/api-keys.ts";
import type { TenantLog, Tenants } from "../log/tenants.ts";
import { Problem } from "./problem.ts";

/** What a request may do: decided before its handler runs. */
export interface Access {
  /** The tenant it works on. */
  readonly log: TenantLog;
  /** The service that its credential is bound to. */
  readonly serviceId: string | undefined;
  /**
   * Whose choice the tenant is: the credential's, for good; the operator's, who has named it by header or parameter; nobody's
   * yet, and the operator may name one in the body.
   */
  readonly tenantBy: "credential" | "operator" | "default";
  /** Who it is, for the entries that tell of what was done. */
  readonly actor: Actor;
}

/**
 * What a route asks for. `operator` is the admin token's alone, `any` any credential's of the tenant; without a scope the route is
 * open to all.
 */
export type RequiredScope = Scope | "operator" | "any";

/** The tenant that the operator works on who names none. */
const DEFAULT_TENANT = "default";
/** Whoever holds the admin token. */
const OPERATOR: Actor = { type: "user", id: "operator" };

export class Gate {
  readonly #apiKeys: ApiKeys;
  readonly #tenants: Tenants;
  readonly #adminTokenHash: Buffer;

  constructor(options: { apiKeys: ApiKeys; tenants: Tenants; adminToken: string }) {
    this.#apiKeys = options.apiKeys;
    this.#tenants = options.tenants;
    this.#adminTokenHash = hash("sha256", options.adminToken, "buffer");
  }

  /**
   * The access of a request.
   * @throws {Problem} 401 without a valid credential, 403 where it may not do this, 404 where the operator names no tenant there is.
   */
  async check(request: FastifyRequest, scope: RequiredScope): Promise<Access> {
    const adminToken = request.headers["x-admin-token"];
    const secret = secretOf(request);
    if (secret === undefined) {
      if (typeof adminToken !== "string")
        throw unauthenticated('Send an API key as "Authorization: Bearer <key>" or "X-API-Key".');
      this.#checkAdminToken(adminToken);
      const [named, ...again] = namedTenants(request);
      const log = await this.#tenantOf(named ?? DEFAULT_TENANT);
      for (const other of again) requireSame(log, other);
      return { log, serviceId: undefined, tenantBy: named === undefined ? "default" : "operator", actor: OPERATOR };
    }
    // Beside another credential the admin token adds the operator's rights, and the tenant stays that credential's.
    const operator = typeof adminToken === "string";
    if (operator) this.#checkAdminToken(adminToken);
    const key = await this.#apiKeys.find(secret);
    if (key === undefined) throw unauthenticated("The API key is not known, expired or revoked.");
    if (!operator && scope !== "any" && (scope === "operator" || !key.scopes.includes(scope))) {
      throw new Problem(
        403,
        "forbidden",
        `This needs the scope "${scope}"; the credential has ${key.scopes.map((own) => `"${own}"`).join(", ")}.`,
      );
    }
    const log = await this.#tenantOf(key.tenantId);
    for (const named of namedTenants(request)) requireTenant(log, named);
    const actor: Actor = operator ? OPERATOR : { type: "api_key", id: key.id };
    return { log, serviceId: key.serviceId, tenantBy: "credential", actor };
  }

  /**
   * The access of a request to what a log shows to anyone, by the path's tenant.
   * @throws {Problem} 404 where there is no such tenant.
   */
  async checkPublic(request: FastifyRequest): Promise<Access> {
    const [named] = namedTenants(request);
    const log = await this.#tenantOf(named ?? DEFAULT_TENANT);
    return { log, serviceId: undefined, tenantBy: "operator", actor: { type: "anonymous" } };
  }

  /** The log that a body's `tenant_id` names: the operator's choice, for everyone else only their own. */
  async logOf(access: Access, named: string | undefined): Promise<TenantLog> {
    if (named === undefined) return access.log;
    if (access.tenantBy === "default") return this.#tenantOf(named);
    if (access.tenantBy === "operator") requireSame(access.log, named);
    else requireTenant(access.log, named);
    return access.log;
  }

  #checkAdminToken(token: string): void {
    // Hashes of equal length: the comparison tells nothing by its time.
    if (!timingSafeEqual(hash("sha256", token, "buffer"), this.#adminTokenHash))
      throw unauthenticated("The admin token is not this installation's.");
  }

  async #tenantOf(idOrSlug: string): Promise<TenantLog> {
    const log = await this.#tenants.find(idOrSlug.toLowerCase());
    if (log === undefined) throw new Problem(404, "not-found", `There is no tenant "${idOrSlug}".`);
    return log;
  }
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

function requireTenant(log: TenantLog, named: string): void {
  if (isNameOf(log, named)) return;
  throw new Problem(403, "forbidden", "The credential belongs to another tenant than the one that is named.", {
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

function secretOf(request: FastifyRequest): string | undefined {
  const { authorization } = request.headers;
  if (authorization !== undefined) {
    const [scheme, secret, ...rest] = authorization.split(" ");
    if (scheme?.toLowerCase() !== "bearer" || secret === undefined || rest.length > 0) {
      throw unauthenticated('The Authorization header must be "Bearer <key>".');
    }
    return secret;
  }
  const header = request.headers["x-api-key"];
  return typeof header === "string" ? header : undefined;
}

function unauthenticated(detail: string): Problem {
  return new Problem(401, "unauthenticated", detail);
}
