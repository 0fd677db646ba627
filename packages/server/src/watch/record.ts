/**
 * Recording what the server has noticed: events of its own in a tenant's log, or in the operator's where that log takes no entries.
 */
import type { Recorded } from "../log/append.ts";
import { recordedElsewhere, takesNoEntries } from "../log/change.ts";
import { AppendError } from "../log/errors.ts";
import type { Sequencer } from "../log/sequencer.ts";
import { prepareSystemEvent, type SystemEvent, WATCH_SERVICE } from "../log/system.ts";
import type { TenantLog, Tenants } from "../log/tenants.ts";

export interface RecordParts {
  readonly sequencer: Sequencer;
  readonly tenants: Tenants;
}

/**
 * Records events in the current log of a tenant, all or none. Resolves once they are durable.
 * @throws {AppendError} where neither that log nor the operator's takes them.
 */
export async function recordEvents(
  { sequencer, tenants }: RecordParts,
  tenantId: string,
  events: readonly SystemEvent[],
): Promise<void> {
  const log = await tenants.find(tenantId);
  if (log === undefined) throw new Error(`there is no tenant ${tenantId} any more: tenants are never deleted`);
  try {
    await append(sequencer, log, events);
  } catch (error) {
    if (!(error instanceof AppendError && takesNoEntries(error))) throw error;
    const operator = await tenants.operatorLog();
    if (operator.logId === log.logId) throw error;
    const elsewhere = events.map((event) => recordedElsewhere(event, log, error.code));
    await append(sequencer, operator, elsewhere);
  }
}

async function append(sequencer: Sequencer, log: TenantLog, events: readonly SystemEvent[]): Promise<void> {
  const prepared = events.map((event) => prepareSystemEvent(log, event, WATCH_SERVICE));
  const outcome = await sequencer.append({ logId: log.logId, events: prepared, partial: false });
  if (outcome instanceof AppendError) throw outcome;
  const refused = outcome.find((one): one is Exclude<typeof one, Recorded> => one instanceof AppendError);
  if (refused !== undefined) throw refused;
}
