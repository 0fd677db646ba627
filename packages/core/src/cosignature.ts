/**
 * Cosignatures: a witness's statement that, at a time, this was the largest checkpoint of the log it had seen, and that it
 * extends all it saw before (C2SP tlog-cosignature, Ed25519, `cosignature/v1`).
 */
import { verify as verifyEd25519 } from "#ed25519";
import { Ed25519Error } from "./ed25519.rules.ts";
import { byIdentity, formatNote, identity, NoteError, type NoteSignature, parseNote } from "./note.ts";
import { type CosignerKey, cosignerKey, seedSigner } from "./verifier-key.ts";

const TIME_BYTES = 8;
const utf8 = new TextEncoder();

/** A cosignature that was verified. */
export interface Cosignature {
  /** The witness's. */
  readonly name: string;
  /** When the witness says it signed, in POSIX seconds. */
  readonly time: number;
}

/** A cosignature that was verified, and the key that vouches for it. */
export interface KeyedCosignature extends Cosignature {
  readonly key: CosignerKey;
}

/** A witness's private key. */
export interface Cosigner {
  readonly key: CosignerKey;
  /**
   * Cosigns a checkpoint's text, its final newline included, as of `time` in POSIX seconds.
   * Throws {@link NoteError} `bad_time` unless `time` is an integer from 0 to 2^53 - 1.
   */
  cosign(text: string, time: number): NoteSignature;
}

/**
 * Prepares an Ed25519 private key, given as its 32-byte seed, to cosign as `name`. What is signed does not name the witness:
 * a key must serve one name only. Throws {@link NoteError} `bad_name` or `bad_key`.
 */
export function cosigner(name: string, seed: Uint8Array): Cosigner {
  const signer = seedSigner(name, seed);
  const key = cosignerKey(name, signer.publicKey);
  return {
    key,
    cosign(text, time) {
      if (!Number.isSafeInteger(time) || time < 0) throw new NoteError("bad_time", `${time} is no time in seconds`);
      const signature = new Uint8Array(TIME_BYTES + 64);
      new DataView(signature.buffer).setBigUint64(0, BigInt(time));
      signature.set(signer.sign(messageOf(text, time)), TIME_BYTES);
      return { name, keyId: key.keyId, signature };
    },
  };
}

/** The checkpoint's note with one more signature, after those it has. Throws {@link NoteError} as `parseNote`. */
export function addSignature(note: string, signature: NoteSignature): string {
  const { text, signatures } = parseNote(note);
  return formatNote({ text, signatures: [...signatures, signature] });
}

/**
 * Checks a witness's signature line over a checkpoint's text. Throws {@link NoteError}: `bad_key` for another type of key,
 * `no_known_signature` when another key made it, `bad_signature` when it does not verify or has not 72 bytes, `bad_time`
 * for a time beyond 2^53 - 1. C2SP forbids those beyond 2^63 - 1 and leaves it to verifiers to refuse a future.
 */
export function verifyCosignature(text: string, by: NoteSignature, key: CosignerKey): Cosignature {
  if (!byIdentity([key], 0x04).has(identity(by))) {
    throw new NoteError("no_known_signature", `the cosignature is by ${identity(by)}, not ${identity(key)}`);
  }
  if (by.signature.length !== TIME_BYTES + 64) {
    throw new NoteError("bad_signature", `a cosignature has 72 bytes, got ${by.signature.length}`);
  }
  const { buffer, byteOffset } = by.signature;
  const time = Number(new DataView(buffer, byteOffset).getBigUint64(0));
  if (!Number.isSafeInteger(time)) throw new NoteError("bad_time", `the cosignature by ${key.name} is of no real time`);
  try {
    verifyEd25519(messageOf(text, time), by.signature.subarray(TIME_BYTES), key.publicKey);
  } catch (cause) {
    if (!(cause instanceof Ed25519Error)) throw cause;
    throw new NoteError("bad_signature", `the cosignature by ${identity(key)} is wrong`, { cause });
  }
  return { name: key.name, time };
}

/**
 * The cosignatures that `keys` made on a checkpoint, in the note's order; there may be none, and several by one key. What
 * other keys signed, the log included, is left out, checked by nobody. Throws {@link NoteError} as `parseNote` and
 * {@link verifyCosignature}, whatever the other signatures are; `ambiguous_key` when two of `keys` have one name and id.
 */
export function openCosignatures(note: string | Uint8Array, keys: readonly CosignerKey[]): KeyedCosignature[] {
  const byName = byIdentity(keys, 0x04);
  const { text, signatures } = parseNote(note);
  return signatures.flatMap((signature) => {
    const key = byName.get(identity(signature));
    return key === undefined ? [] : [{ ...verifyCosignature(text, signature, key), key }];
  });
}

function messageOf(text: string, time: number): Uint8Array {
  return utf8.encode(`cosignature/v1\ntime ${time}\n${text}`);
}
