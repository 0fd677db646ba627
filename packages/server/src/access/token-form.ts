/**
 * What settings say of tokens, checked without verifying one: their form, and a public key in PEM, which is used with one algorithm
 * that its kind decides and no token.
 */
import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";

const MIN_RSA_BITS = 2048;

/** Whether a bearer credential has the form of a token: three parts in base64url, the first a JSON object. */
export function looksLikeToken(credential: string): boolean {
  return /^ey[\w-]+\.[\w-]+\.[\w-]*$/.test(credential);
}

/**
 * The key, and the names of its only algorithm.
 * @throws {Error} whose message goes after the setting's name, where it is a key for none.
 */
export function verificationKey(pem: string): { readonly key: KeyObject; readonly algorithms: readonly string[] } {
  if (isPrivateKey(pem)) throw new Error("is a private key: leave that with the issuer, and give its public one");
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch (cause) {
    throw new Error("is no public key in PEM (-----BEGIN PUBLIC KEY-----)", { cause });
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === "ed25519") return { key, algorithms: ["EdDSA", "Ed25519"] };
  if (type === "rsa" && (details?.modulusLength ?? 0) >= MIN_RSA_BITS) return { key, algorithms: ["RS256"] };
  if (type === "ec" && details?.namedCurve === "prime256v1") return { key, algorithms: ["ES256"] };
  throw new Error(`must be an Ed25519 key, an EC key on P-256, or an RSA key of ${MIN_RSA_BITS} bits or more`);
}

function isPrivateKey(pem: string): boolean {
  try {
    createPrivateKey(pem);
    return true;
  } catch {
    return false;
  }
}
