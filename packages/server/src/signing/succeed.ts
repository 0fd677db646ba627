/**
 * Succession: closes a tenant's log and opens the next, whose first entry cites what was signed last of the closed one.
 */

import { toHex } from "@tallystick/core/hex";
import { emptyRoot } from "@tallystick/core/tree";
import type pg from "pg";
import { type By, byWhom } from "../access/by.ts";
import type { Database } from "../db/database.ts";
import { type AppendLimits, commitBatch, type Recorded } from "../log/append.ts";
import { Edges } from "../log/edges.ts";
import { AppendError } from "../log/errors.ts";
import { prepareSystemEvent } from "../log/system.ts";
import type { TenantLog } from "../log/tenants.ts";
import type { Checkpoints } from "./checkpoints.ts";
import type { Signer } from "./signer.ts";

export interface Successor {
  readonly log_id: number;
  readonly name: string;
  readonly slug: string;
  /** Name of the closed log. */
  readonly predecessor: string;
  /** Of the first entry. */
  readonly entry_id: string;
  /** The last signed checkpoint of the closed log; null where none was ever signed. */
  readonly checkpoint: string | null;
}

/** Nothing is wrong with the log that was to be closed. */
export class HealthyLogError extends Error {
  constructor(log: string) {
    super(`${log} can be signed and written to: closing it cannot be undone`);
    this.name = "HealthyLogError";
  }
}

interface Parts {
  readonly database: Database;
  readonly checkpoints: Checkpoints;
  readonly signer: Signer;
  readonly limits: AppendLimits;
}

/**
 * Opens the successor of a log. All of it is one transaction, with the closed log's lock held: nobody appends to it afterwards, and
 * nothing comes before the first entry of the new one.
 *
 * @param force also a log that can be signed and written to: closing it cannot be undone.
 * @throws {AppendError} `succeeded` where somebody has been faster. @throws {HealthyLogError}
 * @throws {import("./append.ts").UnsettledError} where it may have been done: look at the tenant's logs.
 */
export async function succeedLog(
  { database, checkpoints, signer, limits }: Parts,
  log: TenantLog,
  { reason, by, force }: { readonly reason: string; readonly by: By; readonly force: boolean },
): Promise<Successor> {
  const successor = await database.write(async (transaction) => {
    const { client } = transaction;
    const { rows: locked } = await client.query<{ size: string; root: Buffer }>(
      "select size, root from tallystick.lock_logs($1)",
      [[log.logId]],
    );
    if (locked.length === 0) throw new AppendError("succeeded", `${log.name} has a successor already`);
    const found = { size: Number(locked[0]!.size), root: locked[0]!.root };
    // With the lock held the head stays what it is. Where it may not be signed, what was signed before is what there is to cite.
    const isHealthy = await checkpoints.sign(log).then(
      () => true,
      (error: unknown) => {
        if (!(error instanceof AppendError && error.code === "unsignable")) throw error;
        return false;
      },
    );
    if (isHealthy && !force) throw new HealthyLogError(log.name);
    const signed = await signer.last(log.name);

    const next = await nextSlug(client, signer, log);
    const { rows } = await client.query<{ id: number; name: string; slug: string }>(
      `insert into tallystick.logs (tenant_id, name, slug, predecessor_id)
       select $1, origin || '/' || $3, $3, $2 from tallystick.installation returning id, name, slug`,
      [log.tenantId, log.logId, next],
    );
    const { id: logId, name, slug } = rows[0]!;
    await client.query(
      "insert into tallystick.heads (log_id, size, tenant_id, recorded_at, root) values ($1, 0, $2, clock_timestamp(), $3)",
      [logId, log.tenantId, Buffer.from(emptyRoot())],
    );
    const event = prepareSystemEvent(
      { ...log, logId, name },
      {
        action: "tallystick.log.succeeded",
        ...byWhom(by),
        resource: { type: "log", id: log.name },
        outcome: "success",
        reason,
        metadata: {
          predecessor: log.name,
          found: { size: found.size, root: toHex(found.root) },
          signed: signed === undefined ? null : { size: signed.size, root: toHex(signed.root) },
          checkpoint: signed?.note ?? null,
        },
      },
    );
    const unchecked = { ...limits, checkHead: undefined }; // of a log that is a moment old
    const request = { logId, events: [event], partial: false };
    const { outcomes } = await commitBatch(transaction, [request], new Edges(), unchecked);
    const [recorded] = outcomes[0] as readonly Recorded[];
    return {
      log_id: logId,
      name,
      slug,
      predecessor: log.name,
      entry_id: recorded!.id,
      checkpoint: signed?.note ?? null,
    };
  });
  checkpoints.close(log.logId);
  return successor;
}

/** The next of the tenant's logs: one that was never signed, also where the database has forgotten it. */
async function nextSlug(client: pg.ClientBase, signer: Signer, log: TenantLog): Promise<string> {
  const { rows } = await client.query<{ origin: string; count: number }>(
    `select origin, (select count(*)::int from tallystick.logs where tenant_id = $1) as count from tallystick.installation`,
    [log.tenantId],
  );
  const { origin, count } = rows[0]!;
  for (let n = count + 1; ; n++) {
    const slug = `${log.slug}.${n}`;
    if ((await signer.last(`${origin}/${slug}`)) === undefined) return slug;
  }
}
