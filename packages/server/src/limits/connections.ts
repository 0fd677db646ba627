/**
 * Connections: how many there may be, of all addresses and of one, and an end to those whose client takes nothing of its answer.
 */
import type { Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { sourceName } from "../access/source.ts";

export interface ConnectionLimits {
  /** Beyond these, new ones are closed at once. */
  readonly maxConnections: number;
  /** The same for one address, of IPv6 for one /64; 0 is no limit. */
  readonly maxConnectionsPerAddress: number;
  /** Ends a connection whose client has taken nothing of an answer that waits for it, in ms. */
  readonly stalledTimeoutMs: number;
  /** Addresses with no limit of their own, as a proxy's: all clients behind it are one address. */
  readonly isProxy?: (address: string | undefined) => boolean;
}

/** To be called before the server listens. */
export function limitConnections(server: Server, limits: ConnectionLimits): void {
  const { maxConnections, maxConnectionsPerAddress, stalledTimeoutMs, isProxy = () => false } = limits;
  server.maxConnections = maxConnections;
  if (maxConnectionsPerAddress > 0) {
    const counts = new Map<string, number>();
    server.on("connection", (socket: Socket) => {
      const address = socket.remoteAddress;
      if (address === undefined || isProxy(address)) return;
      const source = sourceName(address);
      const count = (counts.get(source) ?? 0) + 1;
      counts.set(source, count);
      socket.once("close", () => {
        const left = counts.get(source)! - 1;
        if (left === 0) counts.delete(source);
        else counts.set(source, left);
      });
      if (count > maxConnectionsPerAddress) socket.destroy();
    });
  }
  server.timeout = stalledTimeoutMs;
  // Nothing was sent or taken for a while. Node would cut it, also where the answer is still being worked on.
  server.on("timeout", (socket) => {
    const { _httpMessage: answer } = socket as { _httpMessage?: ServerResponse | null };
    const isIdle = answer === undefined || answer === null;
    if (isIdle || socket.writableLength > 0) socket.destroy();
  });
}
