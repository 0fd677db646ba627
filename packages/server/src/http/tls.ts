/**
 * TLS of the server itself: its certificate, whose clients' certificates it takes, and both read again when their files change.
 */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { ServerOptions } from "node:http";
import type { Server as HttpsServer } from "node:https";
import { createSecureContext, type SecureContextOptions, type SecureVersion, type TlsOptions } from "node:tls";
import { StartError } from "../start-error.ts";

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
const SOON_MS = 14 * 86_400_000;
/** A handshake that takes longer is given up. */
const HANDSHAKE_MS = 10_000;

interface Logger {
  warn(message: string): void;
  info(message: string): void;
}

export class Tls {
  readonly #settings: TlsSettings;
  readonly #logger: Logger;
  #files: TlsFiles;
  #server: HttpsServer | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** What is wrong with the files that are there now, where they cannot be used: told once. */
  #fault: string | undefined;

  private constructor(settings: TlsSettings, logger: Logger, files: TlsFiles) {
    this.#settings = settings;
    this.#logger = logger;
    this.#files = files;
  }

  /** @throws {StartError} `tls_unusable` where the files cannot be read or used: the message names the setting. */
  static async open(settings: TlsSettings, logger: Logger): Promise<Tls> {
    const files = await readTlsFiles(settings);
    const tls = new Tls(settings, logger, files);
    tls.#warnOfExpiry();
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

  /** Reads the files now. What cannot be used changes nothing: a renewal writes one file after the other. */
  async reload(): Promise<void> {
    let files: TlsFiles;
    try {
      files = await readTlsFiles(this.#settings);
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#fault) this.#logger.warn(`the certificates in use stay: ${message}`);
      this.#fault = message;
      return;
    }
    this.#fault = undefined;
    if (sameFiles(files, this.#files)) return;
    this.#files = files;
    // Tickets of earlier sessions are worth nothing from here on: a client that was revoked meanwhile has to show its certificate.
    this.#server?.setSecureContext(contextOf(this.#settings, files));
    this.#logger.info("the certificates have changed, and are used for new connections");
    this.#warnOfExpiry();
  }

  #warnOfExpiry(): void {
    const { validToDate } = new X509Certificate(this.#files.cert);
    if (validToDate.getTime() - Date.now() > SOON_MS) return;
    this.#logger.warn(`the certificate in TLS_CERT_PATH is good until ${validToDate.toISOString()}: renew it`);
  }
}

/** What Fastify passes on to Node's server. */
export function listenOptions(options: ServerOptions, tls: Tls | undefined) {
  return tls === undefined
    ? { http: options }
    : ({ https: { ...options, ...tls.options } } as { http?: ServerOptions });
}

interface TlsFiles {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer | undefined;
  readonly crl: Buffer | undefined;
}

async function readTlsFiles(settings: TlsSettings): Promise<TlsFiles> {
  const [cert, key, ca, crl] = await Promise.all([
    readSetting("TLS_CERT_PATH", settings.certPath),
    readSetting("TLS_KEY_PATH", settings.keyPath),
    settings.clientCaPath === undefined ? undefined : readSetting("TLS_CLIENT_CA_PATH", settings.clientCaPath),
    settings.clientCrlPath === undefined ? undefined : readSetting("TLS_CLIENT_CRL_PATH", settings.clientCrlPath),
  ]);
  const files = { cert, key, ca, crl };
  try {
    createSecureContext(contextOf(settings, files));
  } catch (cause) {
    const { message } = cause as Error;
    throw unusable(
      `the files of TLS_CERT_PATH, TLS_KEY_PATH and TLS_CLIENT_* cannot be used together (${message})`,
      cause,
    );
  }
  return files;
}

async function readSetting(name: string, path: string): Promise<Buffer> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw unusable(`${name} cannot be read (${(cause as Error).message})`, cause);
  }
  // OpenSSL takes a file without any certificate for a list of none.
  if (!bytes.includes("-----BEGIN ")) throw unusable(`${name}: ${path} is not PEM (-----BEGIN ...)`);
  return bytes;
}

function contextOf({ minVersion }: TlsSettings, { cert, key, ca, crl }: TlsFiles): SecureContextOptions {
  return { cert, key, minVersion, ...(ca && { ca }), ...(crl && { crl }) };
}

function sameFiles(a: TlsFiles, b: TlsFiles): boolean {
  return (["cert", "key", "ca", "crl"] as const).every((name) =>
    a[name] === undefined ? b[name] === undefined : b[name] !== undefined && a[name].equals(b[name]),
  );
}

function unusable(message: string, cause?: unknown): StartError {
  return new StartError("tls_unusable", message, { cause });
}
