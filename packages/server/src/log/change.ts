/**
 * Changes that are entries: what an administrator does, and the entry that tells of it, in one transaction.
 */
import type pg from "pg";
import type { Recorded } from "./append.ts";
import { AppendError } from "./errors.ts";
import type { PreparedEvent } from "./prepare.ts";
import type { Sequencer } from "./sequencer.ts";
import { prepareSystemEvent, type SystemEvent } from "./system.ts";
import type { TenantLog } from "./tenants.ts";

/** A change, and the entry that tells of it; no entry where nothing had to be changed. */
export interface Changed<T> {
  readonly changed: T;
  readonly entry: Recorded | undefined;
}

/**
 * What a change does, with the log's lock held and `tallystick.tenant_id` set to the tenant whose change it is: it answers with what it has
 * made, and the event that tells of it; no event where nothing had to be changed. What it throws refuses the change.
 */
export type Change<T> = (
  client: pg.ClientBase,
  recordedAt: string,
) => Promise<{ changed: T; event: SystemEvent | undefined }>;

/**
 * Makes a change and records the event that tells of it in `log`: both are there or neither.
 *
 * @param otherwise the log to record it in where `log` takes no entries: the operator's. For changes that must be possible then
 *   too, such as revoking a credential, and whose entries nothing in `log` builds on.
 * @throws what `change` throws, as it is. @throws {AppendError} where the entry cannot be recorded: nothing was changed, but for
 *   `outcome_unknown`.
 */
export async function makeChange<T>(
  sequencer: Sequencer,
  log: TenantLog,
  change: Change<T>,
  otherwise?: () => Promise<TenantLog>,
): Promise<Changed<T>> {
  try {
    return await changeAndRecord(sequencer, log, log, change);
  } catch (error) {
    if (otherwise === undefined || !(error instanceof AppendError && takesNoEntries(error))) throw error;
    const { code } = error;
    return changeAndRecord(sequencer, log, await otherwise(), async (client, recordedAt) => {
      const { changed, event } = await change(client, recordedAt);
      return { changed, event: event && recordedElsewhere(event, log, code) };
    });
  }
}

/** Whether a log refuses entries until its operator mends it or closes it: trying again does not help. */
export function takesNoEntries({ code }: AppendError): boolean {
  return code === "unsignable" || code === "inconsistent";
}

/** An event as the operator's log has it, because the log that it belongs to takes no entries. */
export function recordedElsewhere(event: SystemEvent, log: TenantLog, why: string): SystemEvent {
  return {
    ...event,
    related: [...(event.related ?? []), { type: "tenant", id: log.tenantId, name: log.slug }],
    metadata: { ...event.metadata, in_place_of: { log: log.name, refused: why } },
  };
}

/** @param of whose rows the change is about; the entry goes to `log`. */
async function changeAndRecord<T>(
  sequencer: Sequencer,
  of: TenantLog,
  log: TenantLog,
  change: Change<T>,
): Promise<Changed<T>> {
  let made: T | undefined;
  // What the entry says depends on what is found under the lock: it takes the place of this one, of the same service.
  const placeholder = prepareSystemEvent(log, {
    action: "tallystick.change",
    actor: { type: "system", id: "tallystick" },
  });
  const events: PreparedEvent[] = [placeholder];
  let refusal: { error: unknown } | undefined;
  const outcome = await sequencer.append({
    logId: log.logId,
    partial: false,
    events,
    alongside: async (client, recordedAt) => {
      refusal = undefined; // of an attempt that was tried again
      await client.query("select set_config('tallystick.tenant_id', $1, true)", [of.tenantId]);
      try {
        const { changed, event } = await change(client, recordedAt);
        made = changed;
        events.splice(0, events.length, ...(event === undefined ? [] : [prepareSystemEvent(log, event)]));
      } catch (error) {
        refusal = { error };
        throw error;
      }
    },
  });
  if (outcome instanceof AppendError)
    throw outcome.code === "refused" && refusal !== undefined ? refusal.error : outcome;
  const [entry] = outcome;
  if (entry instanceof AppendError) throw entry;
  return { changed: made!, entry };
}
