/**
 * fetch() by TLS of one's own: with a CA that the system does not know, and a certificate of the client's. Node's fetch has no
 * way to say either for one server.
 */
import { readFileSync } from "node:fs";
import { Agent, type AgentOptions, request } from "node:https";
import { Readable } from "node:stream";
import { getCACertificates } from "node:tls";
import { CliError } from "./errors.ts";

/** Files in PEM, as given on the command line. */
export interface TlsOptions {
  readonly ca?: string;
  readonly clientCert?: string;
  readonly clientKey?: string;
}

/** What requests are sent by: the part of fetch() that the commands use. */
export type Fetch = (
  url: string,
  init: {
    readonly method: string;
    readonly headers: Record<string, string>;
    readonly body?: string;
    readonly signal?: AbortSignal;
  },
) => Promise<Response>;

/**
 * What to send requests by; Node's own where no option is given.
 * @throws {CliError} where a file cannot be read, or the server does not speak TLS.
 */
export function fetchBy({ ca, clientCert: cert, clientKey: key }: TlsOptions, url: string): Fetch {
  if (ca === undefined && cert === undefined && key === undefined) return fetch;
  if ((cert === undefined) !== (key === undefined))
    throw new CliError("--client-cert and --client-key go together: give both");
  if (!url.startsWith("https:"))
    throw new CliError(`--ca and --client-cert are for TLS, and ${url} is none: write https://`);
  const options: AgentOptions = {
    keepAlive: true,
    ...(ca !== undefined && { ca: [...getCACertificates("default"), read("--ca", ca)] }),
    ...(cert !== undefined && { cert: read("--client-cert", cert) }),
    ...(key !== undefined && { key: read("--client-key", key) }),
  };
  const agent = new Agent(options);
  return (to, { method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const outgoing = request(to, { method, headers, agent, ...(signal && { signal }) }, (incoming) => {
        const { statusCode: status = 0, statusMessage: statusText = "", headersDistinct } = incoming;
        const received = Object.entries(headersDistinct).flatMap(([name, values = []]) =>
          values.map((value): [string, string] => [name, value]),
        );
        const content = [204, 304].includes(status) ? null : (Readable.toWeb(incoming) as ReadableStream);
        resolve(new Response(content, { status, statusText, headers: received }));
      });
      outgoing.on("error", reject);
      outgoing.end(body);
    });
}

function read(option: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new CliError(`${option} ${path} cannot be read (${(cause as Error).message})`, { cause });
  }
}
