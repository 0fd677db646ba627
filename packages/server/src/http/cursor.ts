/**
 * Cursors: where a list goes on, as text that only a server of this installation can make.
 */
import { hash } from "node:crypto";
import { type ReplaySecret, replayHash } from "../log/replay-hash.ts";

/** A place in a list, and the list that it belongs to. */
export interface Cursor {
  readonly logId: number;
  /** Of the filter and the order (see {@link listHash}): a cursor goes on in its own list only. */
  readonly list: string;
  /** `next`: behind the entry at `seq`, in the order of the list; `prev`: before it. */
  readonly towards: "next" | "prev";
  readonly seq: number;
}

/** Identifies a list: what two requests must share for one's cursor to be the other's. */
export function listHash(asked: unknown): string {
  return hash("sha256", JSON.stringify(asked), "base64url").slice(0, 16);
}

const FORM = /^(\d{1,10})\.([\w-]{16})\.(next|prev)\.(\d{1,16})\.([0-9a-f]{16})$/;

export class Cursors {
  readonly #secret: ReplaySecret;

  /** @param secret the same on every server of the installation: the next page may be asked of any. */
  constructor(secret: ReplaySecret) {
    this.#secret = secret;
  }

  encode({ logId, list, towards, seq }: Cursor): string {
    const text = `${logId}.${list}.${towards}.${seq}`;
    return Buffer.from(`${text}.${this.#seal(text)}`).toString("base64url");
  }

  /** Undefined where the text is none of ours, or was changed. */
  decode(text: string): Cursor | undefined {
    const bytes = Buffer.from(text, "base64url");
    const match = FORM.exec(bytes.toString("latin1"));
    if (match === null || bytes.toString("base64url") !== text) return undefined;
    const [, logId, list, towards, seq, seal] = match;
    if (seal !== this.#seal(`${logId}.${list}.${towards}.${seq}`)) return undefined;
    return { logId: Number(logId), list: list!, towards: towards as Cursor["towards"], seq: Number(seq) };
  }

  /** Against mistakes rather than attacks: a place in one's own list is no secret. */
  #seal(text: string): string {
    return replayHash(this.#secret, `cursor\0${text}`).replaceAll("-", "").slice(0, 16);
  }
}
