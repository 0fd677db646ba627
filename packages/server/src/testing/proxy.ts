/**
 * A TCP proxy between a server and PostgreSQL, for what networks do.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** `refuse` ends every connection, and each new one at once. */
export type ProxyMode = "pass" | "refuse";

export type CutWhen = "answered" | "sent";

export class TcpProxy {
  readonly #server: Server;
  readonly #target: { host: string; port: number };
  readonly #sockets = new Set<Socket>();
  #mode: ProxyMode = "pass";
  #cut: { isIt: (sent: Buffer) => boolean; when: CutWhen; afterwards: ProxyMode } | undefined;
  #cuts = 0;
  #refused = 0;

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

  set(mode: ProxyMode): void {
    this.#mode = mode;
    if (mode === "refuse") for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /**
   * Cuts the next connection on which the server sends something that `isIt`, and only that one. `answered`: when PostgreSQL
   * has answered COMMIT, whose answer is kept back: it is done, and the server does not know. `sent`: before PostgreSQL gets it.
   * The proxy is in the mode `afterwards` from then on.
   */
  cutOnce(when: CutWhen, isIt: (sent: Buffer) => boolean, afterwards: ProxyMode = "pass"): void {
    this.#cut = { isIt, when, afterwards };
  }

  /** Connections that {@link cutOnce} has cut. */
  get cuts(): number {
    return this.#cuts;
  }

  /** Connections that were refused as they came. */
  get refused(): number {
    return this.#refused;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(near: Socket): void {
    if (this.#mode === "refuse") {
      this.#refused++;
      near.on("error", () => {});
      near.resetAndDestroy();
      return;
    }
    const far = connect(this.#target);
    // From when it is set, nothing of what PostgreSQL answers is passed on.
    let waitsForCommit: { readonly afterwards: ProxyMode } | undefined;
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one);
      one.setNoDelay(true);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    const cut = (afterwards: ProxyMode) => {
      this.#cuts++;
      near.resetAndDestroy();
      this.set(afterwards);
    };
    near.on("data", (chunk: Buffer) => {
      const asked = this.#cut?.isIt(chunk) ? this.#cut : undefined;
      if (asked !== undefined) this.#cut = undefined;
      if (asked?.when === "sent") {
        cut(asked.afterwards);
        return;
      }
      waitsForCommit ??= asked;
      far.write(chunk);
    });
    far.on("data", (chunk: Buffer) => {
      if (waitsForCommit === undefined) near.write(chunk);
      else if (chunk.includes("COMMIT\0")) cut(waitsForCommit.afterwards);
    });
  }
}
