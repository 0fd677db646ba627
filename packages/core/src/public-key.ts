/**
 * Publishers' public keys: Ed25519 (RFC 8410) and RSA (RFC 8017) as PEM of a SubjectPublicKeyInfo (RFC 7468 section 13), and
 * what is verified by them.
 */

import { verify as verifyEd25519 } from "#ed25519";
import { verify as verifyRsaPss } from "#rsa-pss";
import { fromBase64, toBase64 } from "./base64.ts";
import { DER_TAG, DerError, DerReader, der } from "./der.ts";
import { Ed25519Error, requirePublicKey } from "./ed25519.rules.ts";
import { fromHex, toHex } from "./hex.ts";
import { type RsaKeyFault, RsaPssError, type RsaPublicKey, rsaKeyFault } from "./rsa-pss.rules.ts";

export const SIGNATURE_ALGORITHMS = ["ed25519", "rsa-pss"] as const;
export type SignatureAlgorithm = (typeof SIGNATURE_ALGORITHMS)[number];

/** A public key that may be used: plain data, so that it can be sent to other threads. */
export type PublicKey =
  | { readonly algorithm: "ed25519" /** 32 bytes. */; readonly point: Uint8Array }
  | ({ readonly algorithm: "rsa-pss" } & RsaPublicKey);

export type PublicKeyErrorCode =
  | "not_pem"
  | "private_key"
  | "certificate"
  | "pkcs1"
  | "trailing"
  | "malformed"
  | "unsupported_algorithm"
  | "weak_key"
  | RsaKeyFault;

/** Why a text is no public key that a publisher may sign with; the message says what would be. */
export class PublicKeyError extends Error {
  override readonly name = "PublicKeyError";
  readonly code: PublicKeyErrorCode;

  constructor(code: PublicKeyErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Contents of the object identifiers, in hex. */
const OID = {
  ed25519: "2b6570", // 1.3.101.112
  rsaEncryption: "2a864886f70d010101", // 1.2.840.113549.1.1.1
  rsassaPss: "2a864886f70d01010a", // 1.2.840.113549.1.1.10
} as const;
const OTHER_ALGORITHMS: Readonly<Record<string, string>> = {
  "2a8648ce3d0201": "an elliptic-curve (ECDSA) key",
  "2a8648ce380401": "a DSA key",
  "2b6571": "an Ed448 key",
  "2b656e": "an X25519 key, which cannot sign",
  "2b656f": "an X448 key, which cannot sign",
};

const BEGIN = "-----BEGIN PUBLIC KEY-----";
const END = "-----END PUBLIC KEY-----";
/** Of an RSA key of 8192 bits, with room to spare. */
const MAX_PEM_LENGTH = 4_096;

/**
 * Reads a public key: one PEM block `PUBLIC KEY`, with nothing before or behind it but white space.
 *
 * @throws {PublicKeyError} `not_pem`; `private_key`, `certificate` and `pkcs1` for blocks of these kinds; `trailing` for anything
 *   behind the block or the key; `malformed`; `unsupported_algorithm`; `weak_key` for an Ed25519 key of small order; and
 *   the codes of {@link RsaKeyFault}.
 */
export function parsePublicKeyPem(pem: string): PublicKey {
  return parseSpki(spkiOf(pem));
}

/** The PEM of a key, with its lines of 64 characters: one text for one key. */
export function formatPublicKeyPem(key: PublicKey): string {
  const base64 = toBase64(spki(key));
  return `${BEGIN}\n${base64.match(/.{1,64}/g)!.join("\n")}\n${END}\n`;
}

/** Bytes that a signature by this key has. */
export function signatureBytes(key: PublicKey): number {
  return key.algorithm === "ed25519" ? 64 : key.modulus.length;
}

/** Whether `signature` over `message` was made by the holder of `key`'s private half. Never throws for a key that was parsed. */
export function isSignedBy(message: Uint8Array, signature: Uint8Array, key: PublicKey): boolean {
  try {
    if (key.algorithm === "ed25519") verifyEd25519(message, signature, key.point);
    else verifyRsaPss(message, signature, key);
    return true;
  } catch (error) {
    if (error instanceof Ed25519Error || error instanceof RsaPssError) return false;
    throw error;
  }
}

function spkiOf(pem: string): Uint8Array {
  if (pem.length > MAX_PEM_LENGTH) throw new PublicKeyError("not_pem", "is too long for one public key in PEM");
  if (/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(pem)) {
    throw new PublicKeyError(
      "private_key",
      "is a private key, which must never leave its owner: register the public half (openssl pkey -in key.pem -pubout), and replace this one where it was sent",
    );
  }
  if (pem.includes("-----BEGIN CERTIFICATE")) {
    throw new PublicKeyError(
      "certificate",
      "is a certificate: register its public key (openssl x509 -in cert.pem -pubkey -noout)",
    );
  }
  if (pem.includes("-----BEGIN RSA PUBLIC KEY-----")) {
    throw new PublicKeyError(
      "pkcs1",
      "is a PKCS#1 key: convert it (openssl rsa -RSAPublicKey_in -in key.pem -pubout), so that it begins with BEGIN PUBLIC KEY",
    );
  }
  const text = pem.replaceAll("\r\n", "\n").trim();
  const end = text.indexOf(END);
  if (!text.startsWith(BEGIN) || end === -1) {
    throw new PublicKeyError("not_pem", `must be one public key in PEM, from "${BEGIN}" to "${END}"`);
  }
  if (end + END.length !== text.length) {
    throw new PublicKeyError("trailing", "has something behind the key: send one public key and nothing else");
  }
  try {
    return fromBase64(text.slice(BEGIN.length, end).replaceAll(/[\n\t ]/g, ""));
  } catch (cause) {
    throw new PublicKeyError("malformed", "is not base64 between its first and last line", { cause });
  }
}

function parseSpki(bytes: Uint8Array): PublicKey {
  try {
    const outer = new DerReader(bytes);
    const info = outer.sequence();
    if (!outer.atEnd) throw new PublicKeyError("trailing", "has bytes behind the key");
    const identifier = info.sequence();
    const oid = toHex(identifier.read(DER_TAG.oid));
    if (oid === OID.ed25519) {
      identifier.end();
      return ed25519Key(lastBitString(info));
    }
    if (oid === OID.rsaEncryption) {
      if (identifier.read(DER_TAG.null).length !== 0) throw new DerError("a null has contents");
      identifier.end();
      return rsaKey(lastBitString(info));
    }
    if (oid === OID.rsassaPss) {
      if (!identifier.atEnd) {
        throw new PublicKeyError(
          "unsupported_algorithm",
          "is an RSA-PSS key with parameters of its own: register a plain RSA key, or one without parameters",
        );
      }
      return rsaKey(lastBitString(info));
    }
    const kind = OTHER_ALGORITHMS[oid] ?? "a key of an algorithm that is not known here";
    throw new PublicKeyError("unsupported_algorithm", `is ${kind}: use Ed25519, or RSA of 2048 bits or more`);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    throw new PublicKeyError("malformed", `is not a well-formed public key: ${error.message}`, { cause: error });
  }
}

function lastBitString(info: DerReader): Uint8Array {
  const bytes = info.bitString();
  if (!info.atEnd) throw new PublicKeyError("trailing", "has bytes behind the key");
  return bytes;
}

function ed25519Key(bytes: Uint8Array): PublicKey {
  if (bytes.length !== 32) throw new DerError(`an Ed25519 key has 32 bytes, not ${bytes.length}`);
  const point = new Uint8Array(bytes);
  try {
    requirePublicKey(point);
  } catch (cause) {
    throw new PublicKeyError("weak_key", "is of small order: anyone can sign by it", { cause });
  }
  return { algorithm: "ed25519", point };
}

function rsaKey(bytes: Uint8Array): PublicKey {
  const outer = new DerReader(bytes);
  const sequence = outer.sequence();
  outer.end();
  const key = { modulus: sequence.positiveInteger().slice(), exponent: sequence.positiveInteger().slice() };
  sequence.end();
  const fault = rsaKeyFault(key);
  if (fault !== undefined) throw new PublicKeyError(fault.code, `is not usable: ${fault.message}`);
  return { algorithm: "rsa-pss", ...key };
}

function spki(key: PublicKey): Uint8Array {
  const oid = (hex: string) => der(DER_TAG.oid, fromHex(hex));
  const [identifier, bytes] =
    key.algorithm === "ed25519"
      ? [der(DER_TAG.sequence, oid(OID.ed25519)), key.point]
      : [
          der(DER_TAG.sequence, oid(OID.rsaEncryption), der(DER_TAG.null)),
          der(DER_TAG.sequence, positiveInteger(key.modulus), positiveInteger(key.exponent)),
        ];
  return der(DER_TAG.sequence, identifier, der(DER_TAG.bitString, new Uint8Array([0]), bytes));
}

function positiveInteger(bytes: Uint8Array): Uint8Array {
  return bytes[0]! >= 0x80 ? der(DER_TAG.integer, new Uint8Array([0]), bytes) : der(DER_TAG.integer, bytes);
}
