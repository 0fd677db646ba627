/**
 * Verifications that go on without whoever asked for them: started, kept account of in the database, ended with the server.
 */
import { setMaxListeners } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { TenantLog } from "../log/tenants.ts";
import type { VerifyReport } from "./report.ts";
import { HEARTBEAT_MS, type Outcome, type Verification, type Verifications } from "./verifications.ts";
import type { Verifier } from "./verifier.ts";

/** Of all tenants, on one server. */
const MAX_LIVE = 20;
/** One tenant's: the others must find room. */
const MAX_LIVE_OF_TENANT = 3;

/** Thrown where a verification cannot be taken on now. */
export class JobsError extends Error {
  readonly code: "server_full" | "tenant_full" | "stopping";
  constructor(code: JobsError["code"], message: string) {
    super(message);
    this.name = "JobsError";
    this.code = code;
  }
}

export interface JobsOptions {
  readonly verifier: Verifier;
  readonly verifications: Verifications;
  /** An error as the RFC 9457 problem that is kept. */
  readonly problemOf: (error: unknown) => object;
  /** Told of errors that nobody waits for: the state could not be written, and will be tried again. */
  readonly onError: (error: unknown) => void;
}

/** A verification that this server runs. */
export interface Job {
  readonly started: Verification;
  /** Resolves once it has ended and the database knows: with its report, or the error that it failed with. Never rejects. */
  readonly ended: Promise<{ readonly report: VerifyReport } | { readonly error: unknown }>;
}

/** Told of the report; does not fail. */
export type OnReport = (report: VerifyReport) => Promise<void>;

interface Live {
  readonly tenantId: string;
  readonly id: string;
  progress: { checked: number; size: number | undefined; started: boolean };
}

export class VerificationJobs {
  readonly #options: JobsOptions;
  readonly #stopping = new AbortController();
  /** Tenants of those that are taken on: also of those that the database does not know yet. */
  readonly #tenants: string[] = [];
  readonly #live = new Set<Live>();
  readonly #ends = new Set<Promise<unknown>>();
  #timer: NodeJS.Timeout | undefined;
  #beating: Promise<void> | undefined;

  constructor(options: JobsOptions) {
    this.#options = options;
    setMaxListeners(0, this.#stopping.signal);
  }

  /**
   * Takes on a verification. It begins when those before it have ended, and goes on whatever becomes of the request.
   * @param onReport waited for before the verification is done.
   * @throws {JobsError} where there is no room, or the server is stopping.
   */
  async start(log: TenantLog, serviceId: string | undefined, onReport: OnReport): Promise<Job> {
    const { tenantId } = log;
    if (this.#stopping.signal.aborted) throw new JobsError("stopping", "The server is stopping: ask again.");
    if (this.#tenants.length >= MAX_LIVE) {
      throw new JobsError("server_full", `${MAX_LIVE} verifications are waiting already: ask again later.`);
    }
    if (this.#tenants.filter((other) => other === tenantId).length >= MAX_LIVE_OF_TENANT) {
      const message = `${MAX_LIVE_OF_TENANT} verifications of this tenant are under way already: wait for one of them.`;
      throw new JobsError("tenant_full", message);
    }
    this.#tenants.push(tenantId);
    const leave = () => this.#tenants.splice(this.#tenants.indexOf(tenantId), 1);
    const creating = this.#options.verifications.create(log, serviceId);
    this.#ends.add(creating);
    let started: Verification;
    try {
      started = await creating;
    } catch (error) {
      leave();
      throw error;
    } finally {
      this.#ends.delete(creating);
    }
    const live: Live = { tenantId, id: started.id, progress: { checked: 0, size: undefined, started: false } };
    this.#live.add(live);
    this.#timer ??= setInterval(() => this.#beat(), HEARTBEAT_MS).unref();
    const ended = this.#run(live, log, serviceId, onReport).finally(() => {
      leave();
      this.#live.delete(live);
      this.#ends.delete(ended);
      if (this.#live.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    });
    this.#ends.add(ended);
    return { started, ended };
  }

  /** Ends all of them, which are lost then: the database is told. */
  async stop(): Promise<void> {
    this.#stopping.abort(
      new JobsError("stopping", "The server stopped before the verification was done: start it again."),
    );
    while (this.#ends.size > 0) await Promise.allSettled(this.#ends);
    await this.#beating;
  }

  async #run(
    live: Live,
    log: TenantLog,
    serviceId: string | undefined,
    onReport: OnReport,
  ): Promise<Awaited<Job["ended"]>> {
    const { signal } = this.#stopping;
    const stopped = Promise.withResolvers<never>();
    const onStop = () => stopped.reject(signal.reason);
    signal.addEventListener("abort", onStop);
    try {
      signal.throwIfAborted();
      const verifying = this.#options.verifier.verify(log, {
        serviceId,
        signal,
        onStart: () => {
          live.progress = { ...live.progress, started: true };
          this.#beat(); // so that it reads as running at once
        },
        onProgress: (checked, size) => {
          live.progress = { checked, size, started: true };
        },
      });
      verifying.catch(() => {}); // of one that is stopped before its turn has come
      const report = await Promise.race([verifying, stopped.promise]);
      await onReport(report);
      const { checked, size } = report;
      live.progress = { checked: Math.max(live.progress.checked, checked), size, started: true };
      await this.#finish(live, { status: "done", report });
      return { report };
    } catch (error) {
      const problem = this.#options.problemOf(error);
      await this.#finish(live, { status: signal.aborted ? "lost" : "failed", problem });
      return { error };
    } finally {
      signal.removeEventListener("abort", onStop);
    }
  }

  /** The outcome is kept until the database has it; a server that stops first leaves a verification that reads as lost. */
  async #finish(live: Live, outcome: Outcome): Promise<void> {
    for (;;) {
      const { aborted } = this.#stopping.signal;
      try {
        await this.#beating; // which would be tried again behind it otherwise
        return await this.#options.verifications.finish(live.tenantId, live.id, live.progress, outcome);
      } catch (error) {
        this.#options.onError(error);
        if (aborted) return;
        await delay(HEARTBEAT_MS, undefined, { signal: this.#stopping.signal }).catch(() => {}); // stopping: once more
      }
    }
  }

  #beat(): void {
    this.#beating ??= Promise.all(
      [...this.#live].map(({ tenantId, id, progress }) => this.#options.verifications.beat(tenantId, id, progress)),
    )
      .then(() => {}, this.#options.onError)
      .finally(() => {
        this.#beating = undefined;
      });
  }
}
