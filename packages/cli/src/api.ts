/**
 * The HTTP API, as the commands use it: with no rights but those of the credential they are given.
 */
import type { Config } from "@tallystick/server/config";
import { readCredentials } from "@tallystick/server/credentials";
import { type Command, Option } from "commander";
import { AnswerError, CliError, messageOf } from "./errors.ts";
import { type Fetch, fetchBy, type TlsOptions } from "./tls-fetch.ts";

/** Where the server is and what to say to it, as given on the command line. */
export interface ServerOptions extends TlsOptions {
  readonly server?: string;
  readonly adminToken?: string;
  readonly apiKey?: string;
  readonly tenant?: string;
}

/** What a server with TLS is known by, and this client to it. */
export const TLS_OPTIONS = {
  ca: new Option("--ca <file>", "with https: a CA (PEM) to know the server by, beside the system's").env(
    "TALLYSTICK_CA",
  ),
  clientCert: new Option("--client-cert <file>", "with https: a client certificate (PEM)").env(
    "TALLYSTICK_CLIENT_CERT",
  ),
  clientKey: new Option("--client-key <file>", "its private key (PEM)").env("TALLYSTICK_CLIENT_KEY"),
} as const;

/** Adds the options of {@link ServerOptions} that every command has which speaks to a server. */
export function withServerOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--server <url>", "the server; default: the one whose credentials are in DATA_DIR").env(
        "TALLYSTICK_URL",
      ),
    )
    .option("--admin-token <token>", "the operator's token; default: ADMIN_TOKEN, else DATA_DIR/credentials.json")
    .addOption(TLS_OPTIONS.ca)
    .addOption(TLS_OPTIONS.clientCert)
    .addOption(TLS_OPTIONS.clientKey);
}

/** What {@link withServerOptions} means, for `--help`. */
export const SERVER_HELP = `
Tokens given on a command line can be seen by other users of the machine: prefer ADMIN_TOKEN or API_KEY in the
environment, or leave them to DATA_DIR/credentials.json.`;

type Method = "GET" | "POST" | "PATCH" | "DELETE";

/** A server, and the headers that every request to it carries. */
export class Api {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #fetch: Fetch;

  constructor(url: string, headers: Readonly<Record<string, string>>, send: Fetch = fetch) {
    this.#url = url.replace(/\/+$/, "");
    this.#headers = headers;
    this.#fetch = send;
  }

  /**
   * The answer to a request, parsed.
   * @throws {CliError} for every answer but success, in the server's own words.
   */
  async request<T>(
    method: Method,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<T> {
    const text = await this.#send(method, path, body, headers);
    try {
      return JSON.parse(text) as T;
    } catch (cause) {
      throw new CliError(`${this.#url}${path} did not answer with JSON: is that a Tallystick server?`, { cause });
    }
  }

  /** The answer to a GET as it is. Throws as {@link request}. */
  text(path: string): Promise<string> {
    return this.#send("GET", path);
  }

  /**
   * The answer to a GET as it arrives. Throws as {@link request}; reading it throws a {@link CliError} where the connection
   * ends before the answer does.
   */
  async download(path: string): Promise<AsyncIterable<Uint8Array>> {
    // Bytes as they are to be kept, so that a connection that ends early shows.
    const { body } = await this.#ask("GET", path, undefined, { "accept-encoding": "identity" });
    const server = this.#url;
    return (async function* () {
      try {
        for await (const chunk of body ?? []) yield chunk as Uint8Array;
      } catch (cause) {
        const reason = messageOf((cause as Error).cause ?? cause);
        throw new CliError(`${server} did not send all of its answer (${reason}): look at its log, and ask again`, {
          cause,
        });
      }
    })();
  }

  /**
   * Server-sent events as they arrive, each with its name and its data. Throws as {@link request}, also where the connection ends, or
   * nothing was heard for `silenceMs`.
   */
  async *events(path: string, silenceMs: number): AsyncGenerator<{ readonly event: string; readonly data: string }> {
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(new Error("nothing was heard of it")), silenceMs);
    try {
      const headers = { accept: "text/event-stream" };
      const { body } = await this.#ask("GET", path, undefined, headers, controller.signal);
      let rest = "";
      for await (const text of (body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
        timer.refresh();
        const blocks = (rest + text).split("\n\n");
        rest = blocks.pop()!;
        for (const block of blocks) {
          const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1] ?? "";
          yield { event: field("event"), data: field("data") };
        }
      }
    } catch (cause) {
      if (cause instanceof CliError) throw cause;
      throw new CliError(`the connection to ${this.#url} was lost (${messageOf((cause as Error).cause ?? cause)})`, {
        cause,
      });
    } finally {
      clearTimeout(timer);
      controller.abort();
    }
    throw new CliError(`${this.#url} ended the connection`);
  }

  async #send(
    method: Method,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    return (await this.#ask(method, path, body, headers)).text();
  }

  async #ask(
    method: Method,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
    signal?: AbortSignal,
  ): Promise<Response> {
    let response: Response;
    try {
      response = await this.#fetch(this.#url + path, {
        method,
        headers: { ...this.#headers, ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        ...(signal && { signal }),
      });
    } catch (cause) {
      const reason = messageOf((cause as Error).cause ?? cause);
      throw new CliError(unreachable(this.#url, reason), { cause });
    }
    if (!response.ok) throw new AnswerError(problemText(response, await response.text()), response.status);
    return response;
  }
}

/**
 * The server that options, settings and credentials.json lead to. What credentials.json holds is only sent to the server
 * that it was made for.
 *
 * @param prefer the credential that the command needs; an `--api-key` is used in any case where it is given.
 *   `any`: with whatever there is, or nothing, for what a log may show to all.
 * @throws {CliError} where there is no credential.
 */
export async function openApi(
  config: Config,
  options: ServerOptions,
  prefer: "admin-token" | "api-key" | "any",
): Promise<Api> {
  const kept = await readCredentials(config.dataDir);
  const url =
    options.server ??
    kept?.url ??
    `http://${config.host.includes(":") ? `[${config.host}]` : config.host}:${config.port}`;
  if (URL.parse(url) === null) throw new CliError(`--server ${url} is no URL: write http://host:port`);
  const ours = kept?.url !== undefined && URL.parse(kept.url)?.origin === URL.parse(url)?.origin ? kept : undefined;
  const tenant: Record<string, string> = options.tenant === undefined ? {} : { "x-tenant-id": options.tenant };

  const send = fetchBy(options, url);
  const by = (headers: Readonly<Record<string, string>>) => new Api(url, headers, send);
  if (options.apiKey !== undefined) return by({ authorization: `Bearer ${options.apiKey}`, ...tenant });
  const adminToken = options.adminToken ?? config.adminToken ?? ours?.admin_token;
  const apiKey = config.apiKey ?? ours?.api_key;
  if (prefer === "any") {
    if (adminToken !== undefined) return by({ "x-admin-token": adminToken, ...tenant });
    return by(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` });
  }
  if (
    adminToken !== undefined &&
    (prefer === "admin-token" || options.tenant !== undefined || options.adminToken !== undefined)
  ) {
    return by({ "x-admin-token": adminToken, ...tenant });
  }
  if (prefer === "api-key" && apiKey !== undefined) return by({ authorization: `Bearer ${apiKey}`, ...tenant });
  if (options.clientCert !== undefined) return by(tenant); // the certificate is the credential
  throw new CliError(
    prefer === "admin-token"
      ? `there is no admin token for ${url}: give --admin-token, or set ADMIN_TOKEN or DATA_DIR`
      : `there is no API key for ${url}: give --api-key, or set API_KEY or DATA_DIR`,
  );
}

/** What to do about a server that does not answer, by the reason that Node gives. */
function unreachable(url: string, reason: string): string {
  if (/alert.*certificate|alert unknown ca/i.test(reason)) {
    return `the server at ${url} does not take this client's certificate, or asks for one: give it by --client-cert and --client-key`;
  }
  if (/has expired|CERT_HAS_EXPIRED/i.test(reason)) {
    return `the certificate of the server at ${url} has expired: whoever runs that server has to renew it (TLS_CERT_PATH, used within seconds); nothing was sent`;
  }
  if (/certificate|self-signed/i.test(reason)) {
    return `the server at ${url} cannot be known by its certificate (${reason}): give its CA by --ca, and a name of the certificate by --server`;
  }
  return `no server answers at ${url} (${reason}): start it with "tallystick serve", or name another by --server`;
}

interface ProblemBody {
  readonly detail?: string;
  readonly errors?: readonly { path: string; message: string }[];
}

function problemText(response: Response, text: string): string {
  let problem: ProblemBody;
  try {
    problem = JSON.parse(text) as ProblemBody;
  } catch {
    return `${response.url} answered ${response.status}: ${text.slice(0, 200)}`;
  }
  const fields = (problem.errors ?? []).map(({ path, message }) => `\n  ${path} ${message}`);
  return `${problem.detail ?? response.statusText} (${response.status})${fields.join("")}`;
}
