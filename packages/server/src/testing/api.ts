/**
 * A small HTTP client for tests: keep-alive, nothing retried, answers as they are.
 */
import { Agent, type IncomingHttpHeaders, request as sendRequest } from "node:http";
import { request as sendTlsRequest, type Agent as TlsAgent } from "node:https";
import { text } from "node:stream/consumers";

export interface Answer<Body> {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The body as it came. */
  readonly text: string;
  /** The body read as JSON; undefined where it is empty. */
  readonly body: Body;
}

export type Headers = Readonly<Record<string, string>>;

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly errors?: readonly { readonly path: string; readonly message: string }[];
  readonly request_id?: string;
}

/** The head of an entry, as a write answers it. */
export interface Head {
  readonly id: string;
  readonly seq: number;
  readonly recorded_at: string;
  readonly leaf_hash: string;
  readonly duplicate: boolean;
}

/** An entry as a list has it; `leaf` only by itself. */
export interface ListedEntry {
  readonly id: string;
  readonly seq: number;
  readonly recorded_at: string;
  readonly leaf_hash: string;
  readonly service: { readonly id: string; readonly seq: number; readonly prev: string };
  readonly event: Readonly<Record<string, unknown>>;
  readonly leaf?: string;
}

export interface List {
  readonly data: readonly ListedEntry[];
  readonly next_cursor: string | null;
  readonly prev_cursor: string | null;
}

const agent = new Agent({ keepAlive: true, maxSockets: 256 });

export class Api {
  readonly url: string;
  readonly headers: Headers;
  readonly #tls: TlsAgent | undefined;

  /** @param tls what an https server is asked by: its CA, and a certificate of the client's. */
  constructor(url: string, headers: Headers = {}, tls?: TlsAgent) {
    this.url = url;
    this.headers = headers;
    this.#tls = tls;
  }

  /** The same server with other headers in place of, or beside, these. */
  with(headers: Headers): Api {
    return new Api(this.url, { ...this.headers, ...headers }, this.#tls);
  }

  /** The same server with these headers only. */
  as(headers: Headers): Api {
    return new Api(this.url, headers, this.#tls);
  }

  /** The same server by other connections. */
  by(tls: TlsAgent): Api {
    return new Api(this.url, this.headers, tls);
  }

  get<Body = Problem>(path: string, headers?: Headers): Promise<Answer<Body>> {
    return this.send<Body>("GET", path, undefined, headers);
  }

  delete<Body = Problem>(path: string, headers?: Headers): Promise<Answer<Body>> {
    return this.send<Body>("DELETE", path, undefined, headers);
  }

  /** Sends `body` as JSON; a string or bytes go as they are. */
  post<Body = Problem>(path: string, body: unknown, headers?: Headers): Promise<Answer<Body>> {
    return this.send<Body>("POST", path, body, headers);
  }

  patch<Body = Problem>(path: string, body: unknown, headers?: Headers): Promise<Answer<Body>> {
    return this.send<Body>("PATCH", path, body, headers);
  }

  /** Records one event, and fails where it is not recorded. */
  async record(event: unknown, headers?: Headers): Promise<Head> {
    const answer = await this.post<Head>("/v1/logs", event, headers);
    if (answer.status !== 201) throw new Error(`not recorded: ${answer.status} ${answer.text}`);
    return answer.body;
  }

  /** Records events by bulk, and fails where they are not recorded. */
  async recordAll(events: readonly unknown[]): Promise<Head[]> {
    const answer = await this.post<{ data: Head[] }>("/v1/logs/bulk", { events });
    if (answer.status !== 201) throw new Error(`not recorded: ${answer.status} ${answer.text}`);
    return answer.body.data;
  }

  /** All entries that match, by as many pages as it takes. */
  async listAll(query: Readonly<Record<string, string>> = {}, maxPages = Number.POSITIVE_INFINITY) {
    const entries: ListedEntry[] = [];
    const parameters = new URLSearchParams(query);
    for (let page = 0; page < maxPages; page++) {
      const answer = await this.get<List>(`/v1/logs?${parameters}`);
      if (answer.status !== 200) throw new Error(`not listed: ${answer.status} ${answer.text}`);
      entries.push(...answer.body.data);
      if (answer.body.next_cursor === null) break;
      parameters.set("cursor", answer.body.next_cursor);
    }
    return entries;
  }

  /** @throws what the socket reports, where no whole answer came. */
  send<Body>(method: string, path: string, body?: unknown, headers: Headers = {}): Promise<Answer<Body>> {
    const bytes = body === undefined || typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const all: Record<string, string> = {
      ...(bytes !== undefined && {
        "content-type": "application/json",
        "content-length": `${Buffer.byteLength(bytes)}`,
      }),
      ...this.headers,
      ...headers,
    };
    for (const name of Object.keys(all)) if (all[name] === "") delete all[name]; // "" takes a header away
    return new Promise((resolve, reject) => {
      const send = this.#tls === undefined ? sendRequest : sendTlsRequest;
      const options = { method, headers: all, agent: this.#tls ?? agent };
      const outgoing = send(`${this.url}${path}`, options, async (incoming) => {
        try {
          const received = await text(incoming);
          resolve({
            status: incoming.statusCode!,
            headers: incoming.headers,
            text: received,
            body: (received !== "" && /\bjson\b/.test(incoming.headers["content-type"] ?? "")
              ? JSON.parse(received)
              : undefined) as Body,
          });
        } catch (error) {
          reject(error);
        }
      });
      outgoing.on("error", reject);
      outgoing.end(bytes);
    });
  }
}
