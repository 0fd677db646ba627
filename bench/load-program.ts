/**
 * The load generator's process: makes the bytes of a job's requests, sends them, answers with what came of it.
 */
import { createPrivateKey, sign } from "node:crypto";
import { canonicalize } from "@tallystick/core/canonical";
import type { JsonValue } from "@tallystick/core/json";
import { type EventShape, eventAt } from "./events.ts";
import { load } from "./http-load.ts";

/** A publisher's private key, and the id that it is registered under. */
export interface LoadSigner {
  readonly privateKeyPem: string;
  readonly keyId: string;
}

/** What to send, and where to. */
export interface LoadJob {
  readonly url: string;
  readonly connections: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly send:
    | {
        readonly kind: "single" | "bulk";
        readonly first: number;
        readonly count: number;
        readonly shape: EventShape;
        /** Asks for the receipt of each. */
        readonly receipts?: boolean;
        /** At most so many events a second, evenly. */
        readonly perSecond?: number | undefined;
        /** Signs each, before the clock runs. */
        readonly signer?: LoadSigner | undefined;
      }
    | { readonly kind: "get"; readonly paths: readonly string[] };
}

export interface LoadReport {
  /** Acknowledged, all of them. */
  readonly events: number;
  readonly requests: number;
  readonly durationMs: number;
  readonly latencyP50Ms: number;
  readonly latencyP99Ms: number;
}

/** Events in a bulk request. */
export const BULK_EVENTS = 500;

function requestsOf({ url, headers, send }: LoadJob): Buffer[] {
  const host = `Host: ${new URL(url).host}\r\n`;
  const others = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const common = `${host}${others.join("")}`;
  if (send.kind === "get") return send.paths.map((path) => Buffer.from(`GET ${path} HTTP/1.1\r\n${common}\r\n`));
  const post = (path: string, body: string) =>
    Buffer.from(
      `POST ${path} HTTP/1.1\r\n${common}Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  const { first, count, shape } = send;
  const query = send.receipts ? "?receipt=true" : "";
  const key = send.signer === undefined ? undefined : createPrivateKey(send.signer.privateKeyPem);
  const event = (index: number) => {
    const plain = eventAt(first + index, shape);
    if (key === undefined) return JSON.stringify(plain);
    const signature = sign(null, Buffer.from(canonicalize(plain as JsonValue)), key).toString("base64");
    return JSON.stringify({ ...plain, signature, public_key_id: send.signer!.keyId });
  };
  if (send.kind === "single")
    return Array.from({ length: count }, (_, index) => post(`/v1/logs${query}`, event(index)));
  return Array.from({ length: Math.ceil(count / BULK_EVENTS) }, (_, request) => {
    const from = request * BULK_EVENTS;
    const events = Array.from({ length: Math.min(BULK_EVENTS, count - from) }, (_, index) => event(from + index));
    return post(`/v1/logs/bulk${query}`, `{"events":[${events.join(",")}]}`);
  });
}

async function run(job: LoadJob): Promise<LoadReport> {
  const requests = requestsOf(job);
  const { hostname, port } = new URL(job.url);
  const { send } = job;
  const eventsEach = send.kind === "bulk" ? BULK_EVENTS : 1;
  const requestsPerSecond =
    send.kind === "get" || send.perSecond === undefined ? undefined : send.perSecond / eventsEach;
  const target = { host: hostname, port: Number(port), connections: job.connections, requestsPerSecond };
  const { durationMs, latenciesMs } = await load(target, requests);
  latenciesMs.sort();
  const percentile = (share: number) =>
    latenciesMs[Math.min(latenciesMs.length - 1, Math.floor(latenciesMs.length * share))]!;
  return {
    events: job.send.kind === "get" ? 0 : job.send.count,
    requests: requests.length,
    durationMs,
    latencyP50Ms: percentile(0.5),
    latencyP99Ms: percentile(0.99),
  };
}

if (process.send !== undefined) {
  process.on("message", async (job: LoadJob) => {
    const answer = await run(job).then(
      (report) => ({ report }),
      (error: Error) => ({ error: error.message }),
    );
    process.send!(answer);
  });
  process.once("disconnect", () => process.exit());
}
