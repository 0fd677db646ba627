import { totalmem } from "node:os";

interface Setting {
  readonly name: string;
  readonly value: string;
  readonly reason: string;
}

const MIB = 1024 * 1024;

/** Given on the command line, so that neither postgresql.conf nor ALTER SYSTEM can take the promise of a 201 away. */
export const DURABILITY: readonly string[] = ["fsync=on", "full_page_writes=on", "synchronous_commit=on"];

function defaults(): Setting[] {
  // A container's limit where there is one: constrainedMemory() is 0 or huge when there is none.
  const limit = process.constrainedMemory();
  const memoryMib = Math.floor((limit > 0 ? Math.min(limit, totalmem()) : totalmem()) / MIB);
  const buffersMib = Math.min(1024, Math.max(128, Math.floor(memoryMib / 8)));
  return [
    { name: "max_connections", value: "100", reason: "several replicas with their pools, and room for an operator" },
    {
      name: "shared_buffers",
      value: `${buffersMib}MB`,
      reason:
        "an eighth of the memory, 128 MB to 1 GB: the log's end and its indexes stay in it, the rest is the page cache's",
    },
    {
      name: "effective_cache_size",
      value: `${Math.max(256, Math.floor(memoryMib / 2))}MB`,
      reason: "what the planner may expect of the page cache beside a Node process",
    },
    { name: "work_mem", value: "16MB", reason: "sorts of a page of entries stay in memory; there are few at once" },
    { name: "maintenance_work_mem", value: "128MB", reason: "building an index of a month's partition" },
    { name: "wal_buffers", value: "16MB", reason: "one commit of thousands of entries is written in one go" },
    {
      name: "max_wal_size",
      value: "2GB",
      reason: "after each checkpoint every page is logged whole once; fewer checkpoints, less of that",
    },
    { name: "min_wal_size", value: "256MB", reason: "WAL files are recycled instead of made anew in the commit path" },
    { name: "checkpoint_timeout", value: "15min", reason: "as max_wal_size; a crash still recovers in seconds" },
    { name: "wal_compression", value: "pglz", reason: "halves the full-page writes; this build has no lz4 or zstd" },
    { name: "random_page_cost", value: "1.1", reason: "solid-state disks" },
    { name: "jit", value: "off", reason: "short queries: compiling costs more than it saves" },
    { name: "timezone", value: "UTC", reason: "times are UTC everywhere in the log" },
    { name: "log_timezone", value: "UTC", reason: "PostgreSQL's log reads like the server's" },
    { name: "logging_collector", value: "on", reason: "the log outlives the server that started PostgreSQL" },
    { name: "log_directory", value: "log", reason: "inside the data directory" },
    {
      name: "log_filename",
      value: "postgresql-%a.log",
      reason: "one file a weekday, overwritten after a week: bounded",
    },
    { name: "log_rotation_age", value: "1d", reason: "as log_filename" },
    { name: "log_rotation_size", value: "0", reason: "as log_filename" },
    { name: "log_truncate_on_rotation", value: "on", reason: "as log_filename" },
    { name: "log_line_prefix", value: "%m [%p] %u@%d ", reason: "who did it, and when to the millisecond" },
    { name: "log_lock_waits", value: "on", reason: "a writer that waits a second for a log's lock is worth a line" },
  ];
}

/**
 * The text of `tallystick.conf`: the defaults for this machine, each with its reason, with `overrides` in place of
 * or after them. Read by PostgreSQL before the operator's own lines in postgresql.conf, which therefore win.
 */
export function settingsFile(overrides: Readonly<Record<string, string>>): string {
  const known = defaults();
  const names = new Set(known.map((setting) => setting.name));
  const extra = Object.entries(overrides).filter(([name]) => !names.has(name));
  const lines = [
    "# Written by Tallystick at every start; changes made here are lost.",
    "# Your own settings go to the end of postgresql.conf, or to ALTER SYSTEM: both win over these.",
    ...known.flatMap(({ name, value, reason }) => ["", `# ${reason}`, assignment(name, overrides[name] ?? value)]),
    ...extra.flatMap(([name, value]) => [
      "",
      "# given by the program that started PostgreSQL",
      assignment(name, value),
    ]),
  ];
  return `${lines.join("\n")}\n`;
}

function assignment(name: string, value: string): string {
  return `${name} = '${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
