/**
 * The witness: cosigns a log's checkpoint once it is proved to extend the one it cosigned before (C2SP tlog-witness).
 */
import { type Checkpoint, CheckpointError, parseCheckpoint } from "@tallystick/core/checkpoint";
import type { Cosigner } from "@tallystick/core/cosignature";
import { formatNote, formatSignature, type Note, NoteError, openNote } from "@tallystick/core/note";
import { ProofError, verifyConsistency } from "@tallystick/core/proof";
import { emptyRoot } from "@tallystick/core/tree";
import type { LogKeys } from "./log-keys.ts";
import { type AddCheckpoint, parseAddCheckpoint, RequestError } from "./request.ts";
import type { Conflict, WitnessState } from "./state.ts";

/** What a request is answered. */
export interface Answer {
  readonly status: 200 | 400 | 403 | 404 | 409 | 422;
  /** `text/x.tlog.size`: the body is the size that was cosigned last. */
  readonly contentType: "text/plain; charset=utf-8" | "text/x.tlog.size";
  readonly body: string;
}

/** Where the witness says what happens; pino's loggers are such. */
export interface WitnessLog {
  info(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

export interface WitnessParts {
  readonly cosigner: Cosigner;
  readonly logs: LogKeys;
  readonly state: WitnessState;
  readonly log: WitnessLog;
  /** POSIX seconds. */
  readonly now: () => number;
}

/**
 * Checkpoints with a wrong proof that are told of in a minute, each with both notes: strangers can send them at will, and must not
 * fill the disk. That there were more is told once a minute, and the newest are kept (`MAX_CONFLICTS`).
 */
const MAX_ALARMS_A_MINUTE = 20;

export class Witness {
  readonly #parts: WitnessParts;
  /** By origin, of the minute that goes on. */
  readonly #alarms = new Map<string, { minute: number; count: number }>();

  constructor(parts: WitnessParts) {
    this.#parts = parts;
  }

  /**
   * Answers a body of add-checkpoint. What it says is on disk before it returns. Throws when the state cannot be read or
   * written; then nothing may be answered but an error.
   */
  addCheckpoint(body: Uint8Array): Answer {
    try {
      const request = parseAddCheckpoint(body);
      const opened = this.#open(request.note, request.checkpoint);
      if (!("checkpoint" in opened)) return opened;
      const { note, checkpoint } = opened;
      if (request.oldSize > checkpoint.size) {
        throw new RequestError(`the old size ${request.oldSize} is above the checkpoint's, ${checkpoint.size}`);
      }
      return this.#cosign(request, note, checkpoint);
    } catch (error) {
      if (error instanceof RequestError || error instanceof CheckpointError) return text(400, error.message);
      throw error;
    }
  }

  /** The checkpoint that a log's key signed, and its note with the log's signatures alone; or why there is none. */
  #open(unverified: Note, checkpoint: string): { note: Note; checkpoint: Checkpoint } | Answer {
    const origin = unverified.text.slice(0, unverified.text.indexOf("\n"));
    const keys = this.#parts.logs.get(origin);
    if (keys === undefined) return text(404, "the checkpoint is of a log that this witness does not know");
    try {
      const note = openNote(checkpoint, keys);
      return { note, checkpoint: parseCheckpoint(note.text) };
    } catch (error) {
      if (!(error instanceof NoteError)) throw error;
      return text(403, `the checkpoint is not signed by a key this witness trusts for the log: ${error.message}`);
    }
  }

  #cosign(request: AddCheckpoint, note: Note, checkpoint: Checkpoint): Answer {
    const { state, cosigner, log, now } = this.#parts;
    const { origin, size, root } = checkpoint;
    const decision = state.transaction((): { answer: Answer; conflict?: Conflict } => {
      const last = state.cosigned(origin);
      const { size: lastSize, root: lastRoot } = last ?? { size: 0, root: emptyRoot() };
      const conflict = (kind: Conflict["kind"]): { conflict?: Conflict } => {
        // Whoever has signed nothing yet contradicts nobody.
        if (last === undefined) return {};
        const found = { origin, kind, size, root, note: formatNote(note), keptNote: last.note, seenAt: now() };
        return state.keepConflict(found) ? { conflict: found } : {};
      };
      // Looked at first: two roots at one size are proof against the log, whatever its request believes.
      if (size === lastSize && !equalBytes(root, lastRoot)) {
        return { answer: sizeOf(lastSize), ...conflict("same_size") };
      }
      if (request.oldSize !== lastSize) return { answer: sizeOf(lastSize) };
      try {
        const { oldSize, proof } = request;
        verifyConsistency({ oldSize, newSize: size, oldRoot: lastRoot, newRoot: root, proof });
      } catch (error) {
        if (!(error instanceof ProofError)) throw error;
        const answer = text(422, `the proof from ${lastSize} to ${size} does not verify: ${error.message}`);
        // One of the wrong length proves nothing about any tree: a mistake of the sender's.
        return error.code === "proof_length" ? { answer } : { answer, ...conflict("no_proof") };
      }
      // Signed inside the transaction: a time taken after another process cosigned a larger tree would be a false statement.
      // A clock that was set back must not make the witness say that the larger tree came first.
      const time = Math.max(now(), last?.time ?? 0);
      state.setCosigned(origin, { size, root, time, note: formatNote(note) });
      return { answer: text(200, formatSignature(cosigner.cosign(note.text, time)).trimEnd()) };
    });
    if (decision.conflict !== undefined) this.#report(decision.conflict);
    if (decision.answer.status === 200) log.info({ origin, size }, "cosigned");
    return decision.answer;
  }

  #report({ origin, kind, size, note, keptNote, seenAt }: Conflict): void {
    const { log } = this.#parts;
    const facts = { origin, size, checkpoint: note, cosigned_before: keptNote };
    if (kind === "same_size") {
      log.error(facts, `THE LOG SHOWS TWO HISTORIES: ${origin} signed two roots at size ${size}`);
      return;
    }
    const minute = Math.floor(seenAt / 60);
    const before = this.#alarms.get(origin);
    const count = before?.minute === minute ? before.count + 1 : 1;
    this.#alarms.set(origin, { minute, count });
    if (count <= MAX_ALARMS_A_MINUTE) {
      log.error(facts, `the log may show two histories: ${origin} sent size ${size} with a proof that leads elsewhere`);
    } else if (count === MAX_ALARMS_A_MINUTE + 1) {
      const what =
        "the log may show two histories: more checkpoints with proofs that lead elsewhere came in this minute";
      log.error({ origin }, `${what} than are told of; GET /conflicts has the newest`);
    }
  }
}

function text(status: Answer["status"], line: string): Answer {
  return { status, contentType: "text/plain; charset=utf-8", body: `${line}\n` };
}

function sizeOf(size: number): Answer {
  return { status: 409, contentType: "text/x.tlog.size", body: `${size}\n` };
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
