/**
 * What a credential may do. One list everywhere: API keys, tokens, certificates, routes, documents.
 */

/** `operator` acts across tenants and may do everything in each; only credentials of the operator's own tenant have it. */
export const SCOPES = ["write", "read", "stream", "export", "verify", "admin", "operator"] as const;
export type Scope = (typeof SCOPES)[number];

/** Those that a credential of any tenant can have. */
export const TENANT_SCOPES = SCOPES.filter((scope) => scope !== "operator");
