/**
 * GET/POST/DELETE /v1/admin/certificates: the client certificates of the tenant that the request works on.
 */
import { X509Certificate } from "node:crypto";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { parseFingerprint, parseName, presented } from "../../access/certificate.ts";
import { type CertificateIdentity, CertificateTakenError } from "../../access/issued-certificates.ts";
import type { Scope } from "../../access/scopes.ts";
import { jsonBody } from "../body.ts";
import { clientCertificateOf } from "../client-certificate.ts";
import { expiryOf } from "../expiry.ts";
import { requireGrantable } from "../grant.ts";
import { Problem } from "../problem.ts";
import { createCertificateSchema, listCertificatesSchema, revokeCertificateSchema } from "../schemas/certificates.ts";
import type { HttpOptions, Services } from "../server.ts";
import type { TrustedProxies } from "../trusted-proxies.ts";
import { parseWith } from "../validate.ts";
import { byOf } from "../watched.ts";

const config = { scope: "admin" } as const;
/** Also to find what is to be revoked. */
const revoking = { ...config, revokes: true } as const;

interface Body {
  readonly name: string;
  readonly certificate_pem?: string;
  readonly fingerprint?: string;
  readonly san?: string;
  readonly scopes: Scope[];
  readonly service_id?: string;
  readonly expires_at?: string;
}

export function certificateRoutes(
  app: FastifyInstance,
  { issuedCertificates }: Services,
  { proxies }: Pick<HttpOptions, "proxies">,
): void {
  app.get("/v1/admin/certificates", { schema: listCertificatesSchema, config: revoking }, async (request) => ({
    data: await issuedCertificates.list(request.access.log.tenantId),
  }));

  app.post("/v1/admin/certificates", { schema: createCertificateSchema, config }, async (request, reply) => {
    const body = parseWith<Body>(createCertificateSchema.body, jsonBody(request));
    requireGrantable(request.access, body);
    const { log } = request.access;
    const identity = identityOf(request, body, proxies);
    const certificate = {
      name: body.name,
      identity,
      scopes: body.scopes,
      serviceId: body.service_id,
      expiresAt: body.expires_at === undefined ? undefined : expiryOf(body.expires_at),
    };
    try {
      const created = await issuedCertificates.create(log, byOf(request), certificate);
      return await reply.code(201).header("location", `/v1/admin/certificates/${created.id}`).send(created);
    } catch (error) {
      if (!(error instanceof CertificateTakenError)) throw error;
      throw new Problem(409, "conflict", `Nothing was mapped: ${error.message}.`, {
        errors: [{ path: `/${givenIn(body)[0] ?? "certificate_pem"}`, message: "is mapped already" }],
      });
    }
  });

  app.delete("/v1/admin/certificates/:id", { schema: revokeCertificateSchema, config: revoking }, async (request) => {
    const { id } = request.params as { id: string };
    const revoked = await issuedCertificates.revoke(request.access.log, byOf(request), id);
    if (revoked === undefined) throw new Problem(404, "not-found", `There is no client certificate ${id}.`);
    return revoked.changed;
  });
}

const IDENTITIES = ["certificate_pem", "fingerprint", "san"] as const;

function givenIn(body: Body) {
  return IDENTITIES.filter((name) => body[name] !== undefined);
}

/**
 * What the certificate that is meant is known by: what the body says, or the request's own certificate where that says nothing. Who
 * is not the operator must hold the certificate: it is no secret, and a tenant's administrator is a stranger to the other tenants.
 */
function identityOf(request: FastifyRequest, body: Body, proxies: TrustedProxies): CertificateIdentity {
  const { operator } = request.access;
  const given = givenIn(body);
  if (given.length > 1) throw notOne(given.map((name) => ({ path: `/${name}`, message: "is given beside another" })));
  const san = body.san === undefined ? undefined : sanOf(body.san);
  if (san !== undefined) {
    if (operator) return { san };
    const detail =
      "A subject alternative name is the operator's to map: map the certificate by a request with it, or ask the operator.";
    throw new Problem(403, "forbidden", detail, { errors: [{ path: "/san", message: "needs the operator" }] });
  }
  const named = fingerprintIn(body);
  if (named !== undefined && operator) return { fingerprint: named };
  const own = clientCertificateOf(request, proxies)?.fingerprint;
  if (named === undefined && own === undefined) {
    const message = "is missing, and so are fingerprint, san and a client certificate of the request";
    throw notOne([{ path: "/certificate_pem", message }]);
  }
  if (named !== undefined && named !== own) {
    const detail =
      "Only who holds a certificate maps it: send the request with that certificate (beside this credential), or ask the operator.";
    throw new Problem(403, "forbidden", detail, {
      errors: [{ path: `/${given[0]}`, message: "is not the certificate that the request came with" }],
    });
  }
  return { fingerprint: own! };
}

function notOne(errors: { path: string; message: string }[]): Problem {
  const detail =
    "Give one of certificate_pem, fingerprint and san, or none and send the request with the certificate that is meant.";
  return new Problem(400, "invalid-request", detail, { errors });
}

function fingerprintIn(body: Body): string | undefined {
  if (body.certificate_pem !== undefined) return fingerprintOf(body.certificate_pem);
  if (body.fingerprint === undefined) return undefined;
  const fingerprint = parseFingerprint(body.fingerprint);
  if (fingerprint === undefined) throw wrong("/fingerprint", "must be SHA-256 in hex: 64 digits, colons allowed");
  return fingerprint;
}

function sanOf(text: string): string {
  const san = parseName(text);
  if (san === undefined) {
    throw wrong("/san", "must be URI:, DNS: or email: and a name in visible ASCII, such as DNS:orders.acme.example");
  }
  if (san.startsWith("DNS:*")) throw wrong("/san", "must be one name: wildcards are not expanded");
  return san;
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
