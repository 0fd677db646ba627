/**
 * Filters: the parameters of a search, what they ask of the index, and what they ask of an entry.
 */
import { actorTypeOf, occurredAtOf, outcomeOf, severityOf } from "@tallystick/core/defaults";
import { ACTOR_TYPES, type Actor, type Event, OPERATIONS, OUTCOMES, SEVERITIES } from "@tallystick/core/event";
import type { Leaf } from "@tallystick/core/leaf";
import { TERMLESS_DEFAULTS, type TermField, termHash } from "./columns.ts";

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
] as const satisfies readonly TermField[];

/** Fields with a fixed set of values. */
const VALUES: { readonly [field in TermField]?: readonly string[] } = {
  actor_type: ACTOR_TYPES,
  outcome: OUTCOMES,
  severity: SEVERITIES,
  operation: OPERATIONS,
};

/** What entries must be like; times are RFC 3339 UTC with six digits of fraction. All that is given must hold. */
export interface Filter {
  readonly equals: { readonly [field in (typeof EQUALITY_FIELDS)[number]]?: string };
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

/** The part of a filter that the database answers: hashes may collide, so that {@link matches} has the last word. */
export interface Candidates {
  readonly allTerms: number[];
  readonly noneTerms: number[];
  /** A LIKE pattern. */
  readonly actionPattern: string | null;
  readonly openingTerm: number | null;
}

export function candidatesOf(logId: number, filter: Filter): Candidates {
  const allTerms: number[] = [];
  const noneTerms: number[] = [];
  for (const field of EQUALITY_FIELDS) {
    const value = filter.equals[field];
    if (value === undefined) continue;
    if (TERMLESS_DEFAULTS[field] !== value) allTerms.push(termHash(logId, field, value));
    else for (const other of VALUES[field] ?? []) if (other !== value) noneTerms.push(termHash(logId, field, other));
  }
  const exact = filter.action !== undefined && !filter.action.startsWith("*") && !filter.action.endsWith("*");
  if (exact) allTerms.push(termHash(logId, "action", filter.action!));
  return {
    allTerms,
    noneTerms,
    actionPattern: filter.action === undefined || exact ? null : likePattern(filter.action),
    openingTerm: filter.ip === undefined ? null : termHash(logId, "ip", filter.ip),
  };
}

function likePattern(action: string): string {
  const open = action.startsWith("*");
  const openEnded = action.length > 1 && action.endsWith("*");
  const literal = action.slice(open ? 1 : 0, openEnded ? -1 : undefined).replace(/[\\%_]/g, "\\$&");
  return `${open ? "%" : ""}${literal}${openEnded ? "%" : ""}`;
}

/** Whether an entry, its openings merged in, is what the filter asks for. */
export function matches(filter: Filter, { event, service, recorded_at }: Leaf): boolean {
  for (const field of EQUALITY_FIELDS) {
    const wanted = filter.equals[field];
    if (wanted !== undefined && !valuesOf(field, event, service.id).includes(wanted)) return false;
  }
  // With both, one and the same resource must have them.
  const { resource_type: type, resource_id: id } = filter.equals;
  if (type !== undefined && id !== undefined && !resourcesOf(event).some((one) => one.type === type && one.id === id))
    return false;
  if (filter.action !== undefined && !matchesAction(filter.action, event.action)) return false;
  if (filter.ip !== undefined && event.context?.ip !== filter.ip) return false;
  const occurredAt = occurredAtOf(event, recorded_at);
  return (
    (filter.from === undefined || recorded_at >= filter.from) &&
    (filter.to === undefined || recorded_at < filter.to) &&
    (filter.occurredFrom === undefined || occurredAt >= filter.occurredFrom) &&
    (filter.occurredTo === undefined || occurredAt < filter.occurredTo)
  );
}

function valuesOf(field: TermField, event: Event, serviceId: string): (string | undefined)[] {
  switch (field) {
    case "actor_id":
      return [event.actor.id];
    case "actor_type":
      return [actorTypeOf(event.actor)];
    case "on_behalf_of_id":
      return principalsOf(event.actor).map(({ id }) => id);
    case "action":
      return [event.action];
    case "resource_type":
      return resourcesOf(event).map(({ type }) => type);
    case "resource_id":
      return resourcesOf(event).map(({ id }) => id);
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

function resourcesOf(event: Event): { type: string; id?: string }[] {
  return [...(event.resource === undefined ? [] : [event.resource]), ...(event.related ?? [])];
}

function matchesAction(pattern: string, action: string): boolean {
  const open = pattern.startsWith("*");
  const openEnded = pattern.length > 1 && pattern.endsWith("*");
  const literal = pattern.slice(open ? 1 : 0, openEnded ? -1 : undefined);
  if (open && openEnded) return action.includes(literal);
  if (open) return action.endsWith(literal);
  return openEnded ? action.startsWith(literal) : action === literal;
}
