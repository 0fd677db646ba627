/**
 * JSON Web Tokens (RFC 7519) of one issuer: verified by jose, and what their claims say of whoever brings them.
 */
import { hash } from "node:crypto";
import { isReserved } from "@tallystick/core/event";
import { errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import { OPERATOR_TENANT, type TenantLog } from "../log/tenants.ts";
import { type Caller, CredentialError } from "./caller.ts";
import { Jwks, KeysUnavailableError } from "./jwks.ts";
import { SCOPES, type Scope } from "./scopes.ts";
import { verificationKey } from "./token-form.ts";

/** Where the issuer's keys are; exactly one. */
export type TokenKeys =
  | { readonly kind: "jwks"; readonly url: string }
  /** PEM of a SubjectPublicKeyInfo. */
  | { readonly kind: "public_key"; readonly pem: string }
  /** For HS256; at least 32 bytes. */
  | { readonly kind: "secret"; readonly secret: string };

/** Whose tokens are good, and which of their claims say what. A claim is a name, or names with dots between that lead into objects. */
export interface TokenSettings {
  readonly keys: TokenKeys;
  readonly issuer: string;
  readonly audience: string;
  readonly tenantClaim: string;
  readonly scopesClaim: string;
  /** Only scopes that begin so count, without it. */
  readonly scopePrefix: string | undefined;
  /** Names the only service that the token may write for; without it, and in tokens without this claim, any. */
  readonly serviceClaim: string | undefined;
  readonly actorClaim: string;
  readonly clockToleranceSeconds: number;
}

/** Never `none`; HS256 only by a secret of its own, so that no public key is ever taken for one (RFC 8725, 2.1). */
const ALGORITHMS = ["EdDSA", "Ed25519", "RS256", "ES256"];

// A token is verified once in this time, and in no case beyond its expiry.
const CACHE_MS = 5_000;
const CACHE_SIZE = 10_000;
/** How long nothing at all is looked at again: which tenant a name means may change. */
const CALLER_MS = 500;
/** As the ids of actors and names of services in events. */
const MAX_ID_BYTES = 256;
const MAX_SERVICE_BYTES = 128;

/** What a token says, all of it verified. */
interface Claims {
  readonly subject: string;
  readonly actorId: string;
  readonly tenant: string;
  readonly serviceId: string | undefined;
  readonly scopes: readonly Scope[];
  readonly expiresAtMs: number;
}

export interface TokensOptions {
  readonly findTenant: (idOrSlug: string) => Promise<TenantLog | undefined>;
  /** ms since the Unix epoch. */
  readonly now?: () => number;
  /** Told when the issuer's keys cannot be fetched; once, until they can. */
  readonly onError?: (error: unknown) => void;
  /** Told when they can again. */
  readonly onRecovered?: () => void;
}

export class Tokens {
  readonly #settings: TokenSettings;
  readonly #findTenant: TokensOptions["findTenant"];
  readonly #now: () => number;
  readonly #findKey: JWTVerifyGetKey;
  readonly #hasKeyOf: (token: string) => boolean;
  readonly #algorithms: readonly string[];
  readonly #prefetch: (() => Promise<void>) | undefined;
  /** By the hash of the token. Those under way as well: requests that bring the same token share its verification. */
  readonly #verified = new Map<string, { readonly claims: Promise<Claims>; readonly at: number }>();
  /** Who brought a token a moment ago, by its hash as well. */
  readonly #callers = new Map<string, { readonly caller: Caller; readonly untilMs: number }>();

  constructor(settings: TokenSettings, { findTenant, now = Date.now, onError, onRecovered }: TokensOptions) {
    this.#settings = settings;
    this.#findTenant = findTenant;
    this.#now = now;
    const { find, has, algorithms, prefetch } = keysOf(settings.keys, {
      now,
      ...(onError && { onError }),
      ...(onRecovered && { onRecovered }),
    });
    this.#findKey = find;
    this.#hasKeyOf = has;
    this.#algorithms = algorithms;
    this.#prefetch = prefetch;
  }

  /** Gets the issuer's keys before the first token comes, so that a wrong URL shows in the log at the start. Never throws. */
  async prefetch(): Promise<void> {
    await this.#prefetch?.();
  }

  /** Who brings this token, where it was found good a moment ago; undefined says nothing. */
  known(token: string): Caller | undefined {
    const known = this.#callers.get(hash("sha256", token, "hex"));
    return known !== undefined && this.#now() < known.untilMs ? known.caller : undefined;
  }

  /**
   * Who brings this token.
   * @param onStranger called before the keys are fetched to verify a token; what it throws refuses it. By keys that are there a
   *   token is verified without a look at anything.
   * @throws {CredentialError} `jwt_invalid`, `jwt_expired`, `jwt_tenant_unknown`. @throws {KeysUnavailableError} where the keys to
   *   judge it by cannot be had.
   */
  async authenticate(token: string, onStranger?: () => void): Promise<Caller> {
    const claims = await this.#claimsOf(token, onStranger);
    const credential = { kind: "jwt", id: claims.subject } as const;
    const now = this.#now();
    const endsAtMs = claims.expiresAtMs + this.#settings.clockToleranceSeconds * 1_000;
    if (endsAtMs <= now) throw expired(credential);
    const tenant = await this.#findTenant(claims.tenant);
    if (tenant === undefined) {
      const detail = `The token's claim "${this.#settings.tenantClaim}" names no tenant that there is.`;
      throw new CredentialError("jwt_tenant_unknown", detail, { credential });
    }
    const caller: Caller = {
      credential,
      tenantId: tenant.tenantId,
      serviceId: claims.serviceId,
      // What an issuer's administrator of one tenant could write into a token must not reach the others.
      scopes: claims.scopes.filter((scope) => scope !== "operator" || tenant.slug === OPERATOR_TENANT),
      actor: { type: "user", id: claims.actorId },
    };
    this.#remember(token, caller, Math.min(endsAtMs, now + CALLER_MS));
    return caller;
  }

  #remember(token: string, caller: Caller, untilMs: number): void {
    const key = hash("sha256", token, "hex");
    this.#callers.delete(key);
    if (this.#callers.size >= CACHE_SIZE) this.#callers.delete(this.#callers.keys().next().value!);
    this.#callers.set(key, { caller, untilMs });
  }

  async #claimsOf(token: string, onStranger?: () => void): Promise<Claims> {
    const now = this.#now();
    const key = hash("sha256", token, "hex");
    const known = this.#verified.get(key);
    if (known !== undefined && now - known.at < CACHE_MS) return known.claims;
    if (known === undefined && !this.#hasKeyOf(token)) onStranger?.();
    this.#verified.delete(key);
    const claims = this.#verify(token, new Date(now));
    if (this.#verified.size >= CACHE_SIZE) this.#verified.delete(this.#verified.keys().next().value!);
    this.#verified.set(key, { claims, at: now });
    claims.catch(() => {
      if (this.#verified.get(key)?.claims === claims) this.#verified.delete(key);
    });
    return claims;
  }

  async #verify(token: string, currentDate: Date): Promise<Claims> {
    const { issuer, audience, clockToleranceSeconds } = this.#settings;
    let payload: JWTPayload;
    try {
      ({ payload } = await jwtVerify(token, this.#findKey, {
        issuer,
        audience,
        algorithms: [...this.#algorithms],
        requiredClaims: ["exp"],
        clockTolerance: clockToleranceSeconds,
        currentDate,
      }));
    } catch (error) {
      if (error instanceof KeysUnavailableError) throw error;
      if (error instanceof errors.JWTExpired) throw expired(subjectOf(error.payload), error);
      throw invalid(reasonOf(error), error);
    }
    const actorId = idIn(payload, this.#settings.actorClaim, MAX_ID_BYTES);
    if (actorId === undefined) throw invalid(`it has no claim "${this.#settings.actorClaim}"`);
    const subject = payload.sub === undefined ? actorId : (idIn(payload, "sub", MAX_ID_BYTES) ?? actorId);
    return {
      subject,
      actorId,
      tenant: this.#tenantIn(payload, { kind: "jwt", id: subject }),
      serviceId: this.#serviceIn(payload),
      scopes: this.#scopesIn(payload),
      expiresAtMs: payload.exp! * 1_000,
    };
  }

  #tenantIn(payload: JWTPayload, credential: Caller["credential"]): string {
    const tenant = claimIn(payload, this.#settings.tenantClaim);
    if (typeof tenant === "string") return tenant.toLowerCase();
    const detail = `The token names no tenant: it needs the claim "${this.#settings.tenantClaim}", a tenant's id or slug.`;
    throw new CredentialError("jwt_tenant_unknown", detail, { credential });
  }

  #serviceIn(payload: JWTPayload): string | undefined {
    const { serviceClaim } = this.#settings;
    if (serviceClaim === undefined) return undefined;
    const service = idIn(payload, serviceClaim, MAX_SERVICE_BYTES);
    if (service !== undefined && isReserved(service)) {
      throw invalid(`its claim "${serviceClaim}" names a service of the server's own`);
    }
    return service;
  }

  /** Issuers put scopes of other programs into the same claim: what is none of ours is passed over. */
  #scopesIn(payload: JWTPayload): Scope[] {
    const { scopesClaim, scopePrefix = "" } = this.#settings;
    const claim = claimIn(payload, scopesClaim) ?? [];
    const words = typeof claim === "string" ? claim.split(" ") : claim;
    if (!Array.isArray(words)) throw invalid(`its claim "${scopesClaim}" is neither a string nor a list`);
    const named = new Set(
      words.map((word) =>
        typeof word === "string" && word.startsWith(scopePrefix) ? word.slice(scopePrefix.length) : undefined,
      ),
    );
    return SCOPES.filter((scope) => named.has(scope));
  }
}

function keysOf(
  keys: TokenKeys,
  options: ConstructorParameters<typeof Jwks>[1],
): {
  find: JWTVerifyGetKey;
  has: (token: string) => boolean;
  algorithms: readonly string[];
  prefetch?: () => Promise<void>;
} {
  switch (keys.kind) {
    case "jwks": {
      const jwks = new Jwks(keys.url, options);
      return {
        find: jwks.find,
        has: (token) => jwks.has(token),
        algorithms: ALGORITHMS,
        prefetch: () => jwks.prefetch(),
      };
    }
    case "public_key": {
      const { key, algorithms } = verificationKey(keys.pem);
      return { find: async () => key, has: () => true, algorithms };
    }
    case "secret": {
      const secret = Buffer.from(keys.secret, "utf8");
      return { find: async () => secret, has: () => true, algorithms: ["HS256"] };
    }
  }
}

/** A claim by its name, or by the path that its name is; an own property each time. */
function claimIn(payload: JWTPayload, name: string): unknown {
  if (Object.hasOwn(payload, name)) return payload[name];
  let found: unknown = payload;
  for (const part of name.split(".")) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, part)) return undefined;
    found = (found as Record<string, unknown>)[part];
  }
  return found;
}

/** A claim that becomes an id in entries: by the rules that ids of events keep. @throws {CredentialError} where it is none. */
function idIn(payload: JWTPayload, name: string, maxBytes: number): string | undefined {
  const value = claimIn(payload, name);
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string" || value === "") throw invalid(`its claim "${name}" is no string`);
  if (Buffer.byteLength(value) > maxBytes) throw invalid(`its claim "${name}" is longer than ${maxBytes} bytes`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
  if (!value.isWellFormed() || /[\0-\x1f\x7f]/.test(value))
    throw invalid(`its claim "${name}" has characters no id has`);
  return value;
}

function subjectOf(payload: JWTPayload): Caller["credential"] | undefined {
  try {
    const id = idIn(payload, "sub", MAX_ID_BYTES);
    return id === undefined ? undefined : { kind: "jwt", id };
  } catch {
    return undefined;
  }
}

function expired(credential: Caller["credential"] | undefined, cause?: unknown): CredentialError {
  return new CredentialError("jwt_expired", "The token has expired: get a new one from its issuer.", {
    cause,
    ...(credential && { credential }),
  });
}

function invalid(why: string, cause?: unknown): CredentialError {
  return new CredentialError("jwt_invalid", `The token is not accepted: ${why}.`, { cause });
}

/** jose's reasons, in words that say what to mend; none tells anything of the token but the name of a claim. */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTClaimValidationFailed) {
    const claim = `its claim "${error.claim}"`;
    if (error.reason === "missing") return `${claim} is missing`;
    if (error.claim === "nbf") return `it is not valid yet (claim "nbf")`;
    return `${claim} is not what this installation expects`;
  }
  if (error instanceof errors.JOSEAlgNotAllowed) return "its algorithm is not one that this installation takes";
  if (error instanceof errors.JWSSignatureVerificationFailed) return "its signature does not verify";
  if (error instanceof errors.JWKSNoMatchingKey) return "its issuer has no key that it is signed with";
  if (error instanceof errors.JWKSMultipleMatchingKeys)
    return "it does not say which of the issuer's keys it is signed with (kid)";
  return "it is malformed, or signed in a way that is not supported";
}
