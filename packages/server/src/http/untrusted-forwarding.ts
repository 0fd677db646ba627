/**
 * A proxy that TRUSTED_PROXIES forgets: all its clients are one address, for limits and in the operator's log, and nobody would know.
 */
import type { FastifyBaseLogger, FastifyRequest } from "fastify";
import type { TrustedProxies } from "./trusted-proxies.ts";

/** Anybody can send the header: what they make the log say is bounded. */
const MAX_TOLD = 10;

export class UntrustedForwarding {
  readonly #proxies: TrustedProxies;
  readonly #logger: Pick<FastifyBaseLogger, "warn">;
  readonly #told = new Set<string>();

  constructor(proxies: TrustedProxies, logger: Pick<FastifyBaseLogger, "warn">) {
    this.#proxies = proxies;
    this.#logger = logger;
  }

  /** Tells the server's log of an address that forwards for others and is not trusted to: once of each, and of some only. */
  note({ headers, socket: { remoteAddress } }: Pick<FastifyRequest, "headers" | "socket">): void {
    if (headers["x-forwarded-for"] === undefined || remoteAddress === undefined) return;
    if (this.#told.size >= MAX_TOLD || this.#told.has(remoteAddress) || this.#proxies.has(remoteAddress)) return;
    this.#told.add(remoteAddress);
    this.#logger.warn(
      `X-Forwarded-For from ${remoteAddress} is not believed: all clients behind it count as one address. If that is a proxy of yours, add it to TRUSTED_PROXIES (docs/access.md, Behind a proxy)`,
    );
  }
}
