/**
 * GET/POST /v1/tenants, GET/PATCH /v1/tenants/{id}: the operator's, but for an administrator's look at their own.
 */
import type { FastifyInstance } from "fastify";
import { OperatorTenantError } from "../../access/tenant-changes.ts";
import { SlugTakenError, type TenantChange } from "../../log/tenants.ts";
import { jsonBody } from "../body.ts";
import { Problem } from "../problem.ts";
import { createTenantSchema, getTenantSchema, listTenantsSchema, updateTenantSchema } from "../schemas/tenants.ts";
import type { Services } from "../server.ts";
import { parseWith } from "../validate.ts";
import { byOf } from "../watched.ts";

const config = { scope: "operator" } as const;
/** An administrator sees their own tenant, the operator each. */
const own = { scope: "admin" } as const;

export function tenantRoutes(app: FastifyInstance, { tenants, tenantChanges }: Services): void {
  app.get("/v1/tenants", { schema: listTenantsSchema, config: own }, async ({ access: { operator, log } }) => ({
    data: operator ? await tenants.list() : [await tenants.get(log.tenantId)],
  }));

  app.post("/v1/tenants", { schema: createTenantSchema, config }, async (request, reply) => {
    const { slug, name } = parseWith<{ slug: string; name?: string }>(createTenantSchema.body, jsonBody(request));
    try {
      const tenant = await tenantChanges.create(byOf(request), slug, name ?? slug);
      return await reply.code(201).header("location", `/v1/tenants/${tenant.id}`).send(tenant);
    } catch (error) {
      if (!(error instanceof SlugTakenError)) throw error;
      throw new Problem(409, "conflict", error.message, { errors: [{ path: "/slug", message: "is taken" }] });
    }
  });

  app.get("/v1/tenants/:id", { schema: getTenantSchema, config: { ...own, tenantInPath: true } }, async (request) => {
    const { id } = request.params as { id: string };
    return (await tenants.get(id)) ?? unknownTenant(id);
  });

  app.patch(
    "/v1/tenants/:id",
    { schema: updateTenantSchema, config: { ...config, tenantInPath: true } },
    async (request) => {
      const change = parseWith<TenantChange>(updateTenantSchema.body, jsonBody(request));
      try {
        return await tenantChanges.update(request.access.log, byOf(request), change);
      } catch (error) {
        if (!(error instanceof OperatorTenantError)) throw error;
        const errors = [{ path: "/status", message: "must be active" }];
        throw new Problem(409, "conflict", `Nothing was changed: ${error.message}.`, { errors });
      }
    },
  );
}

function unknownTenant(id: string): never {
  throw new Problem(404, "not-found", `There is no tenant "${id}".`);
}
