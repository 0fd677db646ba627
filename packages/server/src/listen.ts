/**
 * Listening: where, and what to do where that is not to be had.
 */
import type { AddressInfo } from "node:net";
import type { FastifyInstance } from "fastify";
import type { Config } from "./config.ts";
import { StartError } from "./start-error.ts";

/**
 * Listens as the settings say.
 * @returns the URL for programs of this machine.
 * @throws {StartError} `port_taken`, `cannot_listen`.
 */
export async function listen(app: FastifyInstance, config: Config): Promise<string> {
  const { host, port } = config;
  try {
    await app.listen({ host, port });
  } catch (cause) {
    const code = (cause as { code?: unknown }).code;
    if (code === "EADDRINUSE") {
      throw new StartError(
        "port_taken",
        `port ${port} is taken by another program: stop that, or set another, as in PORT=${port + 1}`,
        { cause },
      );
    }
    throw new StartError(
      "cannot_listen",
      `cannot listen on ${host}:${port} (${(cause as Error).message}): set HOST and PORT to an address of this machine`,
      { cause },
    );
  }
  const address = app.server.address() as AddressInfo;
  const shown = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host.includes(":") ? `[${host}]` : host;
  return `${config.tlsCertPath === undefined ? "http" : "https"}://${shown}:${address.port}`;
}
