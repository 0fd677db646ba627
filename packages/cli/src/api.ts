/**
 * The HTTP API, as the commands use it: with no rights but those of the credential they are given.
 */
import type { Config } from "@tallystick/server/config";
import { readCredentials } from "@tallystick/server/credentials";
import { type Command, Option } from "commander";
import { CliError, messageOf } from "./errors.ts";

/** Where the server is and what to say to it, as given on the command line. */
export interface ServerOptions {
  readonly server?: string;
  readonly adminToken?: string;
  readonly apiKey?: string;
  readonly tenant?: string;
}

/** Adds the options of {@link ServerOptions} that every command has which speaks to a server. */
export function withServerOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--server <url>", "the server; default: the one whose credentials are in DATA_DIR").env(
        "TALLYSTICK_URL",
      ),
    )
    .option("--admin-token <token>", "the operator's token; default: ADMIN_TOKEN, else DATA_DIR/credentials.json");
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

  constructor(url: string, headers: Readonly<Record<string, string>>) {
    this.#url = url.replace(/\/+$/, "");
    this.#headers = headers;
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
    const { body } = await this.#ask("GET", path);
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
  ): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(this.#url + path, {
        method,
        headers: { ...this.#headers, ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
    } catch (cause) {
      const reason = messageOf((cause as Error).cause ?? cause);
      throw new CliError(
        `no server answers at ${this.#url} (${reason}): start it with "tallystick serve", or name another by --server`,
        { cause },
      );
    }
    if (!response.ok) throw new CliError(problemText(response, await response.text()));
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

  if (options.apiKey !== undefined) return new Api(url, { authorization: `Bearer ${options.apiKey}`, ...tenant });
  const adminToken = options.adminToken ?? config.adminToken ?? ours?.admin_token;
  const apiKey = config.apiKey ?? ours?.api_key;
  if (prefer === "any") {
    if (adminToken !== undefined) return new Api(url, { "x-admin-token": adminToken, ...tenant });
    return new Api(url, apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` });
  }
  if (
    adminToken !== undefined &&
    (prefer === "admin-token" || options.tenant !== undefined || options.adminToken !== undefined)
  ) {
    return new Api(url, { "x-admin-token": adminToken, ...tenant });
  }
  if (prefer === "api-key" && apiKey !== undefined)
    return new Api(url, { authorization: `Bearer ${apiKey}`, ...tenant });
  throw new CliError(
    prefer === "admin-token"
      ? `there is no admin token for ${url}: give --admin-token, or set ADMIN_TOKEN or DATA_DIR`
      : `there is no API key for ${url}: give --api-key, or set API_KEY or DATA_DIR`,
  );
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
