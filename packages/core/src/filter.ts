/**
 * Filters: the parameters of a search, and what they ask of an entry.
 */
import { actorTypeOf, occurredAtOf, outcomeOf, severityOf } from "./defaults.ts";
import type { Actor, Event } from "./event.ts";
import { normalizeIp } from "./ip.ts";
import type { Leaf } from "./leaf.ts";
import { normalizeTimestamp } from "./timestamp.ts";

const BARE_DATE = /^\d{4}-\d{2}-\d{2}$/;
const LAST_DATE = "9999-12-31";
const DAY_MS = 86_400_000;

/** Fields that a filter compares for equality; a list of them all, in the order from the rarest values to the commonest. */
export const EQUALITY_FIELDS = [
  "request_id",
  "trace_id",
  "session_id",
  "resource_id",
  "actor_id",
  "on_behalf_of_id",
  "event_type",
  "resource_type",
  "operation",
  "severity",
  "outcome",
  "actor_type",
  "service_id",
] as const;

type EqualityField = (typeof EQUALITY_FIELDS)[number];

/** What entries must be like; times are RFC 3339 UTC with six digits of fraction. All that is given must hold. */
export interface Filter {
  readonly equals: { readonly [field in EqualityField]?: string };
  /** An action, with `*` at either end or both for any text. */
  readonly action?: string | undefined;
  /** Normalised. Found through openings: an erased address is not found. */
  readonly ip?: string | undefined;
  /** Inclusive. */
  readonly from?: string | undefined;
  /** Exclusive. */
  readonly to?: string | undefined;
  readonly occurredFrom?: string | undefined;
  readonly occurredTo?: string | undefined;
}

/** What is not understood of a filter's parameters: which, and what it must be; without `must` there is none of this name. */
export interface FilterError {
  readonly path: string;
  readonly must?: string;
}

/** Reads parameters. What is not understood goes to `errors`, and is not in the filter. */
export function filterOf(parameters: Readonly<Record<string, string>>, errors: FilterError[]): Filter {
  const names = new Set(Object.keys(parameters));
  const read = (path: string, parse: (text: string) => string | undefined, must: string): string | undefined => {
    const text = parameters[path];
    names.delete(path);
    if (text === undefined) return undefined;
    const value = parse(text);
    if (value === undefined) errors.push({ path, must });
    return value;
  };
  const time = "an RFC 3339 time such as 2026-01-31T12:00:00Z, or a date";
  const equals: { [field in EqualityField]?: string } = {};
  for (const field of EQUALITY_FIELDS) if (names.delete(field)) equals[field] = parameters[field]!;
  const filter = {
    equals,
    action: read("action", parseAction, "an action, with * at either end or both"),
    ip: read("ip", normalizeIp, "an IPv4 or IPv6 address"),
    from: read("from", startOf, time),
    to: read("to", endOf, time),
    occurredFrom: read("occurred_from", startOf, time),
    occurredTo: read("occurred_to", endOf, time),
  };
  for (const path of names) errors.push({ path });
  return filter;
}

function parseAction(text: string): string | undefined {
  return text.length > 0 && text !== "**" && !text.slice(1, -1).includes("*") ? text : undefined;
}

function startOf(text: string): string | undefined {
  return parseTime(BARE_DATE.test(text) ? `${text}T00:00:00Z` : text);
}

/** A bare date includes its day: the end is the next day's start. */
function endOf(text: string): string | undefined {
  if (!BARE_DATE.test(text)) return parseTime(text);
  if (text === LAST_DATE) return parseTime(`${text}T23:59:59.999999Z`); // there is no next day to name
  const start = parseTime(`${text}T00:00:00Z`);
  return start === undefined ? undefined : parseTime(new Date(Date.parse(start) + DAY_MS).toISOString());
}

function parseTime(text: string): string | undefined {
  try {
    return normalizeTimestamp(text);
  } catch {
    return undefined; // the caller names the parameter and says what would be right
  }
}

/**
 * Whether an entry, its openings merged in, is what the filter asks for. Takes any leaf, whatever stands where its event should have
 * something else.
 *
 * @param erased what an address is held to be whose commitment has no opening: false unless given.
 */
export function matches(filter: Filter, { event, service, recorded_at }: Leaf, erased = false): boolean {
  for (const field of EQUALITY_FIELDS) {
    const wanted = filter.equals[field];
    if (wanted !== undefined && !valuesOf(field, event, service.id).includes(wanted)) return false;
  }
  // With both, one and the same resource must have them.
  const { resource_type: type, resource_id: id } = filter.equals;
  if (type !== undefined && id !== undefined && !resourcesOf(event).some((one) => one?.type === type && one.id === id))
    return false;
  if (filter.action !== undefined && !matchesAction(filter.action, event.action)) return false;
  if (filter.ip !== undefined && event.context?.ip !== filter.ip) {
    if (!erased || typeof event.context?.ip !== "object") return false;
  }
  const occurredAt = occurredAtOf(event, recorded_at);
  return (
    (filter.from === undefined || recorded_at >= filter.from) &&
    (filter.to === undefined || recorded_at < filter.to) &&
    (filter.occurredFrom === undefined || occurredAt >= filter.occurredFrom) &&
    (filter.occurredTo === undefined || occurredAt < filter.occurredTo)
  );
}

function valuesOf(field: EqualityField, event: Event, serviceId: string): (string | undefined)[] {
  switch (field) {
    case "actor_id":
      return [event.actor.id];
    case "actor_type":
      return [actorTypeOf(event.actor)];
    case "on_behalf_of_id":
      return principalsOf(event.actor).map(({ id }) => id);
    case "resource_type":
      return resourcesOf(event).map((one) => one?.type);
    case "resource_id":
      return resourcesOf(event).map((one) => one?.id);
    case "outcome":
      return [outcomeOf(event)];
    case "severity":
      return [severityOf(event)];
    case "operation":
      return [event.operation];
    case "event_type":
      return [event.event_type];
    case "service_id":
      return [serviceId];
    case "request_id":
    case "session_id":
    case "trace_id":
      return [event.context?.[field]];
  }
}

function principalsOf(actor: Actor): Actor[] {
  const principals: Actor[] = [];
  for (let next = actor.on_behalf_of; next; next = next.on_behalf_of) principals.push(next);
  return principals;
}

function resourcesOf({ resource, related }: Event): ({ type: string; id?: string } | null)[] {
  return [...(resource === undefined ? [] : [resource]), ...(Array.isArray(related) ? related : [])];
}

function matchesAction(pattern: string, action: string): boolean {
  const open = pattern.startsWith("*");
  const openEnded = pattern.length > 1 && pattern.endsWith("*");
  const literal = pattern.slice(open ? 1 : 0, openEnded ? -1 : undefined);
  if (open && openEnded) return action.includes(literal);
  if (open) return action.endsWith(literal);
  return openEnded ? action.startsWith(literal) : action === literal;
}
