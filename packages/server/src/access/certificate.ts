/**
 * An X.509 client certificate, as far as access asks about it: its fingerprint, its subject alternative names, its validity.
 */
import type { X509Certificate } from "node:crypto";

/** A certificate that whoever asks has proved to hold. */
export interface PresentedCertificate {
  /** SHA-256 of the certificate in DER; hex. */
  readonly fingerprint: string;
  /** As {@link parseName} writes them. */
  readonly names: readonly string[];
  /** ms since the Unix epoch, both. */
  readonly validFromMs: number;
  readonly validToMs: number;
}

export function presented(certificate: X509Certificate): PresentedCertificate {
  return {
    fingerprint: certificate.fingerprint256.replaceAll(":", "").toLowerCase(),
    names: namesOf(certificate.subjectAltName),
    validFromMs: certificate.validFromDate.getTime(),
    validToMs: certificate.validToDate.getTime(),
  };
}

/** A fingerprint as it is kept: 64 hex digits, however it was written; undefined where it is none. */
export function parseFingerprint(text: string): string | undefined {
  const hex = text.replaceAll(":", "").toLowerCase();
  return /^[0-9a-f]{64}$/.test(hex) ? hex : undefined;
}

/**
 * A subject alternative name as it is kept and compared: `URI:spiffe://acme/orders`, `DNS:orders.acme.example` (lower case),
 * `email:orders@acme.example`. Undefined where it is none of these.
 */
export function parseName(text: string): string | undefined {
  const [, type, value] = /^(URI|DNS|email):([\x21-\x7e]{1,1000})$/.exec(text) ?? [];
  if (type === undefined || value === undefined) return undefined;
  return `${type}:${type === "DNS" ? value.toLowerCase() : value}`;
}

/**
 * The names in Node's text of the extension: `type:value` with ", " between. Values that could be mistaken for more than one name
 * stand there as JSON strings. Names of other types are passed over.
 */
function namesOf(subjectAltName: string | undefined): string[] {
  const names: string[] = [];
  const part = /([^:,]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/y;
  const text = subjectAltName ?? "";
  while (part.lastIndex < text.length) {
    const [, type, value] = part.exec(text) ?? [];
    if (type === undefined || value === undefined) return []; // a text that is not understood names nobody
    const name = parseName(`${type}:${value.startsWith('"') ? unquoted(value) : value}`);
    if (name !== undefined) names.push(name);
  }
  return [...new Set(names)];
}

function unquoted(value: string): string {
  try {
    return JSON.parse(value) as string;
  } catch {
    return "";
  }
}
