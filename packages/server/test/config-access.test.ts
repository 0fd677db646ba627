/** Settings of tokens, TLS and proxies: what is taken, and what is refused with words that help. */
import { generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { tlsSettings, tokenSettings } from "../src/config/access.ts";
import { ConfigError, loadConfig } from "../src/config.ts";
import { TrustedProxies } from "../src/http/trusted-proxies.ts";

const CWD = { cwd: "/nowhere-at-all" };
const ISSUER = { JWT_ISSUER: "https://login.example.com/", JWT_AUDIENCE: "audit" };
const URL = "https://login.example.com/jwks.json";
const SECRET = "s".repeat(32);

type Env = Readonly<Record<string, string>>;

const load = (env: Env) => loadConfig(env, CWD);

function problems(env: Env): string[] {
  try {
    load(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map(({ name, detail }) => `${name} ${detail}`);
    throw error;
  }
  return [];
}

const pem = (key: ReturnType<typeof generateKeyPairSync>["publicKey"]) =>
  String(key.export({ type: "spki", format: "pem" } as never));

describe("tokens", () => {
  test("are taken by one kind of key, of one issuer, for one audience", () => {
    expect(tokenSettings(load({}))).toBeUndefined();
    expect(tokenSettings(load({ ...ISSUER, JWT_JWKS_URL: URL }))).toEqual({
      keys: { kind: "jwks", url: URL },
      issuer: ISSUER.JWT_ISSUER,
      audience: "audit",
      tenantClaim: "tenant",
      scopesClaim: "scope",
      scopePrefix: undefined,
      serviceClaim: undefined,
      actorClaim: "sub",
      clockToleranceSeconds: 5,
    });
    const key = pem(generateKeyPairSync("ed25519").publicKey);
    const inOneLine = key.replaceAll("\n", "\\n");
    expect(tokenSettings(load({ ...ISSUER, JWT_PUBLIC_KEY: inOneLine }))?.keys).toEqual({
      kind: "public_key",
      pem: key,
    });
    expect(tokenSettings(load({ ...ISSUER, JWT_SECRET: SECRET }))?.keys).toEqual({ kind: "secret", secret: SECRET });
  });

  test.each<[Env, RegExp]>([
    [ISSUER, /^JWT_ISSUER, JWT_AUDIENCE is set without a key .* JWT_JWKS_URL, JWT_PUBLIC_KEY, JWT_SECRET/],
    [{ JWT_JWKS_URL: URL, JWT_AUDIENCE: "a" }, /^JWT_ISSUER is not set beside JWT_JWKS_URL/],
    [{ JWT_JWKS_URL: URL, JWT_ISSUER: "a" }, /^JWT_AUDIENCE is not set beside JWT_JWKS_URL/],
    [{ ...ISSUER, JWT_JWKS_URL: URL, JWT_SECRET: SECRET }, /^JWT_JWKS_URL, JWT_SECRET are set together/],
    [{ ...ISSUER, JWT_SECRET: "short" }, /^JWT_SECRET must be 32 bytes or more/],
    [{ ...ISSUER, JWT_JWKS_URL: "http://login.example.com/keys" }, /^JWT_JWKS_URL .* must begin with https/],
    [{ ...ISSUER, JWT_JWKS_URL: "http://127.0.0.1.evil.example/keys" }, /^JWT_JWKS_URL .* must begin with https/],
    [{ ...ISSUER, JWT_JWKS_URL: "https://u:p@h/keys" }, /^JWT_JWKS_URL .* without user/],
    [
      { ...ISSUER, JWT_PUBLIC_KEY: "/run/keys/issuer.pem" },
      /^JWT_PUBLIC_KEY is the path of a file: set JWT_PUBLIC_KEY_FILE/,
    ],
    [{ ...ISSUER, JWT_PUBLIC_KEY: "issuer.pub" }, /^JWT_PUBLIC_KEY is the path of a file: set JWT_PUBLIC_KEY_FILE/],
    [{ ...ISSUER, JWT_PUBLIC_KEY: "abc" }, /^JWT_PUBLIC_KEY is no public key in PEM/],
    [
      { ...ISSUER, JWT_PUBLIC_KEY: pem(generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey) },
      /RSA key of 2048 bits/,
    ],
    [
      { ...ISSUER, JWT_PUBLIC_KEY: pem(generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey) },
      /must be an Ed25519 key/,
    ],
    [{ ...ISSUER, JWT_JWKS_URL: URL, JWT_TENANT_CLAIM: "a b" }, /^JWT_TENANT_CLAIM .* must be a claim's name/],
    [{ ...ISSUER, JWT_JWKS_URL: URL, API_KEY: "eyJhbGciOiJub25lIn0.e30.x" }, /^API_KEY has the form of a token/],
  ])("%j is refused", (env, why) => {
    expect(problems(env)).toEqual([expect.stringMatching(why)]);
  });

  test("a private key is refused, and not repeated", () => {
    const key = String(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }));
    const [problem, ...more] = problems({ ...ISSUER, JWT_PUBLIC_KEY: key });
    expect(more).toEqual([]);
    expect(problem).toMatch(/^JWT_PUBLIC_KEY is a private key/);
    expect(problem).not.toContain(key.split("\n")[1]);
  });
});

describe("TLS", () => {
  const OWN = { TLS_CERT_PATH: "c.pem", TLS_KEY_PATH: "k.pem" };

  test("is off, on, or on with client certificates", () => {
    expect(tlsSettings(load({}))).toBeUndefined();
    expect(tlsSettings(load(OWN))).toEqual({
      certPath: "c.pem",
      keyPath: "k.pem",
      clientAuth: "off",
      clientCaPath: undefined,
      clientCrlPath: undefined,
      minVersion: "TLSv1.2",
    });
    const client = { ...OWN, TLS_CLIENT_AUTH: "required", TLS_CLIENT_CA_PATH: "ca.pem", TLS_MIN_VERSION: "1.3" };
    expect(tlsSettings(load(client))).toMatchObject({
      clientAuth: "required",
      clientCaPath: "ca.pem",
      minVersion: "TLSv1.3",
    });
  });

  test.each<[Env, RegExp]>([
    [{ TLS_KEY_PATH: "k" }, /^TLS_KEY_PATH is set without TLS_CERT_PATH/],
    [{ TLS_CERT_PATH: "c" }, /^TLS_CERT_PATH is set without TLS_KEY_PATH/],
    [
      { TLS_CLIENT_AUTH: "optional", TLS_CLIENT_CA_PATH: "a" },
      /^TLS_CLIENT_AUTH, TLS_CLIENT_CA_PATH is set without TLS_CERT_PATH/,
    ],
    [{ ...OWN, TLS_CLIENT_AUTH: "required" }, /^TLS_CLIENT_AUTH is required without TLS_CLIENT_CA_PATH/],
    [{ ...OWN, TLS_CLIENT_CA_PATH: "a" }, /^TLS_CLIENT_CA_PATH is set while TLS_CLIENT_AUTH is off/],
    [{ ...OWN, TLS_CLIENT_AUTH: "on" }, /^TLS_CLIENT_AUTH .* must be off, optional or required/],
    [{ ...OWN, TLS_MIN_VERSION: "1.1" }, /^TLS_MIN_VERSION .* must be 1.2 or 1.3/],
  ])("%j is refused", (env, why) => {
    expect(problems(env)).toEqual([expect.stringMatching(why)]);
  });
});

describe("TRUSTED_PROXIES", () => {
  test("are addresses and networks, of either family, in either spelling", () => {
    const proxies = new TrustedProxies(
      load({ TRUSTED_PROXIES: "10.0.0.7, 192.168.0.0/16,fd00::/8,::1," }).trustedProxies!,
    );
    for (const trusted of ["10.0.0.7", "::ffff:10.0.0.7", "192.168.255.1", "::ffff:192.168.1.1", "fd12::1", "::1"]) {
      expect([trusted, proxies.has(trusted)]).toEqual([trusted, true]);
    }
    for (const other of [
      "10.0.0.8",
      "127.0.0.1",
      "fe80::1",
      "::ffff:10.0.0.8",
      "unknown",
      "",
      "10.0.0.7:80",
      undefined,
    ]) {
      expect([other, proxies.has(other)]).toEqual([other, false]);
    }
    expect(new TrustedProxies([]).has("127.0.0.1")).toBe(false);
  });

  test.each([
    ["0.0.0.0/1", "wider than /8"],
    ["128.0.0.0/7", "wider than /8"],
    ["::ffff:0:0/96", "wider than /8"],
    ["::ffff:10.0.0.0/103", "wider than /8"],
    ["::ffff:0:0/95", "every IPv4 address"],
    ["::/64", "every IPv4 address"],
    ["2000::/3", "wider than /16"],
    ["2000::/15", "wider than /16"],
    ["fc00::/6", "wider than /16"],
    ["10.0.0.0/8, ::/1", "every IPv4 address"],
  ])("%s is too wide", (text, why) => {
    expect(problems({ TRUSTED_PROXIES: text })).toEqual([expect.stringContaining(why)]);
  });

  test("may be a wide network that is not the Internet's", () => {
    const wide = "10.0.0.0/8,::ffff:11.0.0.0/104,fc00::/7,fe80::/10,2001::/16";
    const proxies = new TrustedProxies(load({ TRUSTED_PROXIES: wide }).trustedProxies!);
    for (const trusted of ["10.1.2.3", "11.0.0.1", "::ffff:11.0.0.1", "fd00::1", "fe80::1", "2001:db8::1"])
      expect([trusted, proxies.has(trusted)]).toEqual([trusted, true]);
    for (const other of ["12.0.0.1", "::ffff:12.0.0.1", "2002::1"]) expect(proxies.has(other)).toBe(false);
  });

  test.each(["proxy.example", "10.0.0.0/33", "10.0.0", "*", "10.0.0.0/0", "::/0", "loopback", "10.0.0.1-9"])(
    "%s is refused",
    (text) => {
      expect(problems({ TRUSTED_PROXIES: text })).toEqual([expect.stringMatching(/^TRUSTED_PROXIES /)]);
    },
  );
});
