/**
 * The client certificate of a request: of its own connection, or as a trusted proxy passes it on.
 */
import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { FastifyRequest } from "fastify";
import { CredentialError } from "../access/caller.ts";
import { type PresentedCertificate, presented } from "../access/certificate.ts";
import type { TrustedProxies } from "./trusted-proxies.ts";

/** The certificate in PEM, percent-encoded: nginx's `$ssl_client_escaped_cert`. */
const CERTIFICATE_HEADER = "x-client-cert";
/** How the proxy's check of it ended: nginx's `$ssl_client_verify`. */
const VERIFY_HEADER = "x-client-verify";

/** A connection's certificate does not change while it lasts. */
const ofConnections = new WeakMap<Socket, PresentedCertificate>();

/** Whether a request has what only a proxy says. */
export function claimsProxy(headers: FastifyRequest["headers"]): boolean {
  return headers[CERTIFICATE_HEADER] !== undefined || headers[VERIFY_HEADER] !== undefined;
}

/**
 * Refuses a request that claims to come from a proxy and does not: whatever else it brings, it is an attempt, or a proxy that
 * TRUSTED_PROXIES forgets.
 * @throws {CredentialError} `proxy_untrusted`.
 */
export function refuseForged(request: FastifyRequest, proxies: TrustedProxies): void {
  const { headers, socket } = request;
  if (!claimsProxy(headers)) return;
  if (proxies.has(socket.remoteAddress)) return;
  const detail =
    "X-Client-Cert and X-Client-Verify are taken from a proxy of TRUSTED_PROXIES only: leave them out, or have the operator add the proxy's address.";
  throw new CredentialError("proxy_untrusted", detail);
}

/**
 * The certificate that whoever asks has shown to hold; undefined where there is none. Behind a trusted proxy it is what that passes
 * on, never the proxy's own.
 * @throws {CredentialError} where there is one that was not found good.
 */
export function clientCertificateOf(
  request: FastifyRequest,
  proxies: TrustedProxies,
): PresentedCertificate | undefined {
  return proxies.has(request.socket.remoteAddress) ? passedOn(request) : ofConnection(request.socket);
}

function passedOn({ headers }: FastifyRequest): PresentedCertificate | undefined {
  const verified = headers[VERIFY_HEADER];
  const certificate = headers[CERTIFICATE_HEADER];
  if (typeof verified !== "string" || verified === "" || verified === "NONE") {
    if (certificate === undefined || certificate === "") return undefined;
    throw new CredentialError("credential_malformed", "X-Client-Cert came without X-Client-Verify: SUCCESS beside it.");
  }
  if (verified !== "SUCCESS") throw notVerified(verified);
  try {
    // Its extent in base64 is checked by the decoder: what follows the certificate is not part of it.
    return presented(new X509Certificate(decodeURIComponent(String(certificate))));
  } catch (cause) {
    const detail = "X-Client-Cert holds no certificate: it is to be PEM, percent-encoded ($ssl_client_escaped_cert).";
    throw new CredentialError("credential_malformed", detail, { cause });
  }
}

function ofConnection(socket: Socket): PresentedCertificate | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const known = ofConnections.get(socket);
  if (known !== undefined) return known;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return undefined;
  // As text: a code such as CERT_HAS_EXPIRED.
  if (!socket.authorized) throw notVerified(String(socket.authorizationError));
  const found = presented(certificate);
  ofConnections.set(socket, found);
  return found;
}

/** @param why nginx's `FAILED:certificate has expired`, or OpenSSL's code. */
function notVerified(why: string): CredentialError {
  if (/expired|not.yet.valid/i.test(why)) {
    return new CredentialError(
      "certificate_expired",
      "The client certificate has expired, or is not valid yet: use another.",
    );
  }
  if (/revoked/i.test(why)) {
    return new CredentialError("certificate_revoked", "The client certificate was revoked by its CA: use another.");
  }
  const detail =
    "The client certificate is not of a CA that this installation takes: use one that TLS_CLIENT_CA_PATH's CA has issued.";
  return new CredentialError("certificate_unknown", detail);
}
