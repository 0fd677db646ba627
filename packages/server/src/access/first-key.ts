/**
 * The first API key: the one that the settings name, or that the first start of the installation has made.
 */
import type { FastifyBaseLogger } from "fastify";
import type { TenantLog } from "../log/tenants.ts";
import type { ApiKeys } from "./api-keys.ts";
import { CredentialError } from "./caller.ts";
import type { IssuedKeys } from "./issued-keys.ts";
import { TENANT_SCOPES } from "./scopes.ts";

const REMEDY = "make another with tallystick api-keys create";

/**
 * Sees to it that there is a key with this secret, and says so in the log where it cannot be used. No entry tells of a key that is made
 * here: one that the settings do not name is made only as the first that the tenant has ever had, so that a server on a new DATA_DIR adds no
 * key with every scope that nobody asked for.
 * @param key.bySetting whether API_KEY names it.
 * @returns whether it is a key of this installation, good or not.
 */
export async function ensureFirstKey(
  parts: { issuedKeys: IssuedKeys; apiKeys: ApiKeys; logger: FastifyBaseLogger },
  { tenantId, slug }: TenantLog,
  { secret, bySetting }: { secret: string; bySetting: boolean },
): Promise<boolean> {
  const { issuedKeys, apiKeys, logger } = parts;
  const from = bySetting ? "API_KEY" : "credentials.json";
  const key = { name: "first key", scopes: TENANT_SCOPES };
  await issuedKeys.ensure(tenantId, key, secret, { onlyFirst: !bySetting });
  try {
    await apiKeys.authenticate(secret);
  } catch (error) {
    if (!(error instanceof CredentialError)) throw error;
    if (error.reason === "api_key_unknown") {
      logger.warn(`the API key in ${from} is none of this installation's, whose tenant ${slug} has others: ${REMEDY}`);
      return false;
    }
    logger.warn(`the API key in ${from} is revoked or expired: ${REMEDY}`);
  }
  return true;
}
