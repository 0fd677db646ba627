/**
 * Subscribers in a process of their own: opens streams, half by either carrier, and keeps of each entry its position and how long it
 * was on its way.
 */
import { get } from "node:http";
import { WebSocket } from "ws";

export type StreamJob =
  | {
      readonly kind: "open";
      readonly url: string;
      readonly headers: Record<string, string>;
      readonly queries: string[];
    }
  /** Waits until each has been sent everything before this position. */
  | { readonly kind: "report"; readonly until: number };

export interface StreamReport {
  /** Positions that each was sent, in order of arrival. */
  readonly received: number[][];
  /** Times that one was told that it was too slow. */
  readonly lagging: number;
  /** From the time that an entry says it was recorded at, which is before its COMMIT, in ms. */
  readonly delaysMs: number[];
}

const ENTRY = /"seq":(\d+),"recorded_at":"([^"]+)"/;
const STANDS = /^(?:data: )?\{(?:"type":"heartbeat",)?"seq":(\d+)\}$/m;

class Subscriber {
  readonly received: number[] = [];
  readonly delaysMs: number[] = [];
  lagging = 0;
  considered = 0;

  take(message: string): void {
    const entry = ENTRY.exec(message);
    if (entry !== null) {
      this.delaysMs.push(performance.timeOrigin + performance.now() - Date.parse(entry[2]!));
      this.received.push(Number(entry[1]));
      return;
    }
    if (message.includes("lagging")) this.lagging++;
    const stands = STANDS.exec(message);
    if (stands !== null) this.considered = Number(stands[1]);
  }
}

const subscribers: Subscriber[] = [];

async function open({ url, headers, queries }: Extract<StreamJob, { kind: "open" }>): Promise<void> {
  for (const [index, query] of queries.entries()) {
    const subscriber = new Subscriber();
    subscribers.push(subscriber);
    const target = `${url}/v1/logs/stream?${query}`;
    await new Promise<void>((resolve, reject) => {
      if (index % 2 === 0) {
        const socket = new WebSocket(target.replace(/^http/, "ws"), { headers, perMessageDeflate: false });
        socket.on("message", (data) => subscriber.take(String(data)));
        socket.once("message", () => resolve());
        socket.on("error", reject);
        return;
      }
      get(target, { headers, agent: false }, (incoming) => {
        if (incoming.statusCode !== 200) return reject(new Error(`a stream was answered ${incoming.statusCode}`));
        let rest = "";
        incoming.setEncoding("utf8").on("data", (chunk: string) => {
          const messages = (rest + chunk).split("\n\n");
          rest = messages.pop()!;
          for (const message of messages) subscriber.take(message);
          resolve();
        });
      }).on("error", reject);
    });
  }
}

async function report(until: number): Promise<StreamReport> {
  while (subscribers.some(({ considered }) => considered < until)) await new Promise((wake) => setTimeout(wake, 20));
  return {
    received: subscribers.map(({ received }) => received),
    lagging: subscribers.reduce((sum, { lagging }) => sum + lagging, 0),
    delaysMs: subscribers.flatMap(({ delaysMs }) => delaysMs),
  };
}

process.on("message", async (job: StreamJob) => {
  try {
    process.send!({ report: job.kind === "open" ? await open(job) : await report(job.until) });
  } catch (error) {
    process.send!({ error: error instanceof Error ? error.message : String(error) });
  }
});
process.once("disconnect", () => process.exit());
