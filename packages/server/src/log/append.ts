/**
 * The commit protocol of the log, whole and in order. Everything an answer promises (docs/spec, section 4) is decided here.
 */

import type { TreeEdge } from "@tallystick/core/edge";
import { toHex } from "@tallystick/core/hex";
import { leafText, NO_PREVIOUS } from "@tallystick/core/leaf";
import type pg from "pg";
import { CommitUnknownError, type Transaction } from "../db/database.ts";
import { isConnectionError } from "../db/unavailable.ts";
import type { Edges, Head } from "./edges.ts";
import { AppendError } from "./errors.ts";
import { entryId } from "./id.ts";
import { EntryRows, insertHeads, type ServiceHead } from "./insert.ts";
import type { Idempotency, PreparedEvent } from "./prepare.ts";
import {
  type KeyWindow,
  lockLogs,
  type RecordedKey,
  readKeyWindows,
  readRecordedKeys,
  readServiceHeads,
  readSignedOnly,
  serviceKey,
} from "./start-state.ts";

/** One request's events, which are recorded together or not at all. */
export interface AppendRequest {
  readonly logId: number;
  /** Placed after `alongside`, which may put others of the same services in their place: what it has found decides what they say. */
  readonly events: readonly PreparedEvent[];
  /** With `partial` an event whose idempotency key was used for another body fails alone, not its whole request. */
  readonly partial: boolean;
  /**
   * What is to be done in the same transaction, with the log's lock held and before the entries are placed: the change that the
   * events tell of. The entry and the change are both there or neither. What it throws refuses the request (`refused`).
   *
   * @param recordedAt the time that the entries will have.
   */
  readonly alongside?: (client: pg.ClientBase, recordedAt: string) => Promise<unknown>;
}

/** What the answer to a write says of one event. */
export interface Recorded {
  readonly id: string;
  readonly seq: number;
  readonly recordedAt: string;
  readonly leafHash: Uint8Array;
  /** The event had been recorded before, under the same idempotency key and with the same body. */
  readonly duplicate: boolean;
}

/** What became of one request: an outcome for each event, in order, or the error that refused it. */
export type AppendOutcome = readonly (Recorded | AppendError)[] | AppendError;

/** What a commit says and where it left the logs; true only once it is known to be in the database. */
export interface Commit {
  /** One for each request, in order. */
  readonly outcomes: readonly AppendOutcome[];
  /** The edge of each log that grew. */
  readonly edges: ReadonlyMap<number, TreeEdge>;
}

/** COMMIT was sent and its answer did not come, or came with a warning: the commit may be in the database or not. */
export class UnsettledError extends Error {
  readonly commit: Commit;
  constructor(commit: Commit, cause: unknown) {
    super("the outcome of a COMMIT is unknown", { cause });
    this.name = "UnsettledError";
    this.commit = commit;
  }
}

interface LogState {
  readonly logId: number;
  readonly tenantId: string;
  readonly name: string;
  readonly recordedAt: string;
  readonly recordedAtMs: number;
  readonly edge: TreeEdge;
  readonly services: Map<string, ServiceHead>;
  readonly touched: Set<string>;
  /** Entries that have not been sent yet. */
  rows: EntryRows | undefined;
  readonly sliceEntries: number;
}

/** Entries of one statement, about: small enough that the database starts early, large enough that statements cost nothing. */
const SLICE_ENTRIES = 500;

/** Settings of the protocol. */
export interface AppendLimits {
  /** How far back an idempotency key is remembered, in ms. */
  readonly idempotencyWindowMs: number;
  /** Greatest difference between the database's clock and ours, in ms. */
  readonly maxClockSkewMs: number;
  /** Our clock, in ms since the Unix epoch. */
  readonly now: () => number;
  /** Asked about the head that a log has, before anything is put on top of it; its log's lock is held meanwhile. Throws an {@link AppendError}. */
  readonly checkHead?:
    | ((log: { readonly logId: number; readonly name: string }, head: Head) => Promise<void> | undefined)
    | undefined;
}

/**
 * Appends a batch of requests, to any number of logs, in one transaction. Returns when PostgreSQL has answered COMMIT without
 * error or warning, and not before.
 *
 * @throws {AppendError} `clock_skew`, `inconsistent`, `refused`, or what `checkHead` throws: nothing was recorded.
 * @throws {UnsettledError} the outcome has to be settled ({@link isCommitted}) before these logs are appended to again.
 * @throws what the driver throws before COMMIT was sent, or PostgreSQL's reason for rolling back: nothing was recorded.
 */
export async function commitBatch(
  transaction: Transaction,
  requests: readonly AppendRequest[],
  edges: Edges,
  limits: AppendLimits,
): Promise<Commit> {
  // 1. Lock the logs in id order, then read the clock, the heads, the chains and the keys: one round trip.
  const client = transaction.client;
  const [locked, chains, keys, windows, signedOnly] = await transaction.together([
    lockLogs(client, new Set(requests.map((request) => request.logId))),
    readServiceHeads(client, requests),
    readRecordedKeys(client, requests, new Date(limits.now() - limits.idempotencyWindowMs)),
    readKeyWindows(client, requests),
    readSignedOnly(client, requests),
  ]);

  // 2. With the locks held nothing below can change but by us. A crash from here to COMMIT leaves no trace.
  const logs = new Map<number, LogState>();
  const sliceEntries = Math.min(
    SLICE_ENTRIES,
    requests.reduce((sum, { events }) => sum + events.length, 0),
  );
  for (const row of locked) {
    const skewMs = Math.abs(row.clock_ms - limits.now());
    if (skewMs > limits.maxClockSkewMs) {
      throw new AppendError(
        "clock_skew",
        `the database's clock and this server's differ by ${Math.round(skewMs / 1000)} s: set both by NTP`,
      );
    }
    const head: Head = { size: Number(row.size), root: row.root };
    const checking = limits.checkHead?.({ logId: row.log_id, name: row.name }, head);
    if (checking !== undefined) await checking;
    logs.set(row.log_id, {
      logId: row.log_id,
      tenantId: row.tenant_id,
      name: row.name,
      recordedAt: row.recorded_at,
      recordedAtMs: Date.parse(row.recorded_at),
      edge: await edges.at(client, row.log_id, head),
      services: new Map(),
      touched: new Set(),
      rows: undefined,
      sliceEntries,
    });
  }
  for (const { logId } of requests) {
    if (!logs.has(logId)) throw new AppendError("succeeded", "the log has a successor since a moment ago: try again");
  }
  for (const { log_id, service_id, seq, leaf_hash } of chains) {
    logs.get(log_id)?.services.set(service_id, { seq: Number(seq), leafHash: leaf_hash });
  }
  for (const { alongside, logId } of requests) {
    if (alongside === undefined) continue;
    await refusing(alongside(client, logs.get(logId)!.recordedAt));
    // Where a setting changes in this very commit, the stricter one counts for all of it: which entry stands above is not known yet.
    for (const service of await readSignedOnly(client, requests)) signedOnly.add(service);
  }

  // A key that is revoked in this very commit signs nothing in it.
  const keyWindows = requests.some(({ alongside }) => alongside !== undefined)
    ? await readKeyWindows(client, requests)
    : windows;
  const rules: PublisherRules = { windows: keyWindows, signedOnly };

  // 3. Give each event its place, in the order of arrival: seq, chain, leaf, tree. Entries are sent in slices, so that the
  //    database inserts the first ones while we place the next.
  const sent: Promise<unknown>[] = [];
  const send = (log: LogState) => {
    if (log.rows === undefined) return;
    for (const query of log.rows.insert(client, log)) sent.push(heard(query));
    log.rows = undefined;
  };
  const outcomes: AppendOutcome[] = [];
  for (const request of requests) {
    const log = logs.get(request.logId)!;
    outcomes.push(appendRequest(log, request, keys, rules));
    if (log.rows !== undefined && log.rows.count >= sliceEntries) send(log);
  }

  // 4. Send the rest, tiles, heads and COMMIT in one go. The data is durable when COMMIT returns, and not before; if we crash
  //    between, the client has no answer, retries with its key, and finds this very entry.
  const changed = [...logs.values()].filter((log) => log.touched.size > 0);
  for (const log of changed) {
    send(log);
    sent.push(...insertHeads(client, log));
  }
  const commit = { outcomes, edges: new Map(changed.map((log) => [log.logId, log.edge])) };
  try {
    await transaction.commit(sent);
  } catch (error) {
    throw error instanceof CommitUnknownError ? new UnsettledError(commit, error) : error;
  }
  for (const [logId, edge] of commit.edges) edges.keep(logId, edge);
  return commit;
}

/**
 * Whether a commit whose answer was lost is in the database. Taking the locks waits for the lost transaction to end, so that
 * the answer is final. All of it was one transaction: one head speaks for all.
 */
export async function isCommitted(transaction: Transaction, commit: Commit): Promise<boolean> {
  const [first] = commit.edges;
  if (first === undefined) return true; // only duplicates: they had been committed before
  const [logId, edge] = first;
  const [, found] = await transaction.together([
    transaction.client.query("select from tallystick.lock_logs($1)", [[...commit.edges.keys()]]),
    transaction.client.query<{ found: boolean }>("select tallystick.has_head($1, $2, $3) as found", [
      logId,
      edge.size,
      Buffer.from(edge.root()),
    ]),
  ]);
  await transaction.commit([]);
  return found.rows[0]!.found;
}

/** Places the events of one request, or none of them. Keys that it records are in `keys` for the requests behind it. */
function appendRequest(
  log: LogState,
  request: AppendRequest,
  keys: Map<string, RecordedKey>,
  rules: PublisherRules,
): AppendOutcome {
  const refusal = request.partial ? undefined : refusalOf(log, request.events, keys, rules);
  if (refusal !== undefined) return refusal;
  return request.events.map((event, index) => {
    const { idempotency = [] } = event;
    const earlier = recordedUnder(idempotency, keys);
    if (earlier === "reused") return keyReused(index);
    if (earlier !== undefined) return duplicateOf(earlier);
    const invalid = invalidPublisher(log, event, rules, index);
    if (invalid !== undefined) return invalid;
    const recorded = place(log, event);
    for (const { key, requestHash } of idempotency) keys.set(key, { ...recorded, requestHash });
    return recorded;
  });
}

/** Why a request whose events are recorded together or not at all is not. */
function refusalOf(
  log: LogState,
  events: readonly PreparedEvent[],
  keys: ReadonlyMap<string, RecordedKey>,
  rules: PublisherRules,
): AppendError | undefined {
  const hashes = new Map<string, string>();
  for (const [index, event] of events.entries()) {
    let isKnown = false;
    for (const { key, requestHash } of event.idempotency ?? []) {
      const known = keys.get(key)?.requestHash ?? hashes.get(key);
      if (known !== undefined && known !== requestHash) return keyReused(index);
      isKnown ||= known !== undefined;
      hashes.set(key, requestHash);
    }
    const invalid = isKnown ? undefined : invalidPublisher(log, event, rules, index);
    if (invalid !== undefined) return invalid;
  }
  return undefined;
}

/** What was recorded under any of an event's keys; `reused` where one of them was used for something else. */
function recordedUnder(
  idempotency: readonly Idempotency[],
  keys: ReadonlyMap<string, RecordedKey>,
): RecordedKey | "reused" | undefined {
  let found: RecordedKey | undefined;
  for (const { key, requestHash } of idempotency) {
    const earlier = keys.get(key);
    if (earlier === undefined) continue;
    if (earlier.requestHash !== requestHash) return "reused";
    found ??= earlier;
  }
  return found;
}

/** What publishers may do now. */
interface PublisherRules {
  readonly windows: ReadonlyMap<string, KeyWindow>;
  /** Services whose events are taken signed only, by `serviceKey`. */
  readonly signedOnly: ReadonlySet<string>;
}

/** What an unsigned event of a service that is signed only is told. */
export function unsignedMessage(serviceId: string): string {
  return `the service "${serviceId}" is set to signed only: send signature and public_key_id with each of its events`;
}

/** Why the key that signed an event may not sign what is recorded now, or why an unsigned one has to be signed. */
function invalidPublisher(
  { logId, recordedAt }: LogState,
  { publisher, serviceId }: PreparedEvent,
  { windows, signedOnly }: PublisherRules,
  index: number,
): AppendError | undefined {
  if (publisher === undefined) {
    if (signedOnly.size === 0 || !signedOnly.has(serviceKey(logId, serviceId))) return undefined;
    return new AppendError("signature_required", unsignedMessage(serviceId), { index });
  }
  const window = windows.get(publisher.key);
  if (window === undefined) {
    return new AppendError("key_revoked", "the key is revoked: sign with another", { index });
  }
  if (recordedAt < window.from) {
    return new AppendError("key_not_yet_valid", `the key is not valid before ${window.from}`, { index });
  }
  if (window.to !== null && recordedAt >= window.to) {
    return new AppendError("key_expired", `the key was valid until ${window.to}: sign with a newer one`, { index });
  }
  return undefined;
}

/** What is done alongside an entry, its failure as the refusal of the request that wants it. */
async function refusing(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (cause) {
    if (isConnectionError(cause) || cause instanceof AppendError) throw cause;
    throw new AppendError("refused", "what the entry tells of could not be done: nothing was recorded", { cause });
  }
}

/** A query whose failure is reported later, by COMMIT: nothing else has to hear of it. */
function heard<T>(query: Promise<T>): Promise<T> {
  query.catch(() => {});
  return query;
}

/** Makes the entry of an event at the end of the log. */
function place(log: LogState, event: PreparedEvent): Recorded {
  const previous = log.services.get(event.serviceId);
  const seq = log.edge.size;
  const id = entryId(log.recordedAtMs);
  log.rows ??= new EntryRows(seq, log.sliceEntries);
  const leaf = leafText(
    {
      log: log.name,
      seq,
      id,
      recordedAt: log.recordedAt,
      serviceId: event.serviceId,
      serviceSeq: previous === undefined ? 0 : previous.seq + 1,
      prev: previous === undefined ? NO_PREVIOUS : toHex(previous.leafHash),
    },
    event.json,
    event.publisher?.json,
  );
  const hash = log.rows.add(id, leaf, event);
  log.edge.append(hash);
  log.services.set(event.serviceId, { seq: previous === undefined ? 0 : previous.seq + 1, leafHash: hash });
  log.touched.add(event.serviceId);
  return { id, seq, recordedAt: log.recordedAt, leafHash: hash, duplicate: false };
}

function duplicateOf({ id, seq, recordedAt, leafHash }: RecordedKey): Recorded {
  return { id, seq, recordedAt, leafHash, duplicate: true };
}

function keyReused(index: number): AppendError {
  return new AppendError(
    "key_reused",
    "this idempotency key was used for another body: use a new key for a new event",
    { index },
  );
}
