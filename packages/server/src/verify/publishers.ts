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
import {
  applyServiceChange,
  hadToBeSigned,
  isServiceChange,
  SERVICE_CHANGED,
  type SignedOnlyChange,
  type SignedOnlyHistory,
  settingsSucceeding,
} from "@tallystick/core/signed-only";
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

/** What the log's entries tell of its publishers. Plain data. */
export interface PublisherHistory {
  readonly keys: PublisherKeyHistory;
  readonly signedOnly: SignedOnlyHistory;
}

/** The log's publishers as they are when a verification begins. */
export interface PublisherFacts {
  readonly history: PublisherHistory;
  /** Entries of the log that tell of keys, or of services that must sign. */
  readonly keyChanges: number;
  /** What these entries do not say as they should; those of earlier logs are named when these are verified. */
  readonly bad: readonly PublisherError[];
  /** Rows of publisher_keys; undefined for a log that has a successor, in which they may have been changed since. */
  readonly rows: readonly KeyRow[] | undefined;
  /** Rows of services; undefined as well for such a log. */
  readonly services: readonly ServiceRow[] | undefined;
}

interface ServiceRow {
  readonly serviceId: string;
  readonly signedOnly: boolean;
  readonly changedAt: string;
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

/** Reads what tells of the publishers of a log of `size`, and of those before it. To be read with the log's newest head. */
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
  let keys = new Map<string, PublisherKey>();
  let signedOnly = new Map<string, readonly SignedOnlyChange[]>();
  let keyChanges = 0;
  let bad: PublisherError[] = [];
  for (const each of logs) {
    keys = succeeding(keys);
    signedOnly = settingsSucceeding(signedOnly);
    bad = [];
    const leaves = await readKeyChanges(client, each.logId, each.logId === log.logId ? size : each.size);
    keyChanges = leaves.length;
    for (const leaf of leaves) {
      try {
        if (isServiceChange(leaf)) applyServiceChange(signedOnly, leaf);
        else applyKeyChange(keys, leaf);
      } catch (error) {
        if (!(error instanceof PublisherError)) throw error;
        bad.push(error);
      }
    }
  }
  const current = logs.at(-1)?.current ?? true;
  return {
    history: { keys, signedOnly },
    keyChanges,
    bad,
    rows: current ? await readRows(client, log.tenantId) : undefined,
    services: current ? await readServices(client, log.tenantId) : undefined,
  };
}

async function readKeyChanges(client: pg.ClientBase, logId: number, size: number): Promise<Leaf[]> {
  const terms = [...Object.values(KEY_ACTIONS), SERVICE_CHANGED].map((action) => termHash(logId, "action", action));
  const { rows } = await client.query<{ leaf: string }>(
    `select e.leaf from tallystick.positions_of($1, $2, $3) found
     join tallystick.entries e on e.log_id = $1 and e.seq = found.seq and e.recorded_at = found.recorded_at order by e.seq`,
    [logId, size, terms],
  );
  return rows.flatMap(({ leaf }) => {
    try {
      const parsed = parseLeaf(leaf);
      return isKeyChange(parsed) || isServiceChange(parsed) ? [parsed] : []; // terms are hashes, which may collide
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

async function readServices(client: pg.ClientBase, tenantId: string): Promise<ServiceRow[]> {
  const { rows } = await client.query<ServiceRow>(
    `select s.service_id as "serviceId", s.signed_only as "signedOnly", ${TIME("s.changed_at")} as "changedAt"
     from tallystick.services s where s.tenant_id = $1 order by s.service_id`,
    [tenantId],
  );
  return rows;
}

/**
 * Verifies the signatures of entries, and names those without one of services that were signed only. Both lists are in the order of
 * `seq`.
 */
export function checkSignatures(
  { keys, signedOnly }: PublisherHistory,
  entries: readonly CheckedEntry[],
  openings: readonly (Opening & { readonly seq: number })[],
  problems: ProblemList,
): SignatureCount {
  let [valid, erased] = [0, 0];
  let next = 0;
  for (const { seq, id, service, signed } of entries) {
    if (signed === undefined) {
      if (signedOnly.size === 0 || service === undefined || !hadToBeSigned(signedOnly, service.id, seq)) continue;
      const detail = `the service "${service.id}" was set to signed only, and no publisher has signed this entry`;
      problems.add({ seq, id, kind: "publisher", field: "publisher", expected: "a signature", detail });
      continue;
    }
    while (next < openings.length && openings[next]!.seq < seq) next++;
    let end = next;
    while (end < openings.length && openings[end]!.seq === seq) end++;
    // Openings that do not fit are named where openings are checked.
    openLeaf(signed, openings.slice(next, end));
    try {
      if (verifyPublisher(signed, keys) === "valid") valid++;
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
export function checkKeys({ history: { keys }, bad, rows }: PublisherFacts, problems: ProblemList): void {
  for (const { seq = null, field, message } of bad) {
    problems.add({ seq, id: null, kind: "publisher_key", ...(field !== undefined && { field }), detail: message });
  }
  if (rows === undefined) return;
  const byId = new Map(rows.map((row) => [row.keyId, row]));
  for (const [keyId, key] of keys) {
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
    if (keys.has(keyId)) continue;
    const detail = `publisher_keys has ${keyId}, of which no entry of the log tells`;
    problems.add({ seq: null, id: null, kind: "publisher_key", field: "key_id", stored: keyId, detail });
  }
}

/** Names rows of services that are not what the entries tell. */
export function checkServices({ history: { signedOnly }, services }: PublisherFacts, problems: ProblemList): void {
  if (services === undefined) return;
  const byId = new Map(services.map((row) => [row.serviceId, row]));
  const problem = (seq: number | null, field: string, stored: string, expected: string, detail: string) =>
    problems.add({ seq, id: null, kind: "service", field, stored, expected, detail });
  for (const [serviceId, changes] of signedOnly) {
    const { seq: told, signedOnly: expected, recordedAt } = changes.at(-1)!;
    const seq = told < 0 ? null : told;
    const row = byId.get(serviceId);
    if (row === undefined) {
      const detail = `the log tells whether "${serviceId}" is signed only, and services has no such row`;
      problem(seq, "service_id", "null", serviceId, detail);
      continue;
    }
    const detail = `the column of "${serviceId}" in services is not what the log's entries tell`;
    if (row.signedOnly !== expected) problem(seq, "signed_only", `${row.signedOnly}`, `${expected}`, detail);
    if (row.changedAt !== recordedAt) problem(seq, "changed_at", row.changedAt, recordedAt, detail);
  }
  for (const { serviceId } of services) {
    if (signedOnly.has(serviceId)) continue;
    problem(null, "service_id", serviceId, "null", `services has "${serviceId}", of which no entry of the log tells`);
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
