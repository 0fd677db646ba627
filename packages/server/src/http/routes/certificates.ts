/**
 * GET/POST/DELETE /v1/admin/certificates: the client certificates of the tenant that the request works on.
 */
import { X509Certificate } from "node:crypto";
import { isReserved } from "@tallystick/core/event";
import type { FastifyInstance } from "fastify";
import { parseFingerprint, parseName, presented } from "../../access/certificate.ts";
import { type CertificateIdentity, CertificateTakenError } from "../../access/issued-certificates.ts";
import type { Scope } from "../../access/scopes.ts";
import { OPERATOR_TENANT } from "../../log/tenants.ts";
import { jsonBody } from "../body.ts";
import { expiryOf } from "../expiry.ts";
import { Problem } from "../problem.ts";
import { createCertificateSchema, listCertificatesSchema, revokeCertificateSchema } from "../schemas/certificates.ts";
import type { Services } from "../server.ts";
import { parseWith } from "../validate.ts";
import { byOf } from "../watched.ts";

const config = { scope: "admin" } as const;

interface Body {
  readonly name: string;
  readonly certificate_pem?: string;
  readonly fingerprint?: string;
  readonly san?: string;
  readonly scopes: Scope[];
  readonly service_id?: string;
  readonly expires_at?: string;
}

export function certificateRoutes(app: FastifyInstance, { issuedCertificates }: Services): void {
  app.get("/v1/admin/certificates", { schema: listCertificatesSchema, config }, async (request) => ({
    data: await issuedCertificates.list(request.access.log.tenantId),
  }));

  app.post("/v1/admin/certificates", { schema: createCertificateSchema, config }, async (request, reply) => {
    const body = parseWith<Body>(createCertificateSchema.body, jsonBody(request));
    const { log, operator } = request.access;
    if (body.service_id !== undefined && isReserved(body.service_id)) {
      const detail = 'Services that begin with "tallystick" are the server\'s own: choose another name.';
      throw new Problem(403, "reserved-name", detail, { errors: [{ path: "/service_id", message: "is reserved" }] });
    }
    if (body.scopes.includes("operator") && log.slug !== OPERATOR_TENANT) {
      const detail = `Only a certificate of the tenant "${OPERATOR_TENANT}" can act across tenants: name that one by X-Tenant-Id.`;
      throw new Problem(403, "forbidden", detail, {
        errors: [{ path: "/scopes", message: `can contain "operator" in the tenant "${OPERATOR_TENANT}" only` }],
      });
    }
    const identity = identityOf(body);
    if (identity.san !== undefined && !operator) {
      const detail =
        "A subject alternative name is the operator's to map: map the certificate's fingerprint, or ask the operator.";
      throw new Problem(403, "forbidden", detail, { errors: [{ path: "/san", message: "needs the operator" }] });
    }
    const certificate = {
      name: body.name,
      identity,
      scopes: body.scopes,
      serviceId: body.service_id,
      expiresAt: body.expires_at === undefined ? undefined : expiryOf(body.expires_at),
    };
    try {
      const created = await issuedCertificates.create(log, byOf(request), certificate, { operator });
      return await reply.code(201).header("location", `/v1/admin/certificates/${created.id}`).send(created);
    } catch (error) {
      if (!(error instanceof CertificateTakenError)) throw error;
      const path =
        body.san !== undefined ? "/san" : body.fingerprint !== undefined ? "/fingerprint" : "/certificate_pem";
      throw new Problem(409, "conflict", `Nothing was mapped: ${error.message}.`, {
        errors: [{ path, message: "is mapped already" }],
      });
    }
  });

  app.delete("/v1/admin/certificates/:id", { schema: revokeCertificateSchema, config }, async (request) => {
    const { id } = request.params as { id: string };
    const revoked = await issuedCertificates.revoke(request.access.log, byOf(request), id);
    if (revoked === undefined) throw new Problem(404, "not-found", `There is no client certificate ${id}.`);
    return revoked.changed;
  });
}

/** What a body says that the certificate is known by: exactly one of three. */
function identityOf(body: Body): CertificateIdentity {
  const given = (["certificate_pem", "fingerprint", "san"] as const).filter((name) => body[name] !== undefined);
  if (given.length !== 1) {
    throw new Problem(400, "invalid-request", "Give exactly one of certificate_pem, fingerprint and san.", {
      errors: (given.length === 0 ? (["certificate_pem"] as const) : given).map((name) => ({
        path: `/${name}`,
        message: given.length === 0 ? "is missing, and so are fingerprint and san" : "is given beside another",
      })),
    });
  }
  if (body.certificate_pem !== undefined) return { fingerprint: fingerprintOf(body.certificate_pem) };
  if (body.fingerprint !== undefined) {
    const fingerprint = parseFingerprint(body.fingerprint);
    if (fingerprint === undefined) throw wrong("/fingerprint", "must be SHA-256 in hex: 64 digits, colons allowed");
    return { fingerprint };
  }
  const san = parseName(body.san!);
  if (san === undefined) {
    throw wrong("/san", "must be URI:, DNS: or email: and a name in visible ASCII, such as DNS:orders.acme.example");
  }
  if (san.startsWith("DNS:*")) throw wrong("/san", "must be one name: wildcards are not expanded");
  return { san };
}

function fingerprintOf(pem: string): string {
  if (pem.split("-----BEGIN CERTIFICATE-----").length !== 2)
    throw wrong("/certificate_pem", "must be one certificate in PEM");
  try {
    return presented(new X509Certificate(pem)).fingerprint;
  } catch {
    throw wrong("/certificate_pem", "must be one certificate in PEM");
  }
}

function wrong(path: string, message: string): Problem {
  return new Problem(400, "invalid-request", "The certificate was not mapped: mend what errors names.", {
    errors: [{ path, message }],
  });
}
