/**
 * GET/POST/DELETE /v1/admin/api-keys: the keys of the tenant that the request works on.
 */
import type { FastifyInstance } from "fastify";
import type { Scope } from "../../access/scopes.ts";
import { jsonBody } from "../body.ts";
import { expiryOf } from "../expiry.ts";
import { requireGrantable } from "../grant.ts";
import { Problem } from "../problem.ts";
import { createApiKeySchema, listApiKeysSchema, revokeApiKeySchema } from "../schemas/api-keys.ts";
import type { Services } from "../server.ts";
import { parseWith } from "../validate.ts";
import { byOf } from "../watched.ts";

const config = { scope: "admin" } as const;
/** Also to find what is to be revoked. */
const revoking = { ...config, revokes: true } as const;

interface Body {
  readonly name: string;
  readonly scopes: Scope[];
  readonly service_id?: string;
  readonly expires_at?: string;
}

export function apiKeyRoutes(app: FastifyInstance, { issuedKeys }: Services): void {
  app.get("/v1/admin/api-keys", { schema: listApiKeysSchema, config: revoking }, async (request) => ({
    data: await issuedKeys.list(request.access.log.tenantId),
  }));

  app.post("/v1/admin/api-keys", { schema: createApiKeySchema, config }, async (request, reply) => {
    const body = parseWith<Body>(createApiKeySchema.body, jsonBody(request));
    requireGrantable(request.access, body);
    const { log } = request.access;
    const key = await issuedKeys.create(log, byOf(request), {
      name: body.name,
      scopes: body.scopes,
      serviceId: body.service_id,
      expiresAt: body.expires_at === undefined ? undefined : expiryOf(body.expires_at),
    });
    return reply.code(201).header("location", `/v1/admin/api-keys/${key.id}`).send(key);
  });

  app.delete("/v1/admin/api-keys/:id", { schema: revokeApiKeySchema, config: revoking }, async (request) => {
    const { id } = request.params as { id: string };
    const revoked = await issuedKeys.revoke(request.access.log, byOf(request), id);
    if (revoked === undefined) throw new Problem(404, "not-found", `There is no API key ${id}.`);
    return revoked.changed;
  });
}
