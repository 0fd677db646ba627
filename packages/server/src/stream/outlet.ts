/**
 * The way to one client, by either carrier: what waits for it is counted, and nothing is lost unnoticed.
 */
import type { ServerResponse } from "node:http";
import type { WebSocket } from "ws";
import type { Carrier } from "./messages.ts";

/** Sends a piece; calls back once it is with the operating system, or will never be. */
type Send = (piece: Buffer, onSent: () => void) => void;

/** Status codes of a WebSocket's end (RFC 6455 section 7.4.1). */
const CLOSE = { normal: 1000, away: 1001, policy: 1008 } as const;
export type CloseCode = keyof typeof CLOSE;

export class Outlet {
  readonly carrier: Carrier;
  /** Resolves once the connection is gone, whoever ended it. */
  readonly closed: Promise<void>;
  readonly #send: Send;
  readonly #finish: (code: CloseCode) => void;
  readonly #destroy: () => void;
  #waiting = 0;
  #isClosed = false;
  #progressMs = performance.now();
  #onEmpty: (() => void)[] = [];

  private constructor(
    carrier: Carrier,
    way: { send: Send; finish: (code: CloseCode) => void; destroy: () => void; closed: Promise<void> },
  ) {
    this.carrier = carrier;
    this.#send = way.send;
    this.#finish = way.finish;
    this.#destroy = way.destroy;
    this.closed = way.closed.then(() => {
      this.#isClosed = true;
      this.#emptied();
    });
  }

  /** An answer whose head has been written. */
  static sse(response: ServerResponse): Outlet {
    return new Outlet("sse", {
      send: (piece, onSent) => response.write(piece, onSent),
      finish: () => response.end(),
      destroy: () => response.destroy(),
      closed: new Promise((resolve) => response.once("close", resolve)),
    });
  }

  static webSocket(socket: WebSocket): Outlet {
    return new Outlet("websocket", {
      send: (piece, onSent) => socket.send(piece, { binary: false }, onSent),
      finish: (code) => socket.close(CLOSE[code]),
      destroy: () => socket.terminate(),
      closed: new Promise((resolve) => socket.once("close", () => resolve())),
    });
  }

  /** Bytes that the operating system has not taken yet. */
  get waiting(): number {
    return this.#waiting;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** For how long nothing of what waits has been taken, in ms; 0 where nothing waits. */
  get stalledMs(): number {
    return this.#waiting === 0 ? 0 : performance.now() - this.#progressMs;
  }

  /** Sends a message behind all before it. What a closed connection is given goes nowhere. */
  write(message: Buffer): void {
    if (this.#isClosed) return;
    if (this.#waiting === 0) this.#progressMs = performance.now();
    this.#waiting += message.length;
    this.#send(message, () => {
      this.#waiting -= message.length;
      this.#progressMs = performance.now();
      if (this.#waiting === 0) this.#emptied();
    });
  }

  /** Resolves once nothing waits, or the connection is gone. */
  emptied(): Promise<void> {
    if (this.#waiting === 0 || this.#isClosed) return Promise.resolve();
    return new Promise((resolve) => this.#onEmpty.push(resolve));
  }

  /** Ends the connection behind what waits. */
  finish(code: CloseCode): void {
    if (!this.#isClosed) this.#finish(code);
  }

  /** Ends it at once. */
  destroy(): void {
    this.#destroy();
  }

  #emptied(): void {
    const resolves = this.#onEmpty;
    this.#onEmpty = [];
    for (const resolve of resolves) resolve();
  }
}
