/**
 * What every benchmark is given, and the pieces that they share.
 */
import { LoadGenerator } from "./load.ts";
import type { LoadJob, LoadReport } from "./load-program.ts";
import { startTallystick, type Tallystick } from "./tallystick.ts";

/** What a benchmark is given. */
export interface Bench {
  /** Smaller and fewer rounds: to see that all works, and about where it stands. */
  readonly quick: boolean;
  /** Where CPU profiles of the servers under test go. */
  readonly profileDir: string | undefined;
  /** Progress, to stderr. */
  readonly say: (message: string) => void;
}

/** A server under test and what loads it. */
export interface Subject {
  readonly server: Tallystick;
  readonly load: LoadGenerator;
  /** Records the next `count` events; they continue where the last ones ended. */
  record(options: RecordOptions): Promise<LoadReport>;
}

export type RecordOptions = { readonly connections: number; readonly count: number } & Pick<
  Extract<LoadJob["send"], { kind: "single" | "bulk" }>,
  "kind" | "shape" | "receipts" | "signer" | "perSecond"
>;

/** Runs `work` on a fresh server, once `prepare` has; afterwards the log's size must be what was acknowledged, neither more nor less. */
export async function onFreshServer<T>(
  bench: Bench,
  work: (subject: Subject) => Promise<T>,
  settings: Readonly<Record<string, string>> = {},
  prepare: (server: Tallystick) => Promise<void> = async () => {},
): Promise<T> {
  const server = await startTallystick({ profileDir: bench.profileDir, settings });
  const load = new LoadGenerator();
  try {
    await prepare(server);
    const sizeBefore = await server.size();
    let recorded = 0;
    const result = await work({
      server,
      load,
      record: async ({ connections, ...send }) => {
        const report = await load.run(server.job(connections, { ...send, first: recorded }));
        recorded += report.events;
        return report;
      },
    });
    const grown = (await server.size()) - sizeBefore;
    if (grown !== recorded) throw new Error(`${recorded} events were acknowledged, and the log grew by ${grown}`);
    return result;
  } finally {
    await load.stop();
    await server.stop();
  }
}

/** Events a second. */
export function rate({ events, durationMs }: LoadReport): number {
  return (events / durationMs) * 1000;
}
