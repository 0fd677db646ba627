/**
 * The files of TLS: read, and looked at one by one, so that it is said which of them is wrong and what it has to be.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import { StartError } from "../start-error.ts";
import type { TlsSettings } from "./tls.ts";

export interface TlsFiles {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer | undefined;
  readonly crl: Buffer | undefined;
}

/** @throws {StartError} `tls_unusable` where one cannot be read or used: the message names the setting, the file and the remedy. */
export async function readTlsFiles(settings: TlsSettings): Promise<TlsFiles> {
  const { certPath, keyPath, clientCaPath, clientCrlPath } = settings;
  const [cert, key, ca, crl] = await Promise.all([
    readSetting("TLS_CERT_PATH", certPath),
    readSetting("TLS_KEY_PATH", keyPath),
    clientCaPath === undefined ? undefined : readSetting("TLS_CLIENT_CA_PATH", clientCaPath),
    clientCrlPath === undefined ? undefined : readSetting("TLS_CLIENT_CRL_PATH", clientCrlPath),
  ]);
  const files = { cert, key, ca, crl };
  requirePair(settings, files);
  if (ca !== undefined) {
    asked(() => new X509Certificate(ca), {
      setting: "TLS_CLIENT_CA_PATH",
      path: clientCaPath!,
      remedy:
        "holds no certificate that can be read: name the certificate of your clients' CA (-----BEGIN CERTIFICATE-----)",
    });
  }
  if (crl !== undefined) {
    asked(() => createSecureContext({ crl }), {
      setting: "TLS_CLIENT_CRL_PATH",
      path: clientCrlPath!,
      remedy:
        "holds no revocation list that can be read: name what the CA publishes, in PEM (-----BEGIN X509 CRL-----; openssl crl -inform DER -outform PEM makes it of DER)",
    });
  }
  try {
    createSecureContext(contextOf(settings, files));
  } catch (cause) {
    const { message } = cause as Error;
    throw unusable(
      `the files of TLS_CERT_PATH, TLS_KEY_PATH and TLS_CLIENT_* cannot be used together (${message}): make the certificate anew, with a key of 2,048 bits (RSA) or P-256`,
      cause,
    );
  }
  return files;
}

/** For a server that has these files. */
export function contextOf({ minVersion }: TlsSettings, { cert, key, ca, crl }: TlsFiles): SecureContextOptions {
  return { cert, key, minVersion, ...(ca && { ca }), ...(crl && { crl }) };
}

export function sameFiles(a: TlsFiles, b: TlsFiles): boolean {
  return (["cert", "key", "ca", "crl"] as const).every((name) =>
    a[name] === undefined ? b[name] === undefined : b[name] !== undefined && a[name].equals(b[name]),
  );
}

function requirePair({ certPath, keyPath }: TlsSettings, { cert, key }: TlsFiles): void {
  const certificate = asked(() => new X509Certificate(cert), {
    setting: "TLS_CERT_PATH",
    path: certPath,
    remedy:
      "holds no certificate that can be read: name the server's own, with those of its chain behind it (-----BEGIN CERTIFICATE-----)",
  });
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(key);
  } catch (cause) {
    const why =
      (cause as { code?: unknown }).code === "ERR_MISSING_PASSPHRASE"
        ? "is encrypted: name a key without a passphrase that this user alone may read (openssl pkey -in old.key -out new.key)"
        : "holds no private key that can be read: name the one that the certificate was made with (-----BEGIN PRIVATE KEY-----)";
    throw unusable(`TLS_KEY_PATH: ${keyPath} ${why}`, cause);
  }
  if (certificate.checkPrivateKey(privateKey)) return;
  throw unusable(
    `TLS_CERT_PATH: ${certPath} and TLS_KEY_PATH: ${keyPath} cannot be used together: the key is not that of the first certificate in the file. Name the two that were made together, the server's certificate before those of its chain`,
  );
}

async function readSetting(setting: string, path: string): Promise<Buffer> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw unusable(`${setting} cannot be read (${(cause as Error).message}): mend the path, or its rights`, cause);
  }
  // OpenSSL takes a file without any certificate for a list of none.
  if (bytes.includes("-----BEGIN ")) return bytes;
  throw unusable(`${setting}: ${path} is not PEM (-----BEGIN ...): name a file that is, or convert it (openssl)`);
}

/** What `look` finds. @throws {StartError} in words of ours where it throws in OpenSSL's. */
function asked<T>(look: () => T, about: { setting: string; path: string; remedy: string }): T {
  try {
    return look();
  } catch (cause) {
    throw unusable(`${about.setting}: ${about.path} ${about.remedy}`, cause);
  }
}

function unusable(message: string, cause?: unknown): StartError {
  return new StartError("tls_unusable", message, { cause });
}
