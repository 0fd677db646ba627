/**
 * Publishers' signatures, by the keys that the log's own entries tell of; and the table of keys against those entries.
 */
import { type Opening, openLeaf } from "@tallystick/core/commitment";
import { type Leaf, LeafError, parseLeaf } from "@tallystick/core/leaf";
import { verifyPublisher } from "@tallystick/core/publisher";
import { PublisherError } from "@tallystick/core/publisher-error";
import {
  applyKeyChange,
  isKeyChange,
  KEY_ACTIONS,
  type PublisherKey,
  type PublisherKeyHistory,
  succeeding,
} from "@tallystick/core/publisher-keys";
import type pg from "pg";
import { TIME } from "../db/time.ts";
import { termHash } from "../log/columns.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { CheckedEntry } from "./entry.ts";
import type { ProblemList } from "./report.ts";

/** How many signatures there are. */
export interface SignatureCount {
  /** They verify, by keys that were valid then. */
  readonly valid: number;
  /** They, or values that they cover, have been erased, which is no problem. */
  readonly erased: number;
}

/** The log's publisher keys as they are when a verification begins. */
export interface PublisherFacts {
  readonly history: PublisherKeyHistory;
  /** Entries of the log that tell of keys. */
  readonly keyChanges: number;
  /** What these entries do not say as they should; those of earlier logs are named when these are verified. */
  readonly bad: readonly PublisherError[];
  /** Rows of publisher_keys; undefined for a log that has a successor, in which they may have been changed since. */
  readonly rows: readonly KeyRow[] | undefined;
}

interface KeyRow {
  readonly keyId: string;
  readonly serviceId: string;
  readonly algorithm: string;
  readonly publicKeyPem: string;
  readonly validFrom: string;
  readonly validTo: string | null;
  readonly revokedAt: string | null;
}

/** Reads what tells of the keys of a log of `size`, and of those before it. To be read with the log's newest head. */
export async function readPublishers(client: pg.ClientBase, log: LogIdentity, size: number): Promise<PublisherFacts> {
  // Whoever may see all tenants has named none.
  await client.query("select set_config('tallystick.tenant_id', $1, true)", [log.tenantId]);
  const { rows: logs } = await client.query<{ logId: number; size: number; current: boolean }>(
    `with recursive line as (
       select id, predecessor_id, 0 as age from tallystick.logs where id = $1
       union all
       select l.id, l.predecessor_id, line.age + 1 from line join tallystick.logs l on l.id = line.predecessor_id
     )
     select line.id as "logId", coalesce((select h.size from tallystick.heads h where h.log_id = line.id order by h.size desc limit 1), 0)::float8 as size,
       not exists (select from tallystick.logs successor where successor.predecessor_id = line.id) as current
     from line order by age desc`,
    [log.logId],
  );
  let history = new Map<string, PublisherKey>();
  let keyChanges = 0;
  let bad: PublisherError[] = [];
  for (const each of logs) {
    history = succeeding(history);
    bad = [];
    const leaves = await readKeyChanges(client, each.logId, each.logId === log.logId ? size : each.size);
    keyChanges = leaves.length;
    for (const leaf of leaves) {
      try {
        applyKeyChange(history, leaf);
      } catch (error) {
        if (!(error instanceof PublisherError)) throw error;
        bad.push(error);
      }
    }
  }
  const current = logs.at(-1)?.current ?? true;
  return { history, keyChanges, bad, rows: current ? await readRows(client, log.tenantId) : undefined };
}

async function readKeyChanges(client: pg.ClientBase, logId: number, size: number): Promise<Leaf[]> {
  const terms = Object.values(KEY_ACTIONS).map((action) => termHash(logId, "action", action));
  const { rows } = await client.query<{ leaf: string }>(
    `select e.leaf from tallystick.positions_of($1, $2, $3) found
     join tallystick.entries e on e.log_id = $1 and e.seq = found.seq and e.recorded_at = found.recorded_at order by e.seq`,
    [logId, size, terms],
  );
  return rows.flatMap(({ leaf }) => {
    try {
      const parsed = parseLeaf(leaf);
      return isKeyChange(parsed) ? [parsed] : []; // terms are hashes, which may collide
    } catch (error) {
      if (error instanceof LeafError) return []; // named when the entry itself is checked
      throw error;
    }
  });
}

async function readRows(client: pg.ClientBase, tenantId: string): Promise<KeyRow[]> {
  const { rows } = await client.query<KeyRow>(
    `select k.service_id || ':v' || k.version as "keyId", k.service_id as "serviceId", k.algorithm, k.public_key_pem as "publicKeyPem",
       ${TIME("k.valid_from")} as "validFrom", ${TIME("k.valid_to")} as "validTo", ${TIME("k.revoked_at")} as "revokedAt"
     from tallystick.publisher_keys k where k.tenant_id = $1 order by k.service_id, k.version`,
    [tenantId],
  );
  return rows;
}

/** Verifies the signatures of entries. Both lists are in the order of `seq`. */
export function checkSignatures(
  history: PublisherKeyHistory,
  entries: readonly CheckedEntry[],
  openings: readonly (Opening & { readonly seq: number })[],
  problems: ProblemList,
): SignatureCount {
  let [valid, erased] = [0, 0];
  let next = 0;
  for (const { seq, id, signed } of entries) {
    if (signed === undefined) continue;
    while (next < openings.length && openings[next]!.seq < seq) next++;
    let end = next;
    while (end < openings.length && openings[end]!.seq === seq) end++;
    // Openings that do not fit are named where openings are checked.
    openLeaf(signed, openings.slice(next, end));
    try {
      if (verifyPublisher(signed, history) === "valid") valid++;
      else erased++;
    } catch (error) {
      if (!(error instanceof PublisherError)) throw error;
      problems.add({ seq, id, kind: "publisher", ...(end > next ? withoutValues(error) : factsOf(error)) });
    }
  }
  return { valid, erased };
}

function factsOf({ field = "publisher", stored, expected, message }: PublisherError) {
  return {
    field,
    ...(stored !== undefined && { stored }),
    ...(expected !== undefined && { expected }),
    detail: message,
  };
}

/**
 * What is told of an event with personal values: none of them, nor what would help to guess one. A report is kept
 * (`verifications`) where no erasure reaches it.
 */
function withoutValues(error: PublisherError): ReturnType<typeof factsOf> {
  const { code, field = "publisher", message } = error;
  switch (code) {
    case "bad_payload":
      return { field, detail: "the signed text makes no event" }; // why, may quote it
    case "other_event":
    case "bad_signature":
      return { field, detail: message };
    default:
      return factsOf(error);
  }
}

/** Names entries about keys that do not say what they should, and rows of publisher_keys that are not what the entries tell. */
export function checkKeys({ history, bad, rows }: PublisherFacts, problems: ProblemList): void {
  for (const { seq = null, field, message } of bad) {
    problems.add({ seq, id: null, kind: "publisher_key", ...(field !== undefined && { field }), detail: message });
  }
  if (rows === undefined) return;
  const byId = new Map(rows.map((row) => [row.keyId, row]));
  for (const [keyId, key] of history) {
    const registeredAt = key.changes[0]!.seq;
    const seq = registeredAt < 0 ? null : registeredAt;
    const row = byId.get(keyId);
    if (row === undefined) {
      const detail = `the log tells of the publisher key ${keyId}, and publisher_keys has no such row`;
      problems.add({ seq, id: null, kind: "publisher_key", field: "key_id", expected: keyId, detail });
      continue;
    }
    for (const [name, column] of COLUMNS) {
      const [stored, expected] = [row[name] ?? "null", key[name] ?? "null"];
      if (stored === expected) continue;
      const detail = `the column of ${keyId} in publisher_keys is not what the log's entries tell`;
      problems.add({ seq, id: null, kind: "publisher_key", field: column, stored, expected, detail });
    }
  }
  for (const { keyId } of rows) {
    if (history.has(keyId)) continue;
    const detail = `publisher_keys has ${keyId}, of which no entry of the log tells`;
    problems.add({ seq: null, id: null, kind: "publisher_key", field: "key_id", stored: keyId, detail });
  }
}

const COLUMNS = [
  ["serviceId", "service_id"],
  ["algorithm", "algorithm"],
  ["publicKeyPem", "public_key_pem"],
  ["validFrom", "valid_from"],
  ["validTo", "valid_to"],
  ["revokedAt", "revoked_at"],
] as const;
