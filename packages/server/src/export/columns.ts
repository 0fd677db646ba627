/**
 * Columns of a CSV export: what each has of an entry. Defaults apply, as they do when reading and filtering.
 */
import { actorTypeOf, occurredAtOf, outcomeOf, severityOf } from "@tallystick/core/defaults";
import { toHex } from "@tallystick/core/hex";
import type { Leaf } from "@tallystick/core/leaf";
import type { Entry } from "../log/reader.ts";

/** What stands in a column; undefined where the entry has nothing there. */
export interface Column {
  readonly name: string;
  readonly read: (entry: Entry) => unknown;
}

/** Columns by name, in the order in which they come unless others are chosen. */
const OF_ENTRY: Readonly<Record<string, (entry: Entry) => unknown>> = {
  seq: ({ seq }) => seq,
  id: ({ id }) => id,
  recorded_at: ({ recordedAt }) => recordedAt,
  occurred_at: ({ opened, recordedAt }) => occurredAtOf(opened.event, recordedAt),
  service_id: ({ opened }) => opened.service.id,
  action: ofEvent((event) => event.action),
  actor_type: ofEvent(({ actor }) => actor && actorTypeOf(actor)),
  actor_id: ofEvent(({ actor }) => actor?.id),
  actor_name: ofEvent(({ actor }) => actor?.name),
  actor_email: ofEvent(({ actor }) => actor?.email),
  on_behalf_of_id: ofEvent(({ actor }) => actor?.on_behalf_of?.id),
  resource_type: ofEvent(({ resource }) => resource?.type),
  resource_id: ofEvent(({ resource }) => resource?.id),
  resource_name: ofEvent(({ resource }) => resource?.name),
  outcome: ofEvent((event) => outcomeOf(event)),
  severity: ofEvent((event) => severityOf(event)),
  operation: ofEvent((event) => event.operation),
  event_type: ofEvent((event) => event.event_type),
  reason: ofEvent((event) => event.reason),
  description: ofEvent((event) => event.description),
  request_id: ofEvent(({ context }) => context?.request_id),
  session_id: ofEvent(({ context }) => context?.session_id),
  trace_id: ofEvent(({ context }) => context?.trace_id),
  ip: ofEvent(({ context }) => context?.ip),
  user_agent: ofEvent(({ context }) => context?.user_agent),
  related: ofEvent((event) => event.related),
  changes: ofEvent((event) => event.changes),
  metadata: ofEvent((event) => event.metadata),
  leaf_hash: ({ leafHash }) => toHex(leafHash),
};

/** Columns that are there for those who ask for them. */
const FURTHER: Readonly<Record<string, (entry: Entry) => unknown>> = {
  service_seq: ({ opened }) => opened.service.seq,
  service_prev: ({ opened }) => opened.service.prev,
  actor: ofEvent((event) => event.actor),
  on_behalf_of: ofEvent(({ actor }) => actor?.on_behalf_of),
  resource: ofEvent((event) => event.resource),
  http_method: ofEvent(({ context }) => context?.http?.method),
  http_route: ofEvent(({ context }) => context?.http?.route),
  http_status: ofEvent(({ context }) => context?.http?.status),
  version: ofEvent((event) => event.version),
  sequence: ofEvent((event) => event.sequence),
  attachments: ofEvent((event) => event.attachments),
  idempotency_key: ofEvent((event) => event.idempotency_key),
  publisher_key_id: ({ opened }) => (opened.publisher as { key_id?: unknown } | undefined)?.key_id,
};

/** Objects whose members can be columns, by what their names begin with. */
const OBJECTS: Readonly<Record<string, (event: Leaf["event"]) => unknown>> = {
  "metadata.": (event) => event.metadata,
  "changes.before.": ({ changes }) => changes?.before,
  "changes.after.": ({ changes }) => changes?.after,
  "actor.attributes.": ({ actor }) => actor?.attributes,
  "resource.attributes.": ({ resource }) => resource?.attributes,
};

/** More than a spreadsheet shows anyone; what a row costs grows with it. */
const MAX_COLUMNS = 200;

export const DEFAULT_COLUMNS: readonly string[] = Object.keys(OF_ENTRY);
export const FURTHER_COLUMNS: readonly string[] = Object.keys(FURTHER);
export const COLUMN_OBJECTS: readonly string[] = Object.keys(OBJECTS);

/**
 * The columns of these names, the usual ones where none is given. Every name that there is no column of, or that is there twice, is
 * told to `refuse`; what is returned then is not to be used.
 */
export function columnsOf(names: readonly string[] | undefined, refuse: (message: string) => void): Column[] {
  const columns: Column[] = [];
  const seen = new Set<string>();
  const wanted = names ?? DEFAULT_COLUMNS;
  if (wanted.length > MAX_COLUMNS) refuse(`must name at most ${MAX_COLUMNS} columns, not ${wanted.length}`);
  for (const name of wanted.slice(0, MAX_COLUMNS)) {
    const read = readerOf(name);
    if (read === undefined) {
      const objects = COLUMN_OBJECTS.map((start) => `${start}<key>`);
      const known = [...DEFAULT_COLUMNS, ...FURTHER_COLUMNS, ...objects].join(", ");
      refuse(`must name columns, which "${name.slice(0, 100)}" is not; there are ${known}`);
    } else if (seen.has(name)) refuse(`names the column "${name.slice(0, 100)}" twice`);
    else columns.push({ name, read });
    seen.add(name);
  }
  return columns;
}

function readerOf(name: string): Column["read"] | undefined {
  const known = Object.hasOwn(OF_ENTRY, name)
    ? OF_ENTRY[name]
    : Object.hasOwn(FURTHER, name)
      ? FURTHER[name]
      : undefined;
  if (known !== undefined) return known;
  const start = COLUMN_OBJECTS.find((one) => name.startsWith(one));
  if (start === undefined) return undefined;
  const keys = name.slice(start.length).split(".");
  if (keys.includes("")) return undefined;
  const objectOf = OBJECTS[start]!;
  return ({ opened }) => memberAt(objectOf(opened.event), keys);
}

/** Keys may have dots in them themselves: of several ways to read a path the one with the longest first key is taken. */
function memberAt(value: unknown, keys: readonly string[]): unknown {
  if (keys.length === 0) return value;
  if (typeof value !== "object" || value === null) return undefined;
  for (let length = keys.length; length > 0; length--) {
    const key = keys.slice(0, length).join(".");
    if (!Object.hasOwn(value, key)) continue;
    const found = memberAt((value as Record<string, unknown>)[key], keys.slice(length));
    if (found !== undefined) return found;
  }
  return undefined;
}

function ofEvent(read: (event: Leaf["event"]) => unknown): (entry: Entry) => unknown {
  return ({ opened }) => read(opened.event);
}
