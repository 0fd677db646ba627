/**
 * The load generator as benchmarks use it.
 */
import type { ChildProcess } from "node:child_process";
import { nextMessage, startProgram, stopProgram } from "./child.ts";
import type { LoadJob, LoadReport } from "./load-program.ts";

export class LoadGenerator {
  readonly #process: ChildProcess = startProgram("./load-program.ts");

  /** @throws {Error} when a request was answered other than 2xx. */
  async run(job: LoadJob): Promise<LoadReport> {
    const answer = nextMessage<{ report: LoadReport } | { error: string }>(this.#process);
    this.#process.send(job);
    const result = await answer;
    if ("error" in result) throw new Error(`load on ${job.url}: ${result.error}`);
    return result.report;
  }

  async stop(): Promise<void> {
    await stopProgram(this.#process);
  }
}
