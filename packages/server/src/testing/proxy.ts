/**
 * A TCP proxy between a server and PostgreSQL, for what networks do.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** `pass`, or how a connection meets a network that does not. */
export type ProxyMode = "pass" | "refuse" | "hang";

export class TcpProxy {
  readonly #server: Server;
  readonly #target: { host: string; port: number };
  readonly #sockets = new Set<Socket>();
  #mode: ProxyMode = "pass";
  /** Asked of each piece that the server sends; true cuts the connection once PostgreSQL has answered it. */
  #cutAfter: ((sent: Buffer) => boolean) | undefined;
  #cuts = 0;

  private constructor(server: Server, target: { host: string; port: number }) {
    this.#server = server;
    this.#target = target;
    server.on("connection", (socket) => this.#join(socket));
  }

  /** A proxy in front of the database that `url` names. */
  static async to(url: string): Promise<TcpProxy> {
    const { hostname, port } = new URL(url);
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new TcpProxy(server, { host: hostname, port: Number(port) });
  }

  /** `url`, by way of the proxy. */
  through(url: string): string {
    const other = new URL(url);
    other.hostname = "127.0.0.1";
    other.port = String((this.#server.address() as AddressInfo).port);
    return other.href;
  }

  /** `refuse` ends every connection and each new one at once; `hang` keeps them and passes nothing on. */
  set(mode: ProxyMode): void {
    this.#mode = mode;
    if (mode === "refuse") for (const socket of this.#sockets) socket.resetAndDestroy();
    for (const socket of this.#sockets) {
      if (mode === "hang") socket.pause();
      if (mode === "pass") socket.resume();
    }
  }

  /**
   * Cuts each connection on which the server sends something that `isIt`, at the moment PostgreSQL begins to answer, and
   * keeps the answer back: for COMMIT, it is then done and the server does not know.
   */
  cutAnswersTo(isIt: ((sent: Buffer) => boolean) | undefined): void {
    this.#cutAfter = isIt;
  }

  /** Connections that {@link cutAnswersTo} has cut. */
  get cuts(): number {
    return this.#cuts;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(near: Socket): void {
    if (this.#mode === "refuse") {
      near.on("error", () => {});
      near.resetAndDestroy();
      return;
    }
    const far = connect(this.#target);
    let cutNext = false;
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one);
      one.setNoDelay(true);
      if (this.#mode === "hang") one.pause();
      one.on("error", () => other.destroy());
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    near.on("data", (chunk: Buffer) => {
      cutNext ||= this.#cutAfter?.(chunk) === true;
      far.write(chunk);
    });
    far.on("data", (chunk: Buffer) => {
      if (!cutNext) {
        near.write(chunk);
        return;
      }
      // The tag of the answer to COMMIT says that it is done; what came before it belongs to earlier statements.
      if (!chunk.includes("COMMIT\0")) return;
      this.#cuts++;
      near.resetAndDestroy();
    });
  }
}
