/**
 * Publishers for tests: keys of their own, and events signed as a client signs them.
 */
import { constants, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { canonicalize } from "@tallystick/core/canonical";
import type { JsonObject } from "@tallystick/core/json";
import type { SignatureAlgorithm } from "@tallystick/core/public-key";

/** A publisher's key pair, and what it signs. */
export class TestPublisher {
  readonly algorithm: SignatureAlgorithm;
  readonly pem: string;
  readonly #privateKey: KeyObject;
  /** The id that the key was registered under. */
  keyId = "";

  constructor(algorithm: SignatureAlgorithm = "ed25519") {
    const { publicKey, privateKey } =
      algorithm === "ed25519" ? generateKeyPairSync("ed25519") : generateKeyPairSync("rsa", { modulusLength: 2048 });
    this.algorithm = algorithm;
    this.pem = publicKey.export({ type: "spki", format: "pem" }) as string;
    this.#privateKey = privateKey;
  }

  /** What registers it. */
  registration(serviceId: string) {
    return { service_id: serviceId, public_key_pem: this.pem, algorithm: this.algorithm };
  }

  /** The signature in base64. */
  sign(text: string): string {
    const bytes = Buffer.from(text);
    const signature =
      this.algorithm === "ed25519"
        ? sign(null, bytes, this.#privateKey)
        : sign("sha256", bytes, { key: this.#privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 });
    return signature.toString("base64");
  }

  /** An event with its signature beside it. */
  signed(event: JsonObject, keyId = this.keyId): JsonObject {
    return { ...event, signature: this.sign(canonicalize(event)), public_key_id: keyId };
  }

  /** The signed form of a text. */
  signedText(text: string, more: JsonObject = {}, keyId = this.keyId): JsonObject {
    return { event: text, signature: this.sign(text), public_key_id: keyId, ...more };
  }
}
