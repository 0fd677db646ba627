/**
 * Client certificates, as an administrator sees them: mapped to a tenant, listed, revoked. Mapping and revoking are entries.
 */
import type { Database } from "../db/database.ts";
import { TIME } from "../db/time.ts";
import { type Change, type Changed, makeChange } from "../log/change.ts";
import type { Sequencer } from "../log/sequencer.ts";
import type { TenantLog, Tenants } from "../log/tenants.ts";
import { type By, byWhom } from "./by.ts";
import type { Certificates } from "./certificates.ts";
import type { Scope } from "./scopes.ts";

/** A mapped certificate as it is listed. Times are RFC 3339 UTC. */
export interface ClientCertificate {
  readonly id: string;
  readonly name: string;
  /** SHA-256 of the certificate, hex; or `san`. */
  readonly fingerprint: string | null;
  /** A subject alternative name, such as `URI:spiffe://acme/orders`. */
  readonly san: string | null;
  readonly service_id: string | null;
  readonly scopes: Scope[];
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
  /** To about a minute. */
  readonly last_used_at: string | null;
}

/** What a certificate is known by. */
export type CertificateIdentity =
  | { readonly fingerprint: string; readonly san?: undefined }
  | { readonly san: string; readonly fingerprint?: undefined };

export interface NewCertificate {
  readonly name: string;
  readonly identity: CertificateIdentity;
  readonly scopes: readonly Scope[];
  readonly serviceId?: string | undefined;
  readonly expiresAt?: string | undefined;
}

/** Thrown where the identity is mapped already. */
export class CertificateTakenError extends Error {
  override readonly name = "CertificateTakenError";
}

const COLUMNS = `c.id, c.name, encode(c.fingerprint, 'hex') as fingerprint, c.san, c.service_id, c.scopes,
  ${TIME("c.created_at")} as created_at, ${TIME("c.expires_at")} as expires_at, ${TIME("c.revoked_at")} as revoked_at,
  ${TIME("c.last_used_at")} as last_used_at`;

export class IssuedCertificates {
  readonly #database: Database;
  readonly #sequencer: Sequencer;
  readonly #certificates: Certificates;
  readonly #tenants: Tenants;

  constructor(parts: { database: Database; sequencer: Sequencer; certificates: Certificates; tenants: Tenants }) {
    this.#tenants = parts.tenants;
    this.#database = parts.database;
    this.#sequencer = parts.sequencer;
    this.#certificates = parts.certificates;
  }

  /** The tenant's certificates, oldest first, revoked ones too. */
  async list(tenantId: string): Promise<ClientCertificate[]> {
    return this.#database.queryOf<ClientCertificate>(
      tenantId,
      `select ${COLUMNS} from tallystick.client_certificates c where tenant_id = $1 order by c.created_at, id`,
      [tenantId],
    );
  }

  /**
   * Maps a certificate to the log's tenant.
   * @throws {CertificateTakenError} @throws {import("../log/errors.ts").AppendError} where the entry cannot be recorded: nothing was
   *   mapped.
   */
  async create(log: TenantLog, by: By, certificate: NewCertificate): Promise<ClientCertificate> {
    const { fingerprint, san } = certificate.identity;
    const bytes = fingerprint === undefined ? null : Buffer.from(fingerprint, "hex");
    const { changed } = await makeChange(this.#sequencer, log, async (client, recordedAt) => {
      let created: ClientCertificate;
      try {
        const { rows } = await client.query<ClientCertificate>(
          `insert into tallystick.client_certificates as c
             (tenant_id, name, fingerprint, san, service_id, scopes, expires_at, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8) returning ${COLUMNS}`,
          [
            log.tenantId,
            certificate.name,
            bytes,
            san ?? null,
            certificate.serviceId ?? null,
            certificate.scopes,
            certificate.expiresAt ?? null,
            recordedAt,
          ],
        );
        created = rows[0]!;
      } catch (error) {
        // There is one: of any tenant, because a certificate stands for one caller.
        if ((error as { code?: unknown }).code === "23505") throw takenError(certificate.identity, error);
        throw error;
      }
      const { service_id, expires_at, scopes, name } = created;
      const facts = {
        name,
        ...(fingerprint === undefined ? { san: created.san! } : { fingerprint }),
        scopes,
        ...(service_id !== null && { service_id }),
        ...(expires_at !== null && { expires_at }),
      };
      const resource = { type: "certificate", id: created.id };
      return {
        changed: created,
        event: {
          action: "tallystick.certificate.created",
          ...byWhom(by),
          resource,
          outcome: "success",
          metadata: facts,
        },
      };
    });
    this.#certificates.forget();
    return changed;
  }

  /**
   * Revokes a mapping for good; undefined where the tenant has none of this id. A second time changes nothing.
   * @throws {import("../log/errors.ts").AppendError} where the entry cannot be recorded: the mapping is what it was.
   */
  async revoke(log: TenantLog, by: By, id: string): Promise<Changed<ClientCertificate> | undefined> {
    const known = (await this.list(log.tenantId)).find((certificate) => certificate.id === id.toLowerCase());
    if (known === undefined) return undefined;
    if (known.revoked_at !== null) return { changed: known, entry: undefined };
    const revoke: Change<ClientCertificate> = async (client, recordedAt) => {
      const { rows } = await client.query<ClientCertificate>(
        `update tallystick.client_certificates c set revoked_at = $3
         where tenant_id = $1 and id = $2 and revoked_at is null returning ${COLUMNS}`,
        [log.tenantId, known.id, recordedAt],
      );
      const [changed] = rows;
      if (changed === undefined) return { changed: { ...known, revoked_at: recordedAt }, event: undefined }; // somebody has been faster
      const resource = { type: "certificate", id: changed.id };
      const metadata = {
        name: changed.name,
        ...(changed.fingerprint === null ? { san: changed.san! } : { fingerprint: changed.fingerprint }),
      };
      return {
        changed,
        event: { action: "tallystick.certificate.revoked", ...byWhom(by), resource, outcome: "success", metadata },
      };
    };
    // One of a tenant whose log is broken may be in the wrong hands all the same.
    const revoked = await makeChange(this.#sequencer, log, revoke, () => this.#tenants.operatorLog());
    this.#certificates.forget();
    return revoked;
  }
}

function takenError({ fingerprint, san }: CertificateIdentity, cause: unknown): CertificateTakenError {
  const what = fingerprint === undefined ? `the name ${san}` : `the certificate ${fingerprint.slice(0, 16)}...`;
  const detail = `${what} is mapped already: revoke that mapping, or ask the operator`;
  return new CertificateTakenError(detail, { cause });
}
