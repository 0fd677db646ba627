/**
 * Who asks: what a credential says of whoever holds it, whichever kind of credential it is.
 */
import type { Actor } from "@tallystick/core/event";
import type { Scope } from "./scopes.ts";

export type CredentialKind = "api_key" | "jwt" | "certificate" | "admin_token";

/** The holder of a credential that is good. */
export interface Caller {
  /** Which credential it is: for limits, counts and entries. `id` tells one from another and is never a secret. */
  readonly credential: { readonly kind: CredentialKind; readonly id: string };
  /** The tenant that the credential belongs to; none for the admin token. */
  readonly tenantId: string | undefined;
  /** The only service that it may write for. */
  readonly serviceId: string | undefined;
  readonly scopes: readonly Scope[];
  /** For the entries that tell of what was done. */
  readonly actor: Actor;
}

/** Why a credential was refused. Each is a reason in the operator's log and in `audit_events_rejected_total`. */
export type DenialReason =
  | "credential_missing"
  | "credential_malformed"
  | "api_key_unknown"
  | "api_key_expired"
  | "api_key_revoked"
  | "admin_token_wrong"
  | "jwt_invalid"
  | "jwt_expired"
  | "jwt_tenant_unknown"
  | "certificate_unknown"
  | "certificate_expired"
  | "certificate_revoked"
  | "certificate_ambiguous"
  | "proxy_untrusted"
  | "refused_too_often"
  | "scope_missing"
  | "tenant_foreign";

/** A credential that is not good; the message says what to do, to whoever holds it. */
export class CredentialError extends Error {
  override readonly name = "CredentialError";
  readonly reason: DenialReason;
  /** Which credential it was, where that is known: never a secret. */
  readonly credential: Caller["credential"] | undefined;
  constructor(
    reason: DenialReason,
    message: string,
    options: ErrorOptions & { credential?: Caller["credential"] } = {},
  ) {
    super(message, options);
    this.reason = reason;
    this.credential = options.credential;
  }
}
