/**
 * One request to a witness (C2SP tlog-witness, add-checkpoint). Nothing that it answers is believed before it is verified.
 */
import { toBase64 } from "@tallystick/core/base64";
import { verifyCosignature } from "@tallystick/core/cosignature";
import { formatSignature, identity, type NoteSignature, parseNote } from "@tallystick/core/note";
import type { CosignerKey } from "@tallystick/core/verifier-key";

/** A witness that checkpoints are sent to. */
export interface WitnessAddress {
  /** Submission prefix, without a slash at the end. */
  readonly url: string;
  readonly key: CosignerKey;
}

/** What a witness is asked. */
export interface CosignRequest {
  /** What it is believed to have cosigned last. */
  readonly oldSize: number;
  /** 32-byte hashes; empty from size 0. */
  readonly proof: readonly Uint8Array[];
  /** The checkpoint, signed by the log. */
  readonly note: string;
}

/**
 * What a witness may answer:
 * - `cosigned`: a cosignature, which verifies
 * - `size`: the size that it says it cosigned last, which is not the one it was asked with, or has another root (409)
 * - `unproved`: the proof does not lead from what it cosigned last to the checkpoint (422)
 */
export type WitnessAnswer =
  | {
      readonly kind: "cosigned";
      /** The signature line, without its newline. */
      readonly line: string;
      /** By the witness's clock, in POSIX seconds. */
      readonly time: number;
    }
  | { readonly kind: "size"; readonly size: number }
  | { readonly kind: "unproved" };

/**
 * Why there is no cosignature:
 * - `silent`: no answer in time, or one that says the witness itself is in trouble
 * - `refused`: it will not cosign this log, or as it is asked
 * - `invalid`: its answer is none that the protocol has, or the cosignature is not by its key, or wrong
 * - `conflict`: it has cosigned what this log does not extend
 */
export class WitnessFault extends Error {
  override readonly name = "WitnessFault";
  readonly code: "silent" | "refused" | "invalid" | "conflict";

  constructor(code: WitnessFault["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Room for as many signature lines as a note may have. */
const MAX_ANSWER_BYTES = 65_536;
/** A witness whose clock is further ahead says nothing about time; a later one that is right would seem to go back. */
const MAX_AHEAD_SECONDS = 86_400;
const SHOWN_LENGTH = 200;

/**
 * Asks for a cosignature. Ends when `signal` does.
 * @throws {WitnessFault} `silent`, `refused`, `invalid`.
 */
export async function askWitness(
  { url, key }: WitnessAddress,
  request: CosignRequest,
  signal: AbortSignal,
): Promise<WitnessAnswer> {
  const lines = [`old ${request.oldSize}`, ...request.proof.map(toBase64), "", request.note];
  const { status, contentType, body } = await post(`${url}/add-checkpoint`, lines.join("\n"), signal);
  if (status === 200) return { kind: "cosigned", ...cosignatureIn(body, request.note, key) };
  if (status === 409) return { kind: "size", size: sizeIn(body, contentType) };
  if (status === 422) return { kind: "unproved" };
  const said = `it answered ${status}${shown(body)}`;
  if (status === 429 || status >= 500) throw new WitnessFault("silent", said);
  if (status === 404) {
    throw new WitnessFault("refused", `it does not know this log: give its operator the log's verifier key (${said})`);
  }
  throw new WitnessFault(status >= 400 ? "refused" : "invalid", said);
}

async function post(url: string, body: string, signal: AbortSignal) {
  try {
    const headers = { "content-type": "text/plain; charset=utf-8" };
    // A redirect is shown rather than followed: who is asked is the operator's choice alone.
    const response = await fetch(url, { method: "POST", headers, body, signal, redirect: "manual" });
    const contentType = response.headers.get("content-type") ?? "";
    return { status: response.status, contentType, body: await bodyOf(response) };
  } catch (cause) {
    if (cause instanceof WitnessFault) throw cause;
    throw new WitnessFault("silent", signal.aborted ? "it did not answer in time" : reasonOf(cause), { cause });
  }
}

async function bodyOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    // Leaving the loop ends the connection: nobody reads what is still to come.
    if (length > MAX_ANSWER_BYTES) throw new WitnessFault("invalid", `its answer has over ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** fetch() says "fetch failed", and why in its cause. */
function reasonOf(error: unknown): string {
  const { cause = error } = error as { cause?: unknown };
  const { code, message } = cause as { code?: string; message?: string };
  return `there was no answer (${code ?? message})`;
}

/** The line by `key`; what other keys signed is ignored, as C2SP has it. */
function cosignatureIn(body: string, note: string, key: CosignerKey): { line: string; time: number } {
  let signature: NoteSignature | undefined;
  let time: number;
  try {
    const { text } = parseNote(note);
    const { signatures } = parseNote(`${text}\n${body}`);
    signature = signatures.find((one) => identity(one) === identity(key));
    if (signature === undefined) throw new Error(`it is by ${signatures.map(identity).join(", ")}`);
    ({ time } = verifyCosignature(text, signature, key));
  } catch (cause) {
    const why = (cause as Error).message;
    throw new WitnessFault("invalid", `its answer is no cosignature by ${identity(key)}: ${why}`, { cause });
  }
  if (time === 0 || time > Date.now() / 1000 + MAX_AHEAD_SECONDS) {
    throw new WitnessFault("invalid", `its cosignature is of ${time} s since 1970: its clock is wrong`);
  }
  return { line: formatSignature(signature).trimEnd(), time };
}

function sizeIn(body: string, contentType: string): number {
  const size = /^(0|[1-9][0-9]{0,15})\n$/.test(body) ? Number(body) : Number.NaN;
  if (Number.isSafeInteger(size) && /^text\/x\.tlog\.size\s*(;|$)/i.test(contentType)) return size;
  throw new WitnessFault("invalid", `it answered 409 without the size it cosigned last${shown(body)}`);
}

/** What a stranger says, fit for a log and short. */
function shown(body: string): string {
  const line = body.replaceAll(/[^\x20-\x7e]+/g, " ").trim();
  return line === "" ? "" : `: ${line.slice(0, SHOWN_LENGTH)}`;
}
