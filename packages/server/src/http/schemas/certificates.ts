/**
 * Schemas of the client certificates' routes.
 */
import { listOf, nullableTime, problems, scopes, strict, tenantParameter, time, uuid } from "./shared.ts";

const certificateFields = {
  id: uuid,
  name: { type: "string" },
  fingerprint: { type: ["string", "null"], description: "SHA-256 of the certificate (DER), hex" },
  san: { type: ["string", "null"], description: "A subject alternative name: URI:..., DNS:... or email:..." },
  service_id: { type: ["string", "null"] },
  scopes,
  created_at: time,
  expires_at: nullableTime,
  revoked_at: nullableTime,
  last_used_at: { ...nullableTime, description: "To about a minute" },
} as const;
const certificate = {
  type: "object",
  required: Object.keys(certificateFields),
  properties: certificateFields,
} as const;

export const listCertificatesSchema = {
  operationId: "listCertificates",
  summary: "List client certificates",
  tags: ["certificates"],
  querystring: { ...strict, properties: tenantParameter },
  response: { 200: listOf(certificate), ...problems(401, 403) },
};

export const createCertificateSchema = {
  operationId: "createCertificate",
  summary: "Map a client certificate to the tenant",
  description:
    "By one of `certificate_pem`, `fingerprint` and `san`, or by none: then the certificate that the request comes with is meant. Any " +
    "other, and every subject alternative name, is the operator's to map; a certificate that has several mapped names is refused.",
  tags: ["certificates"],
  querystring: { ...strict, properties: tenantParameter },
  body: {
    ...strict,
    required: ["name", "scopes"],
    properties: {
      name: { type: "string", minLength: 1, maxLength: 256 },
      certificate_pem: { type: "string", maxLength: 65_536, description: "The certificate; its fingerprint is kept" },
      fingerprint: {
        type: "string",
        maxLength: 128,
        description: "SHA-256 of the certificate (DER), hex, colons allowed",
      },
      san: {
        type: "string",
        maxLength: 1024,
        description: "`URI:spiffe://acme/orders`, `DNS:orders.acme.example`, `email:...`",
      },
      scopes,
      service_id: { type: "string", minLength: 1, maxLength: 128, description: "The only service it may write for" },
      expires_at: { type: "string", description: "RFC 3339" },
    },
  },
  response: { 201: certificate, ...problems(400, 401, 403, 409, 415) },
};

export const revokeCertificateSchema = {
  operationId: "revokeCertificate",
  summary: "Revoke a client certificate's mapping",
  description: "For good; seen by every server within a second.",
  tags: ["certificates"],
  params: { ...strict, required: ["id"], properties: { id: uuid } },
  querystring: { ...strict, properties: tenantParameter },
  response: { 200: certificate, ...problems(400, 401, 403, 404) },
};
