import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { systemCode } from "./embedded-error.ts";

/** Below the ports that systems hand out for outgoing connections, so that none of those takes ours while we are down. */
const FIRST = 20_000;
const LAST = 29_999;
const TRIES = 50;

/** Whether a server could listen on 127.0.0.1 at this port now. */
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error) => {
      if (systemCode(error) === "EADDRINUSE" || systemCode(error) === "EACCES") resolve(false);
      else reject(error);
    });
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** A port that is free at this moment; another process can still take it before it is used. */
export async function findFreePort(): Promise<number> {
  for (let tries = 0; tries < TRIES; tries++) {
    const port = randomInt(FIRST, LAST + 1);
    if (await isFree(port)) return port;
  }
  // The range is crowded: let the system choose.
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ host: "127.0.0.1", port: 0 }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
