/**
 * Client certificates, as connections bring them: mapped to a tenant by fingerprint or by subject alternative name, and remembered
 * for a second.
 */
import type { Database } from "../db/database.ts";
import { type Caller, CredentialError } from "./caller.ts";
import type { PresentedCertificate } from "./certificate.ts";
import type { LastUsed } from "./last-used.ts";
import { Recent } from "./recent.ts";
import type { Scope } from "./scopes.ts";

/** A mapping that fits a certificate. */
export interface Mapping {
  readonly by: "fingerprint" | "name";
  readonly caller: Caller;
  readonly expiresAtMs: number;
  readonly revoked: boolean;
}

/** Which mapping of those that fit counts. */
export type Choice =
  | { readonly kind: "mapped"; readonly mapping: Mapping }
  | { readonly kind: "revoked"; readonly mapping: Mapping }
  | { readonly kind: "ambiguous" }
  | { readonly kind: "unknown" };

export class Certificates {
  readonly #database: Database;
  readonly #now: () => number;
  readonly #lastUsed: LastUsed | undefined;
  /** By fingerprint: a certificate's names are part of it. */
  readonly #recent = new Recent<readonly Mapping[]>();

  constructor(database: Database, { now = Date.now, lastUsed }: { now?: () => number; lastUsed?: LastUsed } = {}) {
    this.#database = database;
    this.#now = now;
    this.#lastUsed = lastUsed;
  }

  /**
   * Who holds this certificate.
   * @throws {CredentialError} `certificate_expired`, `certificate_unknown`, `certificate_ambiguous`, or `certificate_revoked` where
   *   it was more than a second ago.
   */
  async authenticate(certificate: PresentedCertificate): Promise<Caller> {
    const now = this.#now();
    const { fingerprint, validFromMs, validToMs } = certificate;
    // A connection may outlive the certificate that it began with, and a proxy's clock is not this server's.
    if (!(validFromMs <= now && now < validToMs)) {
      const detail = `The client certificate is valid from ${iso(validFromMs)} to ${iso(validToMs)}: use one that is valid now.`;
      throw new CredentialError("certificate_expired", detail);
    }
    const mappings = (await this.#recent.find(fingerprint, now, () => this.#lookUp(certificate))) ?? [];
    const choice = chooseMapping(mappings, now);
    if (choice.kind === "unknown") {
      const detail =
        "The client certificate is mapped to no tenant: an administrator who holds it, or the operator, does that at /v1/admin/certificates.";
      throw new CredentialError("certificate_unknown", detail);
    }
    if (choice.kind === "ambiguous") {
      const detail =
        "The client certificate has names that are mapped to different callers: map its fingerprint, or revoke all but one.";
      throw new CredentialError("certificate_ambiguous", detail);
    }
    const { caller, expiresAtMs } = choice.mapping;
    const { credential } = caller;
    if (choice.kind === "revoked") {
      throw new CredentialError("certificate_revoked", "The client certificate is revoked: use another.", {
        credential,
      });
    }
    if (expiresAtMs <= now) {
      const detail = `The client certificate's mapping expired at ${iso(expiresAtMs)}: have it mapped again.`;
      throw new CredentialError("certificate_expired", detail, { credential });
    }
    this.#lastUsed?.note(credential.id, now);
    return caller;
  }

  /** The next look at any certificate is a new one: a mapping was made or revoked. */
  forget(): void {
    this.#recent.forget();
  }

  async #lookUp({ fingerprint, names }: PresentedCertificate): Promise<readonly Mapping[] | undefined> {
    const rows = await this.#database.query<{
      id: string;
      tenant_id: string;
      by_fingerprint: boolean;
      service_id: string | null;
      scopes: Scope[];
      expires_at: Date | null;
      revoked_at: Date | null;
    }>(
      `select id, tenant_id, by_fingerprint, service_id, scopes, expires_at, revoked_at
       from tallystick.find_client_certificate($1, $2)`,
      [Buffer.from(fingerprint, "hex"), names],
    );
    if (rows.length === 0) return undefined;
    return rows.map((row) => ({
      by: row.by_fingerprint ? "fingerprint" : "name",
      caller: {
        credential: { kind: "certificate", id: row.id },
        tenantId: row.tenant_id,
        serviceId: row.service_id ?? undefined,
        scopes: row.scopes,
        actor: { type: "service", id: row.id },
      },
      expiresAtMs: row.expires_at?.getTime() ?? Number.POSITIVE_INFINITY,
      revoked: row.revoked_at !== null,
    }));
  }
}

/**
 * A fingerprint counts before a name, revoked as well as live: it is about this very certificate, and mapped by its holder or the
 * operator. But a name is the operator's word: where one is mapped, fingerprints of other tenants do not count, so that who gets hold
 * of a tenant's key cannot turn its events elsewhere. A name's mapping that has expired stands in nobody's way.
 *
 * @param now ms since the Unix epoch.
 */
function chooseMapping(mappings: readonly Mapping[], now: number): Choice {
  const live = mappings.filter(({ revoked }) => !revoked);
  const named = live.filter(({ by, expiresAtMs }) => by === "name" && expiresAtMs > now);
  const tenants = new Set(named.map(({ caller }) => caller.tenantId));
  const exact = (among: readonly Mapping[]) =>
    among.find(({ by, caller }) => by === "fingerprint" && (tenants.size === 0 || tenants.has(caller.tenantId)));
  const own = exact(live) ?? exact(mappings);
  if (own === undefined && named.length > 1) return { kind: "ambiguous" };
  const mapping = own ?? named[0] ?? live[0] ?? mappings[0];
  if (mapping === undefined) return { kind: "unknown" };
  return { kind: mapping.revoked ? "revoked" : "mapped", mapping };
}

function iso(ms: number): string {
  return Number.isFinite(ms) ? new Date(ms).toISOString() : "an unreadable time";
}
