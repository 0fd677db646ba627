/**
 * The witness's private key: Ed25519, PKCS#8 PEM, readable by its owner alone.
 */
import { createPrivateKey, generateKeyPairSync, randomUUID } from "node:crypto";
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { WitnessError } from "./witness-error.ts";

/**
 * The 32-byte seed of the key in a file. With `mayMake`, a key is made where the file is missing: durably, and by one
 * only of several processes that start at once.
 * @throws {WitnessError} `key`.
 */
export function openKeyFile(path: string, { mayMake }: { mayMake: boolean }): Uint8Array {
  let pem = readIfThere(path);
  if (pem === undefined) {
    if (!mayMake) {
      throw refused(
        path,
        "is missing, but the state beside it is this key's: put it back, or start over with another --state",
      );
    }
    makeKeyFile(path);
    pem = readIfThere(path);
  }
  if (pem === undefined) throw refused(path, "was taken away while the witness started: start it again");
  try {
    const { crv, d } = createPrivateKey(pem).export({ format: "jwk" });
    if (crv !== "Ed25519" || d === undefined) throw new TypeError(`a key of type ${crv ?? "other than Ed25519"}`);
    return new Uint8Array(Buffer.from(d, "base64url"));
  } catch (cause) {
    const { message } = cause as Error;
    throw refused(path, `holds no Ed25519 private key in PKCS#8 PEM (${message}): put the right one there`, cause);
  }
}

function readIfThere(path: string): string | undefined {
  try {
    const mode = statSync(path).mode & 0o777;
    if ((mode & 0o077) !== 0) {
      throw refused(
        path,
        `is open to other users (mode ${mode.toString(8)}): chmod 600 it, or make a new key if they may have read it`,
      );
    }
    return readFileSync(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    if (cause instanceof WitnessError) throw cause;
    throw refused(path, `cannot be read (${(cause as Error).message}): give this user the right to`, cause);
  }
}

function makeKeyFile(path: string): void {
  const pem = generateKeyPairSync("ed25519").privateKey.export({ format: "pem", type: "pkcs8" });
  const draft = `${path}.${randomUUID()}`;
  try {
    // Flushed before it has its name: after a power cut there is the whole key or none.
    writeFileSync(draft, pem, { mode: 0o600, flag: "wx", flush: true });
    linkSync(draft, path); // unlike rename(), never in place of another's
  } catch (cause) {
    // Another start was faster; its key counts.
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") {
      throw refused(path, `cannot be made (${(cause as Error).message}): give this user the right to`, cause);
    }
  } finally {
    rmSync(draft, { force: true });
  }
  // A key that a power cut could take away after its first signature would leave cosignatures that nobody can repeat.
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

function refused(path: string, what: string, cause?: unknown): WitnessError {
  return new WitnessError("key", `the witness's key ${path} ${what}`, { cause });
}
