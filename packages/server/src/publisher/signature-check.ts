/**
 * Verification of publishers' signatures as events arrive.
 */
import { constants, createPublicKey, type KeyObject, verify } from "node:crypto";
import { formatPublicKeyPem, type PublicKey } from "@tallystick/core/public-key";

/** A public key that is ready to verify with; importing it costs as much as a verification. */
export function importedKey(key: PublicKey): KeyObject {
  return createPublicKey(formatPublicKeyPem(key));
}

/**
 * Whether `signature`, of the length that the key's signatures have, is one over the text's UTF-8 bytes. Verified in libuv's
 * threads: an Ed25519 verification takes this thread five times as long as handing it over does, and others use the time.
 */
export function isSignature(text: string, signature: Uint8Array, key: KeyObject): Promise<boolean> {
  const rsa = key.asymmetricKeyType === "rsa";
  const how = rsa
    ? { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_AUTO }
    : { key };
  return new Promise((resolve, reject) => {
    verify(rsa ? "sha256" : null, Buffer.from(text), how, signature, (error, good) =>
      error === null ? resolve(good) : reject(error),
    );
  });
}
