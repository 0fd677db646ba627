/**
 * The columns beside a leaf: derived from it, there only to be searched, derived again and compared by every verification.
 */
import { hash } from "node:crypto";
import type { Actor, Event } from "@tallystick/core/event";
import type { TermField } from "@tallystick/core/filter";

/** Raised with every change to what {@link deriveColumns} makes of an event; each row says which version made it. */
export const COLUMNS_VERSION = 1;

/** Entries of one block have its number in their terms (sql/0005_search.sql). */
const BLOCK_ENTRIES = 65_536;

export interface Columns {
  /** As sent; absent where the client sent none. */
  readonly occurredAt: string | undefined;
  readonly action: string;
  /** Hashes of the entry's field values, without the block. Values never repeat. */
  readonly termHashes: readonly number[];
}

/** A field's default, which has no term: nearly every entry would have it, and finding it by the index would find them all. */
export const TERMLESS_DEFAULTS: { readonly [field in TermField]?: string } = {
  actor_type: "user",
  outcome: "success",
  severity: "INFO",
};

/** Fields whose values hardly ever come again: remembering their terms would only push out others. */
const SELDOM_REPEATED: ReadonlySet<string> = new Set([
  "request_id",
  "trace_id",
  "session_id",
  "resource_id",
  "publisher",
]);

const MAX_REMEMBERED_VALUES = 20_000;
const MAX_REMEMBERED_LOGS = 500;
const remembered = new Map<number, Map<string, Map<string, number>>>();

/**
 * The first 4 bytes of SHA-256(log id 0x00 field 0x00 value), as an unsigned number. With the log in it, because one index serves
 * all logs: a look-up in one must not meet what the others have of a common value.
 */
export function termHash(logId: number, field: string, value: string): number {
  if (SELDOM_REPEATED.has(field)) return hashOf(logId, field, value);
  const values = rememberedValues(logId, field);
  let term = values.get(value);
  if (term === undefined) {
    term = hashOf(logId, field, value);
    values.set(value, term);
  }
  return term;
}

function rememberedValues(logId: number, field: string): Map<string, number> {
  let fields = remembered.get(logId);
  if (fields === undefined) {
    if (remembered.size >= MAX_REMEMBERED_LOGS) remembered.clear();
    fields = new Map();
    remembered.set(logId, fields);
  }
  let values = fields.get(field);
  if (values === undefined || values.size >= MAX_REMEMBERED_VALUES) {
    values = new Map();
    fields.set(field, values);
  }
  return values;
}

function hashOf(logId: number, field: string, value: string): number {
  // A binary string is the form that crypto.hash makes fastest: 300 ns, against 400 for hex that is parsed again.
  const digest = hash("sha256", `${logId}\0${field}\0${value}`, "binary");
  const byte = (index: number) => digest.charCodeAt(index);
  return ((byte(0) << 24) | (byte(1) << 16) | (byte(2) << 8) | byte(3)) >>> 0;
}

/** The term of a value at a position: what `tallystick.term` makes of the same field and value. */
export function termAt(termHash: number, seq: number): number {
  return Math.floor(seq / BLOCK_ENTRIES) * 2 ** 32 + termHash; // exact up to 2^53: for the first 10^11 entries of a log
}

/** Derives the columns of an event in its canonical spelling, its commitments in place. Committed values reach no column. */
export function deriveColumns(logId: number, event: Event, serviceId: string): Columns {
  const terms: number[] = [];
  const add = (field: TermField, value: string | undefined) => {
    if (value === undefined || TERMLESS_DEFAULTS[field] === value) return;
    const term = termHash(logId, field, value);
    if (!terms.includes(term)) terms.push(term);
  };
  add("action", event.action);
  add("actor_id", event.actor.id);
  add("actor_type", event.actor.type);
  for (let actor: Actor | undefined = event.actor.on_behalf_of; actor; actor = actor.on_behalf_of) {
    add("on_behalf_of_id", actor.id);
  }
  add("resource_type", event.resource?.type);
  add("resource_id", event.resource?.id);
  for (const related of event.related ?? []) {
    add("resource_type", related.type);
    add("resource_id", related.id);
  }
  add("outcome", event.outcome);
  add("severity", event.severity);
  add("operation", event.operation);
  add("event_type", event.event_type);
  add("service_id", serviceId);
  add("request_id", event.context?.request_id);
  add("session_id", event.context?.session_id);
  add("trace_id", event.context?.trace_id);
  return { occurredAt: event.occurred_at, action: event.action, termHashes: terms };
}

/**
 * The term of an opening, whose field is the last token of its pointer: `ip` for `/event/context/ip`. `value` is JCS; of a string
 * the term is that of what it says, of anything else, such as a `publisher`, that of the JCS text.
 */
export function openingTerm(logId: number, pointer: string, value: string): number {
  const said: unknown = JSON.parse(value);
  return termHash(logId, pointer.slice(pointer.lastIndexOf("/") + 1), typeof said === "string" ? said : value);
}
