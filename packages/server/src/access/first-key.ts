/**
 * The first API key: the one that the settings name, or that the first start has made.
 */
import type { FastifyBaseLogger } from "fastify";
import type { TenantLog } from "../log/tenants.ts";
import type { ApiKeys } from "./api-keys.ts";
import { CredentialError } from "./caller.ts";
import type { IssuedKeys } from "./issued-keys.ts";
import { TENANT_SCOPES } from "./scopes.ts";

/** Sees to it that there is a key with this secret, and says so in the log where it cannot be used any more. @param from where it is kept. */
export async function ensureFirstKey(
  parts: { issuedKeys: IssuedKeys; apiKeys: ApiKeys; logger: FastifyBaseLogger },
  { tenantId }: TenantLog,
  { secret, from }: { secret: string; from: string },
): Promise<void> {
  await parts.issuedKeys.ensure(tenantId, { name: "first key", scopes: TENANT_SCOPES }, secret);
  try {
    await parts.apiKeys.authenticate(secret);
  } catch (error) {
    if (!(error instanceof CredentialError)) throw error;
    parts.logger.warn(`the API key in ${from} is revoked or expired: make another with tallystick api-keys create`);
  }
}
