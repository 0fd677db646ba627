/**
 * Tenants, as the operator makes and changes them. Each change is an entry: a new tenant one of the operator's log, any other one of
 * the tenant's own, also where the tenant is suspended. None is ever deleted.
 */
import type { JsonObject, JsonValue } from "@tallystick/core/json";
import { makeChange } from "../log/change.ts";
import type { Sequencer } from "../log/sequencer.ts";
import {
  insertTenant,
  lockTenant,
  OPERATOR_TENANT,
  SlugTakenError,
  type Tenant,
  type TenantChange,
  type TenantLog,
  type Tenants,
  updateTenant,
} from "../log/tenants.ts";
import { type By, byWhom } from "./by.ts";

/** What an entry tells of a change: only what is not what it was. */
const CHANGEABLE = ["name", "status", "settings"] as const;

/** Thrown where the operator's own tenant was to be closed to writing. */
export class OperatorTenantError extends Error {
  constructor(options?: ErrorOptions) {
    super(
      `the tenant "${OPERATOR_TENANT}" stays active: without it nobody acts across tenants but by the admin token, and its log is where refused credentials and new tenants are recorded; revoke the credential that is at fault instead`,
      options,
    );
    this.name = "OperatorTenantError";
  }
}

export class TenantChanges {
  readonly #sequencer: Sequencer;
  readonly #tenants: Tenants;

  constructor(parts: { sequencer: Sequencer; tenants: Tenants }) {
    this.#sequencer = parts.sequencer;
    this.#tenants = parts.tenants;
  }

  /**
   * Makes a tenant, its log and the log's empty head, and the entry in the operator's log, in one transaction.
   * @throws {SlugTakenError} @throws {import("../log/errors.ts").AppendError} where the entry cannot be recorded: there is no tenant.
   */
  async create(by: By, slug: string, name: string): Promise<Tenant> {
    if ((await this.#tenants.get(slug)) !== undefined) throw new SlugTakenError(slug); // without holding up anyone's commit
    const operator = await this.#tenants.operatorLog();
    const { changed } = await makeChange(this.#sequencer, operator, async (client) => {
      const tenant = await insertTenant(client, slug, name);
      const resource = { type: "tenant", id: tenant.id };
      const metadata = { slug, name };
      return {
        changed: tenant,
        event: { action: "tallystick.tenant.created", ...byWhom(by), resource, outcome: "success", metadata },
      };
    });
    return changed;
  }

  /**
   * Changes a tenant; what it is already is no change and no entry.
   * @throws {OperatorTenantError} where the operator's own would not be active any more.
   * @throws {import("../log/errors.ts").AppendError} where the entry cannot be recorded: the tenant is what it was.
   */
  async update(log: TenantLog, by: By, change: TenantChange): Promise<Tenant> {
    if (log.slug === OPERATOR_TENANT && (change.status ?? "active") !== "active") throw new OperatorTenantError();
    const updating = makeChange(
      this.#sequencer,
      log,
      async (client) => {
        const before = await lockTenant(client, log.tenantId);
        const changed = await updateTenant(client, log.tenantId, change);
        const event = {
          action: "tallystick.tenant.changed",
          ...byWhom(by),
          resource: { type: "tenant", id: changed.id },
          outcome: "success",
          changes: differences(before, changed),
        } as const;
        return { changed, event: Object.keys(event.changes.after).length === 0 ? undefined : event };
      },
      // One whose log is broken can be suspended all the same.
      () => this.#tenants.operatorLog(),
    );
    try {
      return (await updating).changed;
    } finally {
      this.#tenants.forget(log);
    }
  }
}

function differences(before: Tenant, after: Tenant): { before: JsonObject; after: JsonObject } {
  const differing = CHANGEABLE.filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]));
  const of = (tenant: Tenant) => Object.fromEntries(differing.map((key) => [key, tenant[key] as JsonValue]));
  return { before: of(before), after: of(after) };
}
