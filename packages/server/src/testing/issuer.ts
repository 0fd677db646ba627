/**
 * An issuer of tokens for tests: a real HTTP server with its keys, and whatever tokens a test wants signed.
 */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type JWTPayload, SignJWT } from "jose";

export const ISSUER = "https://login.example.com/";
export const AUDIENCE = "https://audit.example.com";

export interface SigningKey {
  readonly kid: string;
  readonly alg: "EdDSA" | "RS256" | "ES256";
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

let made = 0;

export function newSigningKey(alg: SigningKey["alg"] = "EdDSA"): SigningKey {
  const pair =
    alg === "EdDSA"
      ? generateKeyPairSync("ed25519")
      : alg === "ES256"
        ? generateKeyPairSync("ec", { namedCurve: "P-256" })
        : generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { kid: `key-${made++}`, alg, ...pair };
}

export class TestIssuer {
  /** Those that its URL shows. */
  keys: SigningKey[];
  /** Answers its URL in place of the keys, where it is set. */
  fault: { readonly status: number; readonly body: string } | undefined;
  /** How often its URL was asked. */
  asked = 0;
  readonly #server: Server;

  private constructor(keys: SigningKey[]) {
    this.keys = keys;
    this.#server = createServer((_request, response) => {
      this.asked++;
      const { status, body } = this.fault ?? { status: 200, body: this.#jwks() };
      response.writeHead(status, { "content-type": "application/json", connection: "close" }).end(body);
    });
  }

  static async start(keys: SigningKey[] = [newSigningKey()]): Promise<TestIssuer> {
    const issuer = new TestIssuer(keys);
    await issuer.listen(0);
    return issuer;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/jwks.json`;
  }

  #port = 0;
  get port(): number {
    return this.#port;
  }

  async listen(port = this.#port): Promise<void> {
    this.#server.listen(port, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Nothing listens any more, until {@link listen}. */
  async close(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, "close");
  }

  /** A good token of tenant `default` that may write and read, but for what `claims` say; undefined takes a claim away. */
  async token(
    claims: JWTPayload = {},
    { key = this.keys[0]!, header = {} }: { key?: SigningKey; header?: Readonly<Record<string, unknown>> } = {},
  ): Promise<string> {
    const now = Math.floor(Date.now() / 1_000);
    const all = {
      iss: ISSUER,
      aud: AUDIENCE,
      sub: "alice",
      iat: now,
      exp: now + 300,
      tenant: "default",
      scope: "write read",
      ...claims,
    };
    return new SignJWT(all).setProtectedHeader({ alg: key.alg, kid: key.kid, ...header }).sign(key.privateKey);
  }

  #jwks(): string {
    const keys = this.keys.map(({ kid, alg, publicKey }) => ({
      ...publicKey.export({ format: "jwk" }),
      kid,
      alg,
      use: "sig",
    }));
    return JSON.stringify({ keys });
  }
}
