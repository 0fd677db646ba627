/**
 * Clients of streams for tests, by both carriers: what came, in order, and whatever the server says instead.
 */
import { type IncomingMessage, request } from "node:http";
import { type Agent, request as tlsRequest } from "node:https";
import { text } from "node:stream/consumers";
import { type RawData, WebSocket } from "ws";
import type { Headers, ListedEntry, Problem } from "./api.ts";

export type Carrier = "sse" | "websocket";

/** What a stream says, as docs/streaming.md has it. */
export interface Said {
  readonly type: "entry" | "heartbeat" | "lagging" | "end";
  readonly entry?: ListedEntry;
  readonly seq?: number;
  readonly behind?: number;
  readonly reason?: string;
  readonly detail?: string;
  /** Of server-sent events. */
  readonly id?: string;
}

export interface StreamOptions {
  readonly carrier: Carrier;
  readonly url: string;
  readonly headers?: Headers;
  /** Of the query. */
  readonly query?: Readonly<Record<string, string>> | URLSearchParams;
  readonly protocols?: readonly string[];
  readonly agent?: Agent;
}

/** The server has refused, before anything was streamed. */
export class StreamRefused extends Error {
  readonly status: number;
  readonly problem: Problem;
  readonly headers: IncomingMessage["headers"];
  constructor(incoming: IncomingMessage, body: string) {
    super(`refused: ${incoming.statusCode} ${body}`);
    this.status = incoming.statusCode!;
    this.headers = incoming.headers;
    this.problem = JSON.parse(body) as Problem;
  }
}

export class StreamClient {
  readonly said: Said[] = [];
  /** Of the answer that the stream begins with. */
  headers: IncomingMessage["headers"] = {};
  /** The subprotocol that the server took. */
  protocol = "";
  /** Of a WebSocket, how it was closed. */
  closeCode: number | undefined;
  isClosed = false;
  readonly #watchers = new Set<() => void>();
  #pause = () => {};
  #resume = () => {};
  #close = () => {};

  /** @throws {StreamRefused} where there is no stream. */
  static async open(options: StreamOptions): Promise<StreamClient> {
    const client = new StreamClient();
    if (options.carrier === "sse") await client.#openEvents(options);
    else await client.#openSocket(options);
    return client;
  }

  get entries(): ListedEntry[] {
    return this.said.flatMap(({ entry }) => (entry === undefined ? [] : [entry]));
  }

  get end(): Said | undefined {
    return this.said.find(({ type }) => type === "end");
  }

  /** Waits until what came is so. @throws what came, where the stream ends before, or after the deadline. */
  async until(condition: (client: this) => boolean, deadlineMs = 20_000): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        if (condition(this)) resolve();
        else if (this.isClosed) reject(new Error(`the stream ended before ${condition}: ${this.#lately()}`));
      };
      timer = setTimeout(
        () => reject(new Error(`not in ${deadlineMs} ms: ${condition}: ${this.#lately()}`)),
        deadlineMs,
      );
      this.#watchers.add(look);
      look();
    }).finally(() => clearTimeout(timer));
  }

  /** Resolves once the connection is gone. */
  closed(): Promise<void> {
    return this.until(({ isClosed }) => isClosed);
  }

  /** Takes nothing of what comes any more. */
  pause(): void {
    this.#pause();
  }

  resume(): void {
    this.#resume();
  }

  close(): void {
    this.#close();
  }

  #lately(): string {
    return `${this.said.length} messages, at last ${JSON.stringify(this.said.slice(-3)).slice(0, 1_000)}`;
  }

  #take(said: Said): void {
    this.said.push(said);
    this.#look();
  }

  #look(): void {
    for (const look of this.#watchers) look();
  }

  #gone(): void {
    this.isClosed = true;
    this.#look();
  }

  async #openEvents({ url, headers = {}, query, agent }: StreamOptions): Promise<void> {
    const target = `${url}/v1/logs/stream?${new URLSearchParams(query)}`;
    const incoming = await new Promise<IncomingMessage>((resolve, reject) => {
      const options = { headers: { accept: "text/event-stream", ...headers }, agent: agent ?? false };
      const outgoing = url.startsWith("https:")
        ? tlsRequest(target, options, resolve)
        : request(target, options, resolve);
      outgoing.on("error", reject);
      outgoing.end();
    });
    if (incoming.statusCode !== 200) throw new StreamRefused(incoming, await text(incoming));
    this.headers = incoming.headers;
    incoming.setEncoding("utf8");
    let rest = "";
    incoming.on("data", (chunk: string) => {
      const blocks = (rest + chunk).split("\n\n");
      rest = blocks.pop()!;
      for (const block of blocks) this.#take(eventOf(block));
    });
    incoming.on("error", () => {}); // cut: "close" follows
    incoming.on("close", () => this.#gone());
    this.#pause = () => incoming.pause();
    this.#resume = () => incoming.resume();
    this.#close = () => incoming.destroy();
  }

  async #openSocket({ url, headers = {}, query, protocols = [], agent }: StreamOptions): Promise<void> {
    const target = `${url.replace(/^http/, "ws")}/v1/logs/stream?${new URLSearchParams(query)}`;
    const socket = new WebSocket(target, [...protocols], { headers, ...(agent && { agent }) });
    socket.on("message", (data: RawData) => this.#take(JSON.parse(String(data)) as Said));
    socket.on("upgrade", ({ headers }) => {
      this.headers = headers;
    });
    socket.on("close", (code) => {
      this.closeCode = code;
      this.#gone();
    });
    await new Promise<void>((resolve, reject) => {
      socket.once("open", resolve);
      socket.on("error", reject);
      socket.once("unexpected-response", (_request, incoming) => {
        void text(incoming).then((body) => reject(new StreamRefused(incoming, body)));
      });
    });
    this.protocol = socket.protocol;
    this.#pause = () => socket.pause();
    this.#resume = () => socket.resume();
    this.#close = () => socket.terminate();
  }
}

function eventOf(block: string): Said {
  const fields = Object.fromEntries(
    block.split("\n").map((line) => {
      const at = line.indexOf(": ");
      return [line.slice(0, at), line.slice(at + 2)];
    }),
  ) as { id: string; event: Said["type"]; data: string };
  const data = JSON.parse(fields.data) as Said & ListedEntry;
  if (fields.event === "entry") return { type: "entry", id: fields.id, entry: data };
  return { ...data, type: fields.event, id: fields.id };
}
