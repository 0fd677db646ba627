/**
 * Writing while somebody's snapshot stays open: a backup, a forgotten transaction. A design that updates rows collapses here,
 * because nothing that was updated can be cleaned up.
 */
import pg from "pg";
import { type Bench, onFreshServer, rate, type Subject } from "./bench.ts";
import { compared, type Result } from "./result.ts";
import { median } from "./rounds.ts";
import { WRITES, type Write } from "./writes.ts";

const GOAL = 0.8;
const HELD_MS = 600_000;
const HELD_QUICK_MS = 20_000;

export async function snapshot(bench: Bench): Promise<Result[]> {
  const heldMs = bench.quick ? HELD_QUICK_MS : HELD_MS;
  return onFreshServer(bench, async (subject) => {
    for (const write of WRITES) await subject.record({ ...write, count: write.warmUp, shape: {} });
    const rounds = bench.quick ? 2 : 5;
    const before = await figures(subject, (round) => round < rounds);
    const startedAt = performance.now();
    const held = await holdSnapshot(subject.server.databaseUrl, () =>
      figures(subject, () => performance.now() - startedAt < heldMs),
    );
    // The log has grown meanwhile: without a snapshot it is measured on both sides of that.
    const after = await figures(subject, (round) => round < rounds);
    return WRITES.map((write) => {
      // When the snapshot is oldest: what it costs grows with its age.
      const oldest = held.get(write)!.slice(-Math.ceil(held.get(write)!.length / 3));
      return compared({
        benchmark: "snapshot",
        what: `${write.what}, a snapshot held open for ${heldMs / 1000} s (last third)`,
        value: median(oldest),
        unit: "events/s",
        yardstick: median([...before.get(write)!, ...after.get(write)!]),
        against: "without",
        goal: GOAL,
      });
    });
  });
}

/** Rounds of each kind of write in turns, while `goOn`. */
async function figures(subject: Subject, goOn: (round: number) => boolean): Promise<Map<Write, number[]>> {
  const found = new Map<Write, number[]>(WRITES.map((write) => [write, []]));
  for (let round = 0; goOn(round); round++) {
    for (const write of WRITES) found.get(write)!.push(rate(await subject.record({ ...write, shape: {} })));
  }
  return found;
}

async function holdSnapshot<T>(databaseUrl: string, work: () => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: "tallystick bench snapshot" });
  await client.connect();
  try {
    await client.query("begin isolation level repeatable read");
    await client.query("select count(*) from tallystick.heads");
    return await work();
  } finally {
    await client.end();
  }
}
