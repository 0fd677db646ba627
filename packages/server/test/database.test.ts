/** Connections that end at bad moments: the server goes on. */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { Database } from "../src/db/database.ts";
import { openAccess } from "../src/verify/access.ts";

const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

/** A message of PostgreSQL's protocol (version 3). */
function message(type: string, ...parts: readonly (string | number[])[]): Buffer {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part as string)));
  const length = Buffer.alloc(4);
  length.writeInt32BE(body.length + 4);
  return Buffer.concat([Buffer.from(type), length, body]);
}

/** A server that ends each session in the bytes that open it, as PostgreSQL does whose postmaster is gone. */
async function endingServer(): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("data", () => {
      const error = message(
        "E",
        "SFATAL\0",
        "C57P01\0",
        "Mterminating connection due to unexpected postmaster exit\0",
        "\0",
      );
      socket.end(Buffer.concat([message("R", [0, 0, 0, 0]), message("Z", "I"), error]));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stops.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, "close");
  });
  return `postgres://nobody@127.0.0.1:${(server.address() as AddressInfo).port}/nothing`;
}

test("a session that is ended as it begins fails its statements, and ends nothing else", async () => {
  const url = await endingServer();
  const database = new Database({ url, poolSize: 2, onIdleError: () => {} });
  stops.push(() => database.close());
  for (const _ of [1, 2, 3]) {
    await expect(database.query("select 1")).rejects.toThrow();
    await expect(
      database.read("00000000-0000-0000-0000-000000000000", (client) => client.query("select 1")),
    ).rejects.toThrow();
  }
  const { snapshot, pool } = openAccess(url);
  stops.push(() => pool.end());
  await expect(snapshot("begin", (client) => client.query("select 1"))).rejects.toThrow();
});
