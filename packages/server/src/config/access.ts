/**
 * Settings of tokens, TLS and proxies: what each may be, what they must not be together, and what the server makes of them.
 */
import type { SecureVersion } from "node:tls";
import type { TokenKeys, TokenSettings } from "../access/jwt.ts";
import { looksLikeToken, verificationKey } from "../access/token-form.ts";
import type { ClientAuth, TlsSettings } from "../http/tls.ts";
import { type Network, parseNetwork, tooWide } from "../http/trusted-proxies.ts";
import { type Parser, Refused } from "./parse.ts";
import type { Values } from "./settings.ts";
import type { Problem } from "./source.ts";

const MIN_SECRET_BYTES = 32;

/** Where an issuer's keys are: nobody between may exchange them. */
export const jwksUrl: Parser<string> = (text) => {
  const url = URL.parse(text);
  if (url === null || url.username !== "" || url.password !== "" || url.hash !== "") {
    throw new Refused("must be a URL without user and #, such as https://login.example.com/.well-known/jwks.json");
  }
  const local = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  if (url.protocol === "https:" || (url.protocol === "http:" && local)) return url.href;
  throw new Refused("must begin with https://: whoever could change the keys on their way could make any token");
};

/** PEM; in one line where its line ends are written `\n`. */
export const publicKeyPem: Parser<string> = (text) => {
  const pem = text.replaceAll("\\n", "\n");
  if (/^[\w./~-]{1,512}$/.test(text) && /\/|\.(pem|key|pub|crt|cer)$/i.test(text))
    throw new Refused("is the path of a file: set JWT_PUBLIC_KEY_FILE to it, or JWT_PUBLIC_KEY to the key itself");
  try {
    verificationKey(pem);
  } catch (error) {
    throw new Refused((error as Error).message);
  }
  return pem;
};

export const tokenSecret: Parser<string> = (text) => {
  if (Buffer.byteLength(text) >= MIN_SECRET_BYTES) return text;
  throw new Refused(
    `must be ${MIN_SECRET_BYTES} bytes or more, or tokens could be made by guessing it; make one with: openssl rand -hex 32`,
  );
};

/** A claim's name, or a path to it. */
export const claimName: Parser<string> = (text) => {
  if (/^[\x21-\x7e]{1,128}$/.test(text)) return text;
  throw new Refused(
    "must be a claim's name, such as tenant or https://example.com/tenant, or a path such as realm_access.roles",
  );
};

export const clientAuth: Parser<ClientAuth> = (text) => {
  if (text === "off" || text === "optional" || text === "required") return text;
  throw new Refused("must be off, optional or required");
};

export const tlsVersion: Parser<SecureVersion> = (text) => {
  if (text === "1.2" || text === "1.3") return `TLSv${text}`;
  throw new Refused("must be 1.2 or 1.3");
};

/** Addresses and networks, separated by commas. */
export const networks: Parser<readonly Network[]> = (text) =>
  text
    .split(",")
    .map((one) => one.trim())
    .filter((one) => one !== "")
    .map((one) => {
      const network = parseNetwork(one);
      if (network === undefined)
        throw new Refused(
          `must be addresses or networks such as 10.0.0.7, 10.1.0.0/16 or fd00::/8; ${JSON.stringify(one)} is none`,
        );
      const why = tooWide(network);
      if (why !== undefined)
        throw new Refused(
          `must be your proxies and nobody else: ${one} lets any client in it say who it is, and ${why}; name the proxies' own addresses`,
        );
      return network;
    });

type TokenValues = Pick<Values, Extract<keyof Values, `jwt${string}`>>;
type TlsValues = Pick<Values, Extract<keyof Values, `tls${string}`>>;

const KEY_SOURCES = { jwtJwksUrl: "JWT_JWKS_URL", jwtPublicKey: "JWT_PUBLIC_KEY", jwtSecret: "JWT_SECRET" } as const;

/** What settings of access must not be together. */
export function accessContradictions(values: Values): Problem[] {
  return [...tokenContradictions(values), ...tlsContradictions(values)];
}

function tokenContradictions(values: Values): Problem[] {
  const { jwtIssuer, jwtAudience } = values;
  const sources = (Object.keys(KEY_SOURCES) as (keyof typeof KEY_SOURCES)[]).filter((key) => values[key] !== undefined);
  const names = sources.map((key) => KEY_SOURCES[key]);
  const choice = Object.values(KEY_SOURCES).join(", ");
  if (names.length === 0) {
    const given = [jwtIssuer && "JWT_ISSUER", jwtAudience && "JWT_AUDIENCE"].filter((name) => name !== undefined);
    if (given.length === 0) return [];
    return [
      {
        name: given.join(", "),
        detail: `is set without a key to verify tokens by: set one of ${choice}, or remove it`,
      },
    ];
  }
  const problems: Problem[] = [];
  if (values.apiKey !== undefined && looksLikeToken(values.apiKey)) {
    problems.push({ name: "API_KEY", detail: "has the form of a token, and would be taken for one: use another key" });
  }
  if (names.length > 1)
    problems.push({ name: names.join(", "), detail: "are set together: keep the one that your issuer signs by" });
  for (const [name, value, what] of [
    ["JWT_ISSUER", jwtIssuer, "the tokens' claim iss"],
    [
      "JWT_AUDIENCE",
      jwtAudience,
      "what their claim aud says of this installation; tokens for other programs would be good here without it",
    ],
  ] as const) {
    if (value === undefined) problems.push({ name, detail: `is not set beside ${names[0]}: set it to ${what}` });
  }
  return problems;
}

function tlsContradictions(values: Values): Problem[] {
  const { tlsCertPath, tlsKeyPath, tlsClientCaPath, tlsClientCrlPath, tlsClientAuth } = values;
  const problems: Problem[] = [];
  if ((tlsCertPath === undefined) !== (tlsKeyPath === undefined)) {
    const [set, other] =
      tlsCertPath === undefined ? ["TLS_KEY_PATH", "TLS_CERT_PATH"] : ["TLS_CERT_PATH", "TLS_KEY_PATH"];
    problems.push({ name: set, detail: `is set without ${other}: set both, or neither` });
  }
  const client = [
    tlsClientAuth !== "off" && "TLS_CLIENT_AUTH",
    tlsClientCaPath !== undefined && "TLS_CLIENT_CA_PATH",
    tlsClientCrlPath !== undefined && "TLS_CLIENT_CRL_PATH",
  ].filter((name) => name !== false);
  if (tlsCertPath === undefined && client.length > 0) {
    problems.push({
      name: client.join(", "),
      detail: "is set without TLS_CERT_PATH: clients show certificates in TLS only",
    });
  } else if (tlsClientAuth !== "off" && tlsClientCaPath === undefined) {
    problems.push({
      name: "TLS_CLIENT_AUTH",
      detail: `is ${tlsClientAuth} without TLS_CLIENT_CA_PATH: set that to the CA of your clients`,
    });
  } else if (tlsClientAuth === "off" && client.length > 0) {
    problems.push({
      name: client.join(", "),
      detail: "is set while TLS_CLIENT_AUTH is off: set that to optional or required, or remove it",
    });
  }
  return problems;
}

/** Whose tokens are taken; undefined where none are. */
export function tokenSettings(values: TokenValues): TokenSettings | undefined {
  const keys = tokenKeys(values);
  if (keys === undefined) return undefined;
  return {
    keys,
    issuer: values.jwtIssuer!,
    audience: values.jwtAudience!,
    tenantClaim: values.jwtTenantClaim,
    scopesClaim: values.jwtScopesClaim,
    scopePrefix: values.jwtScopePrefix,
    serviceClaim: values.jwtServiceClaim,
    actorClaim: values.jwtActorClaim,
    clockToleranceSeconds: values.jwtClockToleranceSeconds,
  };
}

function tokenKeys({ jwtJwksUrl, jwtPublicKey, jwtSecret }: TokenValues): TokenKeys | undefined {
  if (jwtJwksUrl !== undefined) return { kind: "jwks", url: jwtJwksUrl };
  if (jwtPublicKey !== undefined) return { kind: "public_key", pem: jwtPublicKey };
  if (jwtSecret !== undefined) return { kind: "secret", secret: jwtSecret };
  return undefined;
}

/** TLS of the server itself; undefined where it speaks plain HTTP. */
export function tlsSettings(values: TlsValues): TlsSettings | undefined {
  const { tlsCertPath, tlsKeyPath } = values;
  if (tlsCertPath === undefined || tlsKeyPath === undefined) return undefined;
  return {
    certPath: tlsCertPath,
    keyPath: tlsKeyPath,
    clientCaPath: values.tlsClientCaPath,
    clientAuth: values.tlsClientAuth,
    clientCrlPath: values.tlsClientCrlPath,
    minVersion: values.tlsMinVersion,
  };
}
