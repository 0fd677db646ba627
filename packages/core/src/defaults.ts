/**
 * What an entry means where its event leaves a field out. These apply when reading and filtering; they are never
 * written into a leaf.
 */
import type { Actor, ActorType, Event, Outcome, Severity } from "./event.ts";

export function actorTypeOf(actor: Actor): ActorType {
  return actor.type ?? "user";
}

export function outcomeOf(event: Event): Outcome {
  return event.outcome ?? "success";
}

export function severityOf(event: Event): Severity {
  return event.severity ?? "INFO";
}

/** `recordedAt`: the entry's `recorded_at`. */
export function occurredAtOf(event: Event, recordedAt: string): string {
  return event.occurred_at ?? recordedAt;
}
