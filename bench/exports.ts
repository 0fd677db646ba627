/**
 * Exports of a whole log over HTTP: how much the server's memory grows meanwhile, and how fast they are. Each file is checked.
 */
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import type { ExportType } from "@tallystick/core/export-file";
import { ExportVerifier } from "@tallystick/core/export-verify";
import type { Bench } from "./bench.ts";
import { LoadGenerator } from "./load.ts";
import type { Result } from "./result.ts";
import { startTallystick, type Tallystick } from "./tallystick.ts";

const GOAL_MIB = 64;
const MIB = 2 ** 20;
const SAMPLE_MS = 50;
/** Events that are recorded in one go. */
const PART = 50_000;
/** Enough for code to be compiled, connections to be open, and V8's young generation to be as large as it gets. */
const WARM_UP_ENTRIES = 50_000;

interface Kind {
  readonly type: ExportType;
  readonly gzip: boolean;
}

const KINDS: readonly Kind[] = [
  { type: "csv", gzip: false },
  { type: "ndjson", gzip: false },
  { type: "csv", gzip: true },
];

export async function exports(bench: Bench): Promise<Result[]> {
  const count = bench.quick ? 100_000 : 1_000_000;
  // Indexing goes on behind the commits, in the same process: its memory is not what is measured.
  let server = await startTallystick({ profileDir: bench.profileDir, settings: { INDEX_WORKER: "false" } });
  const load = new LoadGenerator();
  try {
    for (let first = 0; first < count; first += PART) {
      await load.run(server.job(8, { kind: "bulk", first, count: PART, shape: { personal: true } }));
    }
    const results: Result[] = [];
    for (const kind of KINDS) {
      // What recording took of memory would hide what the export takes.
      server = await server.restart();
      results.push(...(await measure(bench, server, kind, count)));
    }
    return results;
  } finally {
    await load.stop();
    await server.stop();
  }
}

async function measure(bench: Bench, server: Tallystick, { type, gzip }: Kind, count: number): Promise<Result[]> {
  await download(server, type, gzip, WARM_UP_ENTRIES);
  const before = await residentBytes(server.pid);
  let most = before;
  const timer = setInterval(() => {
    void residentBytes(server.pid).then((bytes) => {
      most = Math.max(most, bytes);
    });
  }, SAMPLE_MS);
  const startedAt = performance.now();
  const { rows, bytes } = await download(server, type, gzip, count).finally(() => clearInterval(timer));
  const seconds = (performance.now() - startedAt) / 1_000;
  if (rows !== count) throw new Error(`${rows} entries of ${count} were exported`);
  const what = `${type}${gzip ? ", gzip" : ""}`;
  bench.say(`export: ${what}: ${(bytes / MIB).toFixed(0)} MiB, ${(before / MIB).toFixed(0)} MiB resident before`);
  return [
    {
      benchmark: "export",
      what: `growth of the server's memory, ${count} entries as ${what}`,
      value: (most - before) / MIB,
      unit: "MiB",
      goal: GOAL_MIB,
      goalIs: "greatest value",
    },
    { benchmark: "export", what: `${count} entries as ${what}`, value: rows / seconds, unit: "entries/s" },
  ];
}

/** Of the entries below `to`. @throws where the file is not complete. */
async function download(
  { url, headers }: Tallystick,
  type: ExportType,
  gzip: boolean,
  to: number,
): Promise<{ rows: number; bytes: number }> {
  const query = new URLSearchParams({ format: type, gzip: String(gzip), to_seq: String(to) });
  const response = await fetch(`${url}/v1/logs/export?${query}`, {
    headers: { ...headers, "accept-encoding": "identity" },
  });
  if (!response.ok) throw new Error(`the export answered ${response.status}: ${await response.text()}`);
  const verifier = new ExportVerifier(type);
  let bytes = 0;
  const counted = (async function* () {
    for await (const chunk of response.body!) {
      bytes += chunk.length;
      yield chunk;
    }
  })();
  for await (const chunk of gzip ? Readable.from(counted).pipe(createGunzip()) : counted) verifier.write(chunk);
  const { state, detail, rows } = verifier.report();
  if (state !== "complete") throw new Error(`the export is ${state}: ${detail}`);
  return { rows, bytes };
}

/** Of physical memory, as Linux counts it. */
async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1_024;
}
