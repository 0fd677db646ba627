/**
 * From a published checkpoint to a witness's cosignature: tells it what it does not know yet, with the proof from what it does.
 */
import { toHex } from "@tallystick/core/hex";
import type { SignedCheckpoint } from "./published.ts";
import { type CosignRequest, type WitnessAnswer, WitnessFault } from "./witness-request.ts";

/** A checkpoint that a witness has cosigned. */
export interface Cosigned {
  readonly checkpoint: SignedCheckpoint;
  /** The signature line, without its newline. */
  readonly line: string;
  /** By the witness's clock, in POSIX seconds. */
  readonly time: number;
}

export interface Dialogue {
  ask(request: CosignRequest): Promise<WitnessAnswer>;
  /** The proof from an older tree to the checkpoint's; throws where the stored hashes do not give the signed root. */
  prove(oldSize: number, checkpoint: SignedCheckpoint): Promise<readonly Uint8Array[]>;
  /** The newest published checkpoint, by whichever server. */
  newest(): Promise<SignedCheckpoint | undefined>;
  /** Told when the witness says it has cosigned less than it did before. */
  wentBack(from: number, to: number): void;
}

// The first is for what we remember, the second for what it answers; more only where another server is faster than we are.
const ATTEMPTS = 4;

/**
 * Gets this checkpoint cosigned, or a newer one that another server has published meanwhile.
 *
 * @param oldSize what the witness is known to have cosigned last; 0 where that is not known.
 * @throws {WitnessFault}; what `prove` and `newest` throw.
 */
export async function haveCosigned(dialogue: Dialogue, first: SignedCheckpoint, oldSize: number): Promise<Cosigned> {
  let checkpoint = first;
  let old = Math.min(oldSize, checkpoint.size);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { size, note } = checkpoint;
    const proof = old === 0 || old === size ? [] : await dialogue.prove(old, checkpoint);
    const answer = await dialogue.ask({ oldSize: old, proof, note });
    if (answer.kind === "cosigned") return { checkpoint, line: answer.line, time: answer.time };
    if (answer.kind === "unproved") {
      if (old === 0) throw new WitnessFault("invalid", "it answered 422 where no proof is needed");
      throw conflict(
        old,
        checkpoint,
        `another root at size ${old} than this log has: the proof from there was verified here`,
      );
    }
    if (answer.size === old) {
      if (old === size) throw conflict(old, checkpoint, `another root at size ${size}`);
      throw new WitnessFault("invalid", `it answered 409 and ${old}, the size it was asked with`);
    }
    if (answer.size > size) {
      // Another server of this log may be ahead of us. What no server has published, the witness cannot have from us.
      const newest = await dialogue.newest();
      if (newest === undefined || newest.size < answer.size) {
        throw conflict(answer.size, newest ?? checkpoint, "a larger log than this one");
      }
      checkpoint = newest;
    } else if (answer.size < oldSize && attempt === 0) {
      dialogue.wentBack(oldSize, answer.size);
    }
    old = answer.size;
  }
  throw new WitnessFault("invalid", `it named another size in each of ${ATTEMPTS} answers`);
}

function conflict(theirSize: number, ours: SignedCheckpoint, what: string): WitnessFault {
  return new WitnessFault(
    "conflict",
    `it has cosigned size ${theirSize}; published here is size ${ours.size} with root ${toHex(ours.root)}; it saw ${what}`,
  );
}
