/**
 * What the figures were measured on.
 */
import { statfsSync } from "node:fs";
import { availableParallelism, cpus, loadavg, tmpdir, totalmem } from "node:os";
import { findPostgresVersion } from "./postgres-version.ts";

const TMPFS_MAGIC = 0x01021994;

export interface Machine {
  readonly cores: number;
  readonly cpu: string;
  readonly memoryGiB: number;
  readonly node: string;
  readonly postgres: string;
  /** Programs that wanted a core in the minute before: more than a few tenths, and the figures are shared with others. */
  readonly loadBefore: number;
  /** The data lies in memory, where fsync costs nothing: the figures say nothing about a disk. */
  readonly inMemory: boolean;
}

export function describeMachine(): Machine {
  return {
    cores: availableParallelism(),
    cpu: cpus()[0]?.model ?? "unknown",
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    node: process.versions.node,
    postgres: findPostgresVersion(),
    loadBefore: Math.round(loadavg()[0]! * 10) / 10,
    inMemory: process.platform === "linux" && statfsSync(tmpdir()).type === TMPFS_MAGIC,
  };
}

export function machineLine({ cores, cpu, memoryGiB, node, postgres, loadBefore, inMemory }: Machine): string {
  const warning = inMemory ? "; DATA IN MEMORY, set TMPDIR to a directory on a disk" : "";
  return `${cores} cores (${cpu}), ${memoryGiB} GiB, Node ${node}, PostgreSQL ${postgres}, load ${loadBefore} before${warning}`;
}
