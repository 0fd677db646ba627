import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import * as edNode from "../src/ed25519.node.ts";
import * as edPortable from "../src/ed25519.ts";
import { fromHex } from "../src/hex.ts";
import {
  formatPublicKeyPem,
  isSignedBy,
  type PublicKey,
  PublicKeyError,
  parsePublicKeyPem,
} from "../src/public-key.ts";
import * as rsaNode from "../src/rsa-pss.node.ts";
import { RsaPssError } from "../src/rsa-pss.rules.ts";
import * as rsaPortable from "../src/rsa-pss.ts";
import { readVectors } from "./vectors.ts";

interface SignatureCase {
  readonly name: string;
  readonly algorithm: string;
  readonly public_key_pem: string;
  readonly message: string;
  readonly signature: string;
}
const signatures = readVectors<{ accept: SignatureCase[]; reject: SignatureCase[] }>("publisher/signatures.json");
const keys = readVectors<{
  accept: { name: string; pem: string; algorithm: string; canonical: string }[];
  reject: { name: string; pem: string; error: string }[];
}>("publisher/keys.json");

describe.each([
  ["node:crypto", edNode, rsaNode],
  ["portable", edPortable, rsaPortable],
])("signatures by %s", (_, ed, rsa) => {
  const verify = (message: Uint8Array, signature: Uint8Array, key: PublicKey) =>
    key.algorithm === "ed25519" ? ed.verify(message, signature, key.point) : rsa.verify(message, signature, key);

  test.each(signatures.accept)("accepts $algorithm: $name", ({ algorithm, public_key_pem, message, signature }) => {
    const key = parsePublicKeyPem(public_key_pem);
    expect(key.algorithm).toBe(algorithm);
    const bytes = fromHex(message);
    expect(verify(bytes, fromHex(signature), key)).toBe(bytes);
    expect(isSignedBy(bytes, fromHex(signature), key)).toBe(true);
  });

  test.each(signatures.reject)("refuses $algorithm: $name", ({ public_key_pem, message, signature }) => {
    const key = parsePublicKeyPem(public_key_pem);
    expect(() => verify(fromHex(message), fromHex(signature), key)).toThrow(
      expect.objectContaining({ code: "bad_signature" }),
    );
    expect(isSignedBy(fromHex(message), fromHex(signature), key)).toBe(false);
  });

  test("refuses RSA keys that parsePublicKeyPem() refuses", () => {
    const good = parsePublicKeyPem(signatures.accept.find(({ algorithm }) => algorithm === "rsa-pss")!.public_key_pem);
    if (good.algorithm !== "rsa-pss") throw new Error("not an RSA key");
    const bytes = new Uint8Array(256);
    const shorter = good.modulus.slice(1);
    for (const key of [
      { ...good, modulus: shorter },
      { ...good, modulus: new Uint8Array([0, ...good.modulus]) },
      { ...good, exponent: new Uint8Array([3]) },
      { ...good, exponent: new Uint8Array([1, 0, 2]) },
      { ...good, exponent: new Uint8Array([0, 1, 0, 1]) },
      { ...good, exponent: new Uint8Array() },
    ]) {
      expect(() => rsa.verify(bytes, bytes.subarray(0, key.modulus.length), key)).toThrow(RsaPssError);
    }
  });
});

describe("parsePublicKeyPem()", () => {
  test.each(keys.accept)("reads $name", ({ pem, algorithm, canonical }) => {
    const key = parsePublicKeyPem(pem);
    expect(key.algorithm).toBe(algorithm);
    expect(formatPublicKeyPem(key)).toBe(canonical);
    expect(parsePublicKeyPem(formatPublicKeyPem(key))).toEqual(key);
  });

  test.each(keys.reject)("refuses $name", ({ pem, error }) => {
    let refusal: unknown;
    try {
      parsePublicKeyPem(pem);
    } catch (thrown) {
      refusal = thrown;
    }
    expect(refusal).toBeInstanceOf(PublicKeyError);
    expect((refusal as PublicKeyError).code).toBe(error);
  });
});

test("openssl's RSA-PSS of this moment, by both implementations", () => {
  const directory = mkdtempSync(join(tmpdir(), "tallystick-rsa-"));
  const at = (name: string) => join(directory, name);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: ["ignore", "pipe", "ignore"] });
  try {
    const message = Buffer.from('{"action":"order.paid","actor":{"id":"Zoë"}}');
    writeFileSync(at("message"), message);
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", at("key.pem"));
    const key = parsePublicKeyPem(openssl("pkey", "-in", at("key.pem"), "-pubout").toString());
    if (key.algorithm !== "rsa-pss") throw new Error("not an RSA key");
    for (const salt of ["0", "1", "32", "64", "max"]) {
      const options = ["rsa_padding_mode:pss", `rsa_pss_saltlen:${salt}`].flatMap((option) => ["-sigopt", option]);
      const signature = openssl("dgst", "-sha256", "-sign", at("key.pem"), ...options, at("message"));
      for (const { verify } of [rsaNode, rsaPortable]) {
        expect(verify(message, signature, key)).toBe(message);
        expect(() => verify(message.subarray(1), signature, key)).toThrow(RsaPssError);
      }
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});
