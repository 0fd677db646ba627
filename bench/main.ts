/**
 * npm run bench -- [what...] [--quick] [--json] [--markdown] [--profile <directory>]
 */
import { parseArgs } from "node:util";
import { access } from "./access.ts";
import type { Bench } from "./bench.ts";
import { bulk } from "./bulk.ts";
import { stopAllPrograms } from "./child.ts";
import { exports } from "./exports.ts";
import { index } from "./index.ts";
import { keys } from "./keys.ts";
import { large } from "./large.ts";
import { describeMachine, machineLine } from "./machine.ts";
import { page } from "./page.ts";
import { proofs } from "./proofs.ts";
import { receipts } from "./receipts.ts";
import { writeReport } from "./report.ts";
import { type Result, textTable } from "./result.ts";
import { signed } from "./signed.ts";
import { single } from "./single.ts";
import { slow } from "./slow.ts";
import { snapshot } from "./snapshot.ts";
import { stats } from "./stats.ts";
import { stream } from "./stream.ts";
import { verify } from "./verify.ts";

const BENCHMARKS: Readonly<Record<string, (bench: Bench) => Promise<Result[]>>> = {
  single,
  bulk,
  keys,
  snapshot,
  verify,
  page,
  receipts,
  proofs,
  signed,
  access,
  slow,
  stream,
  index,
  export: exports,
  stats,
  large,
};
/** What runs when nothing is named: all but the one that takes an hour. */
const DEFAULT = Object.keys(BENCHMARKS).filter((name) => name !== "large");

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    markdown: { type: "boolean", default: false },
    profile: { type: "string" },
  },
});
const names = positionals.length > 0 ? positionals : DEFAULT;
const unknown = names.filter((name) => !(name in BENCHMARKS));
if (unknown.length > 0) {
  process.stderr.write(
    `no benchmark is called ${unknown.join(", ")}: there are ${Object.keys(BENCHMARKS).join(", ")}\n`,
  );
  process.exit(2);
}

// Whatever waits for a program that ends fails, and cleans up after itself on the way out.
let interrupted = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    interrupted = true;
    void stopAllPrograms();
  });
}

const say = (message: string) => process.stderr.write(`${message}\n`);
const machine = describeMachine();
say(machineLine(machine));
const results: Result[] = [];
for (const name of names) {
  say(`${name} ...`);
  try {
    results.push(...(await BENCHMARKS[name]!({ quick: options.quick, profileDir: options.profile, say })));
  } catch (error) {
    // What the others find is still worth having.
    say(`${name} failed: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
    if (interrupted) break;
  }
}
process.stdout.write(options.json ? `${JSON.stringify({ machine, results }, null, 2)}\n` : `${textTable(results)}\n`);
if (options.markdown && process.exitCode === undefined) {
  const command = ["npm run bench --", ...process.argv.slice(2)].join(" ");
  writeReport({ machine, command, quick: options.quick, results });
}
