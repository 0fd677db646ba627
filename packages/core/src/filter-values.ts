/**
 * What an entry has in each field that filters know, defaults included.
 */
import { actorTypeOf, outcomeOf, severityOf } from "./defaults.ts";
import { ACTOR_TYPES, type Actor, type Event, OPERATIONS, OUTCOMES, SEVERITIES } from "./event.ts";
import type { TextField } from "./filter.ts";
import type { Leaf } from "./leaf.ts";

/** What the fields have that take no other values. */
export const FIELD_VALUES: { readonly [field in TextField]?: readonly string[] } = {
  actor_type: ACTOR_TYPES,
  outcome: OUTCOMES,
  severity: SEVERITIES,
  operation: OPERATIONS,
};

/** The values of a field: texts, commitments that nobody has opened, or undefined where there is none. Takes any leaf. */
export function entryFieldValues(field: TextField, { event, service }: Leaf): readonly unknown[] {
  switch (field) {
    case "action":
      return [event.action];
    case "actor_id":
      return [event.actor?.id];
    case "actor_type":
      return [event.actor && actorTypeOf(event.actor)];
    case "actor_name":
      return [event.actor?.name];
    case "actor_email":
      return [event.actor?.email];
    case "actor":
      return [event.actor?.id, event.actor?.name, event.actor?.email];
    case "on_behalf_of_id":
      return principalsOf(event).map(({ id }) => id);
    case "on_behalf_of":
      return principalsOf(event).flatMap(({ id, name, email }) => [id, name, email]);
    case "resource_type":
      return resourcesOf(event).map((one) => one.type);
    case "resource_id":
      return resourcesOf(event).map((one) => one.id);
    case "resource_name":
      return resourcesOf(event).map((one) => one.name);
    case "outcome":
      return [outcomeOf(event)];
    case "severity":
      return [severityOf(event)];
    case "operation":
      return [event.operation];
    case "event_type":
      return [event.event_type];
    case "service_id":
      return [service.id];
    case "request_id":
    case "session_id":
    case "trace_id":
      return [event.context?.[field]];
  }
}

function principalsOf({ actor }: Event): Actor[] {
  const principals: Actor[] = [];
  for (let next = actor?.on_behalf_of; next; next = next.on_behalf_of) principals.push(next);
  return principals;
}

/** An event's resource and its related ones, without those that are no objects. */
export function resourcesOf({ resource, related }: Event): { type?: string; id?: string; name?: string }[] {
  const all: unknown[] = [resource, ...(Array.isArray(related) ? related : [])];
  return all.filter((one): one is object => typeof one === "object" && one !== null);
}
