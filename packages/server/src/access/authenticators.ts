/**
 * What decides about credentials that are looked up or checked by someone's keys: API keys, certificates, tokens.
 */
import type { FastifyBaseLogger } from "fastify";
import type { Database } from "../db/database.ts";
import type { Tenants } from "../log/tenants.ts";
import { ApiKeys } from "./api-keys.ts";
import { Certificates } from "./certificates.ts";
import { type TokenSettings, Tokens } from "./jwt.ts";
import { LastUsed } from "./last-used.ts";

export interface Authenticators {
  readonly apiKeys: ApiKeys;
  readonly certificates: Certificates;
  /** None where no issuer of tokens is set. */
  readonly tokens: Tokens | undefined;
  /** Writes when credentials were last used. */
  stop(): Promise<void>;
}

/** @param issuer of tokens; its keys are fetched at once where they come from a URL, and nothing waits for them. */
export function openAuthenticators(
  database: Database,
  parts: { tenants: Tenants; issuer: TokenSettings | undefined; logger: FastifyBaseLogger },
): Authenticators {
  const { tenants, issuer, logger } = parts;
  const lastUsedBy = (what: string, noting: string) =>
    new LastUsed(
      (ids, times) => database.query(`select tallystick.${noting}($1, $2)`, [ids, times]),
      (error) => logger.warn({ err: error }, `when ${what} were last used could not be written`),
    );
  const keysUsed = lastUsedBy("API keys", "note_api_keys_used");
  const certificatesUsed = lastUsedBy("client certificates", "note_certificates_used");
  const tokens =
    issuer &&
    new Tokens(issuer, {
      findTenant: (idOrSlug) => tenants.find(idOrSlug),
      onError: (error) =>
        logger.error(
          { err: error },
          "the keys of the token issuer cannot be fetched (JWT_JWKS_URL): known ones go on for an hour, see docs/runbook.md",
        ),
      onRecovered: () => logger.warn("the keys of the token issuer can be fetched again"),
    });
  void tokens?.prefetch();
  return {
    apiKeys: new ApiKeys(database, { lastUsed: keysUsed }),
    certificates: new Certificates(database, { lastUsed: certificatesUsed }),
    tokens,
    async stop() {
      await Promise.all([keysUsed.stop(), certificatesUsed.stop()]);
    },
  };
}
