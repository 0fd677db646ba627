/**
 * A log for the witness to watch, and what a log does with a witness.
 */

import { toBase64 } from "@tallystick/core/base64";
import { parseCheckpoint, signCheckpoint } from "@tallystick/core/checkpoint";
import { openCosignatures } from "@tallystick/core/cosignature";
import { consistencyProof, type HashReader, rootFrom } from "@tallystick/core/prover";
import { leafHash, nodeHash } from "@tallystick/core/tree";
import { noteSigner, parseCosignerKey } from "@tallystick/core/verifier-key";

export const ORIGIN = "log.example/orders";
export const signer = noteSigner(ORIGIN, new Uint8Array(32).fill(1));

/** A history: leaves are made by rule, other ones from `forkAt` on where it has another name. */
export class TestLog {
  readonly #hash: HashReader;

  constructor(name = "main", forkAt = Number.POSITIVE_INFINITY) {
    const known = new Map<string, Uint8Array>();
    this.#hash = (height, index) => {
      if (height === 0) return leafHash(index >= forkAt ? `${name} ${index}` : `${index}`);
      const key = `${height}/${index}`;
      let hash = known.get(key);
      if (hash === undefined) {
        hash = nodeHash(this.#hash(height - 1, 2 * index), this.#hash(height - 1, 2 * index + 1));
        known.set(key, hash);
      }
      return hash;
    };
  }

  root(size: number): Uint8Array {
    return rootFrom(size, this.#hash);
  }

  checkpoint(size: number): string {
    return signCheckpoint({ origin: ORIGIN, size, root: this.root(size) }, [signer]);
  }

  /** Base64 lines. */
  proof(oldSize: number, newSize: number): string[] {
    return consistencyProof(oldSize, newSize, this.#hash).map(toBase64);
  }

  /** The body of add-checkpoint. Where the log is shorter than the witness says, an empty proof has to do. */
  body(oldSize: number, newSize: number): string {
    const proof = oldSize <= newSize ? this.proof(oldSize, newSize) : [];
    return bodyOf(oldSize, proof, this.checkpoint(newSize));
  }
}

export function bodyOf(oldSize: number | string, proof: readonly string[], checkpoint: string): string {
  return [`old ${oldSize}`, ...proof, "", checkpoint].join("\n");
}

export interface Answered {
  readonly status: number;
  readonly contentType: string | null;
  readonly body: string;
}

export async function submit(url: string, body: string | Uint8Array<ArrayBuffer>): Promise<Answered> {
  const response = await fetch(`${url}/add-checkpoint`, { method: "POST", body });
  return { status: response.status, contentType: response.headers.get("content-type"), body: await response.text() };
}

/** The time in the witness's answer to a checkpoint, verified. */
export function timeOf(answered: Answered, checkpoint: string, vkey: string): number {
  const [cosignature, ...more] = openCosignatures(checkpoint + answered.body, [parseCosignerKey(vkey)]);
  if (cosignature === undefined || more.length > 0) throw new Error(`not one cosignature: ${answered.body}`);
  return cosignature.time;
}

export function headOf(note: string): { size: number; root: string } {
  const { size, root } = parseCheckpoint(note.slice(0, note.indexOf("\n\n") + 1));
  return { size, root: toBase64(root) };
}
