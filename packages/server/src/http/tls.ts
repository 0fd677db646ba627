/**
 * TLS of the server itself: its certificate, whose clients' certificates it takes, and both read again when their files change.
 */
import type { ServerOptions } from "node:http";
import type { Server as HttpsServer } from "node:https";
import type { SecureVersion, TlsOptions } from "node:tls";
import type { Check } from "./routes/health.ts";
import { CertificateExpiry } from "./tls-expiry.ts";
import { contextOf, readTlsFiles, sameFiles, type TlsFiles } from "./tls-files.ts";

/** `optional`: who brings a certificate may use it; `required`: without a good one there is no connection. */
export type ClientAuth = "off" | "optional" | "required";

export interface TlsSettings {
  readonly certPath: string;
  readonly keyPath: string;
  /** CAs whose client certificates are good. */
  readonly clientCaPath: string | undefined;
  readonly clientAuth: ClientAuth;
  /** Certificates that these CAs have revoked. */
  readonly clientCrlPath: string | undefined;
  readonly minVersion: SecureVersion;
}

// How long a renewed certificate may wait before it is used. Files are compared, because neither a volume of Kubernetes nor a network
// file system tells of changes.
const LOOK_MS = 2_000;
/** A handshake that takes longer is given up. */
const HANDSHAKE_MS = 10_000;

interface Logger {
  error(message: string): void;
  warn(message: string): void;
  info(message: string): void;
}

export class Tls {
  readonly #settings: TlsSettings;
  readonly #logger: Logger;
  readonly #expiry: CertificateExpiry;
  #files: TlsFiles;
  #server: HttpsServer | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** What is wrong with the files that are there now, where they cannot be used: told once. */
  #fault: string | undefined;

  private constructor(settings: TlsSettings, logger: Logger, files: TlsFiles, now: () => number) {
    this.#settings = settings;
    this.#logger = logger;
    this.#files = files;
    this.#expiry = new CertificateExpiry(files.cert, logger, now);
  }

  /**
   * @param now ms since the Unix epoch.
   * @throws {import("../start-error.ts").StartError} `tls_unusable` where the files cannot be read or used.
   */
  static async open(settings: TlsSettings, logger: Logger, now: () => number = Date.now): Promise<Tls> {
    const tls = new Tls(settings, logger, await readTlsFiles(settings), now);
    tls.#expiry.tell();
    return tls;
  }

  /** For `createServer` of node:https. */
  get options(): TlsOptions {
    const { clientAuth } = this.#settings;
    return {
      ...contextOf(this.#settings, this.#files),
      requestCert: clientAuth !== "off",
      // Where it is optional, a request with a certificate that is not good is refused by the server's own answer, with a reason.
      rejectUnauthorized: clientAuth === "required",
      handshakeTimeout: HANDSHAKE_MS,
    };
  }

  /** Keeps the server's certificates those of the files, until `stop`. */
  watch(server: HttpsServer): void {
    this.#server = server;
    const again = () => {
      this.#timer = setTimeout(() => void this.reload().finally(() => this.#server && again()), LOOK_MS).unref();
    };
    again();
  }

  stop(): void {
    this.#server = undefined;
    clearTimeout(this.#timer);
  }

  /** Whether the server's certificate is good now, and for how long. */
  check(): Check {
    return this.#expiry.check();
  }

  /** Reads the files now, and tells of a certificate that ends. What cannot be used changes nothing: a renewal writes one file after the other. */
  async reload(): Promise<void> {
    let files: TlsFiles;
    try {
      files = await readTlsFiles(this.#settings);
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#fault) this.#logger.warn(`the certificates in use stay: ${message}`);
      this.#fault = message;
      this.#expiry.tell();
      return;
    }
    this.#fault = undefined;
    if (sameFiles(files, this.#files)) {
      this.#expiry.tell();
      return;
    }
    this.#files = files;
    // Tickets of earlier sessions are worth nothing from here on: a client that was revoked meanwhile has to show its certificate.
    this.#server?.setSecureContext(contextOf(this.#settings, files));
    this.#logger.info("the certificates have changed, and are used for new connections");
    this.#expiry.renew(files.cert);
    this.#expiry.tell();
  }
}

/** What Fastify passes on to Node's server. */
export function listenOptions(options: ServerOptions, tls: Tls | undefined) {
  return tls === undefined
    ? { http: options }
    : ({ https: { ...options, ...tls.options } } as { http?: ServerOptions });
}
