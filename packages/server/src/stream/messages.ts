/**
 * What a stream says, and how: the same messages as server-sent events and on a WebSocket.
 */
import { lazyLineOf } from "@tallystick/core/entry-text";
import { toHex } from "@tallystick/core/hex";
import type { Entry } from "../log/reader.ts";

/** How a stream is carried. */
export type Carrier = "sse" | "websocket";

/** Why a stream ends. Those of a credential are named as its refusals are. */
export type EndReason =
  /** The server stops: another one, or this one in a moment, goes on. */
  | "server_stopping"
  /** The log has been succeeded by another, and all of it has been sent. */
  | "log_succeeded"
  /** All that was there when it was asked for has been sent, and no more was wanted. */
  | "end_of_log"
  /** The client took nothing for too long. */
  | "stalled"
  /** The server failed; its log says why. */
  | "failed"
  /** The credential is good no more, or may no longer do this: `api_key_revoked`, `jwt_expired`, `scope_missing` and others. */
  | (string & {});

export type Message =
  /** Everything before this position has been considered: where to go on from after a lost connection. */
  | { readonly type: "heartbeat"; readonly seq: number }
  /** The client was too slow for what is kept for it: what follows is read from the log, from here on. */
  | { readonly type: "lagging"; readonly seq: number; readonly behind: number }
  /** The last one. */
  | { readonly type: "end"; readonly reason: EndReason; readonly detail: string; readonly seq: number };

/** An entry as lists have it. */
function entryText({ id, seq, recordedAt, leafHash, opened }: Entry): string {
  const { service, event } = opened;
  return JSON.stringify({ id, seq, recorded_at: recordedAt, leaf_hash: toHex(leafHash), service, event });
}

/** An entry on its way to any number of clients: its texts are made when the first of them wants one, once for all of them. */
export class Item {
  readonly entry: Entry;
  /** What free words are looked for in. */
  readonly line: () => string;
  #json: string | undefined;
  readonly #bytes: { [carrier in Carrier]?: Buffer } = {};

  constructor(entry: Entry) {
    this.entry = entry;
    this.line = lazyLineOf(entry.opened.event);
  }

  /** The message for a carrier. */
  for(carrier: Carrier): Buffer {
    const known = this.#bytes[carrier];
    if (known !== undefined) return known;
    this.#json ??= entryText(this.entry);
    const bytes = Buffer.from(
      carrier === "sse"
        ? `id: ${this.entry.seq}\nevent: entry\ndata: ${this.#json}\n\n`
        : `{"type":"entry","entry":${this.#json}}`,
    );
    this.#bytes[carrier] = bytes;
    return bytes;
  }
}

/** Any other message for a carrier. */
export function messageFor(carrier: Carrier, message: Message): Buffer {
  if (carrier === "websocket") return Buffer.from(JSON.stringify(message));
  const { type, ...data } = message;
  // What an EventSource sends as Last-Event-ID is the last position it need not have again, whether or not an entry of it was sent.
  return Buffer.from(`id: ${message.seq - 1}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
}
