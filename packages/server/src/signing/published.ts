/**
 * Published checkpoints, as they are kept in the database.
 */
import { CheckpointError, openCheckpoint } from "@tallystick/core/checkpoint";
import { NoteError } from "@tallystick/core/note";
import { verifierKey } from "@tallystick/core/verifier-key";
import type { Database } from "../db/database.ts";
import type { LogIdentity } from "../log/identity.ts";
import { type SignedHead, sameHead } from "./sign-lock.ts";

/** A signed head. */
export interface SignedCheckpoint extends SignedHead {
  /** C2SP signed note. */
  readonly note: string;
}

/** A row, and the lines of the cosignatures that were kept for it. */
export interface KeptCheckpoint extends SignedCheckpoint {
  readonly lines: readonly string[];
}

/** Keeps a checkpoint, unless one of this size is kept. */
export async function keepCheckpoint(
  database: Database,
  log: LogIdentity,
  checkpoint: SignedCheckpoint,
): Promise<void> {
  await database.query(
    `insert into tallystick.checkpoints (log_id, size, tenant_id, root, note) values ($1, $2, $3, $4, $5)
     on conflict do nothing`,
    [log.logId, checkpoint.size, log.tenantId, Buffer.from(checkpoint.root), checkpoint.note],
  );
}

/** The newest ones, or the one of this size, with at least so many cosignatures; the newest first. */
export async function readCheckpoints(
  database: Database,
  log: LogIdentity,
  { size, cosigned = 0, limit }: { size?: number | undefined; cosigned?: number; limit: number },
): Promise<KeptCheckpoint[]> {
  return database.readLatest(log.tenantId, async (client) => {
    const { rows } = await client.query<{ size: string; root: Buffer; note: string; lines: string[] }>(
      `select c.size, c.root, c.note,
           array(select line from tallystick.cosignatures s
             where s.log_id = c.log_id and s.size = c.size and tallystick.is_signature_line(s.line, s.witness) order by nth) as lines
         from tallystick.checkpoints c
         where c.log_id = $1 and ($2::bigint is null or c.size = $2)
           and ($3 = 0 or c.size = (
             select size from tallystick.cosignatures
             where log_id = $1 and nth = $3 and ($2::bigint is null or size = $2) order by size desc limit 1
           ))
         order by c.size desc limit $4`,
      [log.logId, size ?? null, cosigned, limit],
    );
    return rows.map((row) => ({ ...row, size: Number(row.size) }));
  });
}

/** Whether the log key has signed just this, as a checkpoint of the log. */
export function isSignedBy(publicKey: Uint8Array, log: string, { size, root, note }: SignedCheckpoint): boolean {
  try {
    return sameHead(openCheckpoint(note, verifierKey(log, publicKey), log), { size, root });
  } catch (error) {
    if (error instanceof NoteError || error instanceof CheckpointError) return false;
    throw error;
  }
}
