/**
 * What the server counts, in Prometheus' text format at /metrics.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { LimitName } from "./limits/rate-limits.ts";
import type { IndexLag } from "./search/lag.ts";
import type { Carrier } from "./stream/messages.ts";

/** Services come from clients: those beyond this many are counted together, so that none of them fills our memory, or Prometheus'. */
const MAX_SERVICES = 500;
/** What services beyond {@link MAX_SERVICES} are counted as. */
const OTHER_SERVICES = "(other services)";

export class Metrics {
  readonly #registry = new Registry();
  readonly #received: Counter<"service">;
  readonly #rejected: Counter<"reason">;
  readonly #limited: Counter<"limit">;
  readonly #verification: Histogram;
  readonly #streams: Gauge<"carrier">;
  readonly #lagging: Counter;
  readonly #services = new Set<string>();

  /** @param lag how far the index is behind; asked for with each look at the metrics. */
  constructor(lag?: () => Promise<IndexLag | undefined>) {
    const registers = [this.#registry];
    // Each asks for itself: a gauge that another one sets may have been written already.
    new Gauge({
      name: "audit_index_lag_seconds",
      help: "How long the entry that has waited longest to be indexed has done so; those of the last 256 positions of a log do not wait",
      registers,
      async collect() {
        this.set((await lag?.())?.seconds ?? Number.NaN);
      },
    });
    new Gauge({
      name: "audit_index_lag_entries",
      help: "Entries that wait to be indexed: until then searches look at each of them",
      registers,
      async collect() {
        this.set((await lag?.())?.entries ?? Number.NaN);
      },
    });
    this.#received = new Counter({
      name: "audit_events_received_total",
      help: "Events that were recorded, or had been before",
      labelNames: ["service"],
      registers,
    });
    this.#rejected = new Counter({
      name: "audit_events_rejected_total",
      help: "Events and requests with events that were refused, by problem",
      labelNames: ["reason"],
      registers,
    });
    this.#limited = new Counter({
      name: "audit_requests_limited_total",
      help: "Requests that were answered 429, by limit: tenant, credential, revocations, refused_credentials",
      labelNames: ["limit"],
      registers,
    });
    this.#verification = new Histogram({
      name: "signature_verification_seconds",
      help: "Time until a publisher's signature was verified, the wait for a thread included",
      buckets: [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1],
      registers,
    });
    this.#streams = new Gauge({
      name: "audit_streams",
      help: "Streams of entries that are open, by carrier: sse, websocket",
      labelNames: ["carrier"],
      registers,
    });
    this.#lagging = new Counter({
      name: "audit_stream_lagging_total",
      help: "Times that the client of a stream was too slow, and got what followed from the log",
      registers,
    });
    collectDefaultMetrics({ register: this.#registry });
  }

  /** Counts events of a service that were answered with success. */
  received(serviceId: string, count = 1): void {
    const known = this.#services.has(serviceId) || this.#services.size < MAX_SERVICES;
    if (known) this.#services.add(serviceId);
    this.#received.inc({ service: known ? serviceId : OTHER_SERVICES }, count);
  }

  /** Counts a refused event, or a request that was refused as a whole. `reason` is one of a fixed set. */
  rejected(reason: string): void {
    this.#rejected.inc({ reason });
  }

  /** Counts a request that a limit has refused. */
  limited(limit: LimitName | "refused_credentials"): void {
    this.#limited.inc({ limit });
  }

  streamOpened(carrier: Carrier): void {
    this.#streams.inc({ carrier });
  }

  streamClosed(carrier: Carrier): void {
    this.#streams.dec({ carrier });
  }

  /** @param waiting bytes that wait for the clients of streams; asked for with each look at the metrics. */
  countWaiting(waiting: () => number): void {
    new Gauge({
      name: "audit_stream_waiting_bytes",
      help: "What waits in memory for the clients of streams to read it",
      registers: [this.#registry],
      collect() {
        this.set(waiting());
      },
    });
  }

  streamLagging(): void {
    this.#lagging.inc();
  }

  signatureVerified(seconds: number): void {
    this.#verification.observe(seconds);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** All of it, as Prometheus reads it. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
