/**
 * Clients that hold a server up: connections on which headers and bodies come byte by byte, opened again when they are cut, and
 * bodies of 100 MB one after the other.
 */
import { connect, type Socket } from "node:net";

export interface SlowJob {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** With half of them headers are slow, with the others bodies. */
  readonly slowConnections: number;
  /** Connections that send bodies of 100 MB. */
  readonly largeBodies: number;
}

/** What became of it so far. */
export interface SlowReport {
  readonly open: number;
  readonly cut: number;
  readonly refused: number;
}

const BYTE_EVERY_MS = 1_000;
const LARGE_BYTES = 100_000_000;
/** As many as the server lets one address have, unless it is told otherwise. */
const PER_ADDRESS = 1_000;

/** 50 MB/s on each connection. */
const chunk = Buffer.alloc(1_000_000, " ");
const CHUNK_EVERY_MS = 20;
let open = 0;
let cut = 0;
let refused = 0;

function start({ url, headers, slowConnections, largeBodies }: SlowJob): void {
  const { hostname, port } = new URL(url);
  const head = (bytes: number) =>
    `POST /v1/logs/bulk HTTP/1.1\r\nHost: ${hostname}\r\n${Object.entries(headers)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join("")}Content-Type: application/json\r\nContent-Length: ${bytes}\r\n\r\n`;
  const dial = (index: number) =>
    // 127.0.0.0/8 is this machine: clients of many addresses.
    connect({ host: hostname, port: Number(port), localAddress: `127.0.0.${2 + Math.floor(index / PER_ADDRESS)}` });
  const slow = new Map<number, Socket>();
  const openSlow = (index: number) => {
    const socket = dial(index);
    slow.set(index, socket);
    socket.once("connect", () => {
      open++;
      socket.write(index % 2 === 0 ? head(1_000_000) : "GET /v1/logs HTTP/1.1\r\nX-Slow: ");
      socket.once("close", () => {
        open--;
        cut++;
        openSlow(index);
      });
    });
    socket.resume().on("error", () => {});
  };
  for (let index = 0; index < slowConnections; index++) openSlow(index);
  setInterval(() => {
    for (const socket of slow.values()) if (socket.writable && !socket.connecting) socket.write("x");
  }, BYTE_EVERY_MS);

  const sendLarge = () => {
    const socket = dial(PER_ADDRESS * 4);
    let left = LARGE_BYTES;
    socket.once("connect", () => socket.write(head(LARGE_BYTES)));
    // Whatever is answered: a client that listens would stop.
    const sending = setInterval(() => {
      if (!socket.writable || socket.connecting || socket.writableNeedDrain) return;
      socket.write(chunk);
      left -= chunk.length;
      if (left <= 0) socket.destroy();
    }, CHUNK_EVERY_MS);
    socket.once("data", () => refused++);
    socket.on("error", () => {});
    socket.once("close", () => {
      clearInterval(sending);
      sendLarge();
    });
  };
  for (let index = 0; index < largeBodies; index++) sendLarge();
}

process.on("message", (message: SlowJob | "report") => {
  if (message !== "report") start(message);
  process.send?.({ open, cut, refused } satisfies SlowReport);
});
process.once("disconnect", () => process.exit());
process.once("SIGTERM", () => process.exit());
