/**
 * The keys of a token issuer (RFC 7517), fetched from its URL: kept, renewed beside the requests, and asked for anew where a token
 * names one that is not among them.
 */
import {
  createLocalJWKSet,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWTVerifyGetKey,
  type ProtectedHeaderParameters,
} from "jose";

/** Keys are renewed once they are so old, while requests go on with those that are there: rotation without a wait. */
const RENEW_MS = 300_000;
/** Keys that could not be renewed for so long are no longer believed: what the issuer has withdrawn meanwhile is not known. */
const MAX_AGE_MS = 3_600_000;
/** The URL is asked no more often, whatever keys tokens name: a stranger's tokens make no load for the issuer. */
const COOLDOWN_MS = 10_000;
const TIMEOUT_MS = 5_000;
const MAX_BYTES = 1024 ** 2;

/** The issuer's keys cannot be had, so that nothing can be said of a token. */
export class KeysUnavailableError extends Error {
  override readonly name = "KeysUnavailableError";
}

export interface JwksOptions {
  /** ms since the Unix epoch. */
  readonly now?: () => number;
  /** Told when the keys cannot be fetched; once, until they can. */
  readonly onError?: (error: unknown) => void;
  /** Told when they can again. */
  readonly onRecovered?: () => void;
}

export class Jwks {
  readonly #url: string;
  readonly #now: () => number;
  readonly #onError: (error: unknown) => void;
  readonly #onRecovered: () => void;
  #keys: { readonly find: JWTVerifyGetKey; readonly ids: ReadonlySet<unknown>; readonly at: number } | undefined;
  #asked: { readonly at: number; failed: boolean } | undefined;
  #fetching: Promise<void> | undefined;
  /** Whether the last fetch failed. */
  #isAway = false;

  constructor(url: string, { now = Date.now, onError = () => {}, onRecovered = () => {} }: JwksOptions = {}) {
    this.#url = url;
    this.#now = now;
    this.#onError = onError;
    this.#onRecovered = onRecovered;
  }

  /**
   * The key that a token's header names, for `jwtVerify`.
   * @throws {KeysUnavailableError} where the keys cannot be had, or a newer set that might have this one.
   * @throws {errors.JWKSNoMatchingKey} where the issuer has no such key.
   */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    const age = this.#keys === undefined ? Number.POSITIVE_INFINITY : this.#now() - this.#keys.at;
    if (age >= MAX_AGE_MS) await this.#renew();
    else if (age >= RENEW_MS) void this.#renew().catch(() => {}); // the next ones have the new keys
    const known = this.#keys;
    if (known === undefined || this.#now() - known.at >= MAX_AGE_MS) throw this.#unavailable();
    try {
      return await known.find(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      await this.#renew();
      if (this.#keys === known) {
        if (this.#asked?.failed) throw this.#unavailable(error);
        throw error; // asked a moment ago
      }
      return await this.#keys!.find(header, token);
    }
  };

  /** Whether a token can be judged without a fetch: the key that it names is there, or it is malformed. */
  has(token: string): boolean {
    let header: ProtectedHeaderParameters;
    try {
      header = decodeProtectedHeader(token);
    } catch {
      return true;
    }
    if (this.#keys === undefined || this.#now() - this.#keys.at >= MAX_AGE_MS) return false;
    return header.kid === undefined || this.#keys.ids.has(header.kid);
  }

  /** Fetches the keys before anyone needs them. A failure is told to `onError` and leaves it to the first token. */
  async prefetch(): Promise<void> {
    await this.#renew();
  }

  /** Fetches the keys unless that was tried a moment ago; requests that need them meanwhile share it. Never throws. */
  async #renew(): Promise<void> {
    if (this.#fetching === undefined) {
      if (this.#asked !== undefined && this.#now() - this.#asked.at < COOLDOWN_MS) return;
      const asked = { at: this.#now(), failed: false };
      this.#asked = asked;
      this.#fetching = fetchKeys(this.#url)
        .then((keys) => {
          this.#keys = {
            find: createLocalJWKSet(keys),
            ids: new Set(keys.keys.map(({ kid }) => kid)),
            at: this.#now(),
          };
          if (this.#isAway) this.#onRecovered();
          this.#isAway = false;
        })
        .catch((error: unknown) => {
          asked.failed = true;
          // Tokens of strangers cause fetches too: they must not fill the server's log.
          if (!this.#isAway) this.#onError(error);
          this.#isAway = true;
        })
        .finally(() => {
          this.#fetching = undefined;
        });
    }
    await this.#fetching;
  }

  #unavailable(cause?: unknown): KeysUnavailableError {
    const detail = `The keys of the token issuer cannot be fetched from ${new URL(this.#url).origin}: try again.`;
    return new KeysUnavailableError(detail, { cause });
  }
}

async function fetchKeys(url: string): Promise<JSONWebKeySet> {
  const response = await fetch(url, {
    headers: { accept: "application/json, application/jwk-set+json" },
    redirect: "error", // whoever can redirect could name other keys
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`${url} answered ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.byteLength;
    if (size > MAX_BYTES) throw new Error(`${url} answered with more than ${MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString("utf8")) as JSONWebKeySet;
}
