/**
 * The gate: who asks, what their limits say, and what they may do, by the route's scope and the tenant that is named.
 */
import type { Actor } from "@tallystick/core/event";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Caller } from "../access/caller.ts";
import type { Scope } from "../access/scopes.ts";
import type { Holder, RateLimits } from "../limits/rate-limits.ts";
import type { TenantLog, Tenants } from "../log/tenants.ts";
import type { Asker, Authentication } from "./authentication.ts";
import { Problem } from "./problem.ts";
import { chargeRequest } from "./rate-limit.ts";

/** What a request may do: decided before its handler runs. */
export interface Access {
  /** The tenant it works on. */
  readonly log: TenantLog;
  /** Whose credential it is; none where the route is open to all. */
  readonly caller: Caller | undefined;
  /** Whose limits it is charged to; as `caller`. */
  readonly holder: Holder | undefined;
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

export interface GateParts {
  readonly tenants: Tenants;
  readonly authentication: Authentication;
  readonly rateLimits: RateLimits;
}

export class Gate {
  readonly #parts: GateParts;
  readonly #tenants: Tenants;

  constructor(parts: GateParts) {
    this.#parts = parts;
    this.#tenants = parts.tenants;
  }

  /**
   * Lets a request in to what `scope` is asked for: who it is, what their limits say, what they may do, and on which log.
   * @throws {import("../access/caller.ts").CredentialError} without a good credential (401). @throws {Problem} 403 where it may
   *   not do this, 404 where the operator names no tenant there is, 429 where a limit is used up, or too many credentials of its
   *   address were refused.
   */
  admit(request: FastifyRequest, reply: FastifyReply, scope: RequiredScope): Access | Promise<Access> {
    // Nearly every request brings what was found good a moment ago: for it nothing is waited for.
    const asker = this.#parts.authentication.known(request);
    const own = asker === undefined || asker.operator ? undefined : this.#tenants.known(asker.caller.tenantId!);
    return asker === undefined || own === undefined
      ? this.#admit(request, reply, scope)
      : this.#admitToOwn(request, reply, scope, asker, own);
  }

  async #admit(request: FastifyRequest, reply: FastifyReply, scope: RequiredScope): Promise<Access> {
    const asker = await this.#parts.authentication.whoAsks(request);
    const own = await this.#ownLog(asker);
    if (own !== undefined) return this.#admitToOwn(request, reply, scope, asker, own);
    const holder = this.#charge(request, reply, scope, asker, undefined);
    return { ...asker, ...(await this.#logNamed(request)), holder, serviceId: asker.caller.serviceId };
  }

  /** Lets in to the log of the credential's tenant, and to no other that is named. */
  #admitToOwn(
    request: FastifyRequest,
    reply: FastifyReply,
    scope: RequiredScope,
    asker: Asker,
    own: TenantLog,
  ): Access {
    const { caller, operator, actor } = asker;
    const holder = this.#charge(request, reply, scope, asker, own);
    for (const name of namedTenants(request)) requireTenant(own, name, caller);
    return { caller, operator, actor, log: own, tenantBy: "credential", holder, serviceId: caller.serviceId };
  }

  /** What a request costs its holder, before anything is refused: a credential that goes on asking for what it may not do pays for it. */
  #charge(
    request: FastifyRequest,
    reply: FastifyReply,
    scope: RequiredScope,
    asker: Asker,
    own: TenantLog | undefined,
  ): Holder {
    const holder = { credential: asker.caller.credential, tenant: asker.operator ? undefined : own };
    chargeRequest(this.#parts.rateLimits, holder, reply, { revokes: request.routeOptions.config.revokes });
    requireScope(asker, scope);
    return holder;
  }

  /** What a request needs beyond what its route asks for. Errors as {@link admit}. */
  async admitFurther(request: FastifyRequest, reply: FastifyReply, scope: RequiredScope): Promise<void> {
    const { caller, operator } = request.access;
    if (caller === undefined) request.access = await this.admit(request, reply, scope);
    else requireScope({ caller, operator }, scope);
  }

  /**
   * Whether a request that was let in would be still, while its answer lasts: the log that it works on now. Costs its holder nothing,
   * and counts as no guess. Errors as {@link admit}.
   */
  async admitStill(request: FastifyRequest, scope: RequiredScope): Promise<TenantLog> {
    const asker = await this.#parts.authentication.whoAsksStill(request);
    requireScope(asker, scope);
    const own = await this.#ownLog(asker);
    return own ?? (await this.#logNamed(request)).log;
  }

  /** The log of a credential's tenant; undefined where the credential is no tenant's, or acts across them. */
  async #ownLog({ caller }: Asker): Promise<TenantLog | undefined> {
    if (caller.tenantId === undefined || caller.scopes.includes("operator")) return undefined;
    return this.#tenantOf(caller.tenantId);
  }

  /** The log that the operator names. */
  async #logNamed(request: FastifyRequest): Promise<Pick<Access, "log" | "tenantBy">> {
    const [named, ...again] = namedTenants(request);
    const log = await this.#tenantOf(named ?? DEFAULT_TENANT);
    for (const other of again) requireSame(log, other);
    return { log, tenantBy: named === undefined ? "default" : "operator" };
  }

  /**
   * The access of a request to what a log shows to anyone, by the path's tenant.
   * @throws {Problem} 404 where there is no such tenant.
   */
  async admitPublic(request: FastifyRequest): Promise<Access> {
    const [named] = namedTenants(request);
    const log = await this.#tenantOf(named ?? DEFAULT_TENANT);
    const actor: Actor = { type: "anonymous" };
    return {
      log,
      caller: undefined,
      serviceId: undefined,
      holder: undefined,
      tenantBy: "operator",
      operator: false,
      actor,
    };
  }

  /** The log that a body's `tenant_id` names: the operator's choice, for everyone else only their own. */
  async logOf(access: Access, named: string | undefined): Promise<TenantLog> {
    if (named === undefined) return access.log;
    if (access.tenantBy === "default") return this.#tenantOf(named);
    if (access.tenantBy === "operator") requireSame(access.log, named);
    else requireTenant(access.log, named, access.caller);
    return access.log;
  }

  async #tenantOf(idOrSlug: string): Promise<TenantLog> {
    const log = await this.#tenants.find(idOrSlug.toLowerCase());
    if (log === undefined) throw new Problem(404, "not-found", `There is no tenant "${idOrSlug}".`);
    return log;
  }
}

/** @throws {Problem} 403 where the credential has not the scope. */
function requireScope({ caller, operator }: Pick<Asker, "caller" | "operator">, scope: RequiredScope): void {
  if (!operator && scope !== "any" && !caller.scopes.includes(scope)) throw scopeMissing(caller, scope);
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
