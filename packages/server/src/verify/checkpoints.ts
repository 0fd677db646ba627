/**
 * Published checkpoints against the heads that they are of, and against the log key's signature; and the form of what witnesses
 * added. Their keys are not in the database: who has them verifies the cosignatures.
 */
import { CheckpointError, openCheckpoint } from "@tallystick/core/checkpoint";
import { toHex } from "@tallystick/core/hex";
import { identity, NoteError, parseNote } from "@tallystick/core/note";
import { verifierKey } from "@tallystick/core/verifier-key";
import type pg from "pg";
import type { LogIdentity } from "../log/identity.ts";
import type { ProblemList } from "./report.ts";
import type { Snapshot } from "./sql.ts";

const AT_ONCE = 1_000;

interface CheckpointRow {
  readonly size: number;
  readonly root: string;
  readonly note: string;
  readonly tenantId: string;
  /** Null where the log has no head of this size. */
  readonly headRoot: string | null;
}

interface CosignatureRow {
  readonly size: number;
  readonly witness: string;
  readonly line: string;
  readonly tenantId: string;
}

/**
 * Names checkpoints that are not of the log: whoever was shown one of them was shown another log. The heads themselves are compared
 * with the entries elsewhere.
 */
export async function checkCheckpoints(snapshot: Snapshot, log: LogIdentity, problems: ProblemList): Promise<void> {
  const publicKey = await snapshot(readLogKey);
  if (publicKey === undefined) return; // nothing was ever signed
  const key = verifierKey(log.name, publicKey);
  for (let last = -1, more = true; more; ) {
    const rows = await snapshot((client) => readCheckpoints(client, log, last));
    for (const row of rows) {
      const { size, root, note, tenantId, headRoot } = row;
      const problem = (field: string, stored: string, expected: string | undefined, detail: string) =>
        problems.add({
          seq: size === 0 ? null : size - 1,
          id: null,
          kind: "checkpoint",
          field,
          stored,
          ...(expected !== undefined && { expected }),
          detail,
        });
      if (root !== headRoot) {
        const detail = `the checkpoint of size ${size} is not of the head of that size: who has it was shown another log`;
        problem("root", root, headRoot ?? undefined, detail);
      }
      if (tenantId !== log.tenantId) {
        const detail = `the checkpoint of size ${size} is filed under another tenant than its log`;
        problem("tenant_id", tenantId, log.tenantId, detail);
      }
      try {
        const signed = openCheckpoint(note, key, log.name);
        if (signed.size === size && toHex(signed.root) === root) continue;
        const detail = `the note of the checkpoint of size ${size} was signed for another tree`;
        problem("note", `${signed.size} ${toHex(signed.root)}`, `${size} ${root}`, detail);
      } catch (error) {
        if (!(error instanceof NoteError || error instanceof CheckpointError)) throw error;
        const detail = `the checkpoint of size ${size} is not signed by the log's key: ${error.message}`;
        problem("note", note, undefined, detail);
      }
    }
    last = rows.at(-1)?.size ?? last;
    more = rows.length === AT_ONCE;
  }
  await checkCosignatures(snapshot, log, problems);
}

/** Names lines that would make the checkpoint that they are served with unreadable, or a lie about who signed it. */
async function checkCosignatures(snapshot: Snapshot, log: LogIdentity, problems: ProblemList): Promise<void> {
  for (let last = { size: -1, witness: "" }, more = true; more; ) {
    const rows = await snapshot((client) => readCosignatures(client, log, last));
    for (const { size, witness, line, tenantId } of rows) {
      const problem = (field: string, stored: string, expected: string, detail: string) =>
        problems.add({
          seq: size === 0 ? null : size - 1,
          id: null,
          kind: "checkpoint",
          field,
          stored,
          expected,
          detail,
        });
      if (tenantId !== log.tenantId) {
        const detail = `a cosignature of the checkpoint of size ${size} is filed under another tenant than its log`;
        problem("tenant_id", tenantId, log.tenantId, detail);
      }
      const signer = signerOf(line);
      if (signer === witness && !signer.startsWith(`${log.name}+`)) continue;
      const detail = `a cosignature of the checkpoint of size ${size} is no signature line by its witness: the checkpoint cannot be read with it`;
      problem("cosignature", line, witness, detail);
    }
    last = rows.at(-1) ?? last;
    more = rows.length === AT_ONCE;
  }
}

/** Name and id of the key that a signature line names; undefined for what is none. */
function signerOf(line: string): string | undefined {
  try {
    const [signature, ...others] = parseNote(`\n\n${line}\n`).signatures;
    return signature === undefined || others.length > 0 ? undefined : identity(signature);
  } catch (error) {
    if (!(error instanceof NoteError)) throw error;
    return undefined;
  }
}

async function readLogKey(client: pg.ClientBase): Promise<Buffer | undefined> {
  const { rows } = await client.query<{ public_key: Buffer }>("select public_key from tallystick.log_keys");
  return rows[0]?.public_key;
}

async function readCheckpoints(client: pg.ClientBase, { logId }: LogIdentity, after: number): Promise<CheckpointRow[]> {
  const { rows } = await client.query<CheckpointRow>(
    `select c.size::float8 as size, encode(c.root, 'hex') as root, c.note, c.tenant_id as "tenantId", encode(h.root, 'hex') as "headRoot"
     from tallystick.checkpoints c left join tallystick.heads h on h.log_id = c.log_id and h.size = c.size
     where c.log_id = $1 and c.size > $2 order by c.size limit ${AT_ONCE}`,
    [logId, after],
  );
  return rows;
}

async function readCosignatures(
  client: pg.ClientBase,
  { logId }: LogIdentity,
  { size, witness }: Pick<CosignatureRow, "size" | "witness">,
): Promise<CosignatureRow[]> {
  const { rows } = await client.query<CosignatureRow>(
    `select s.size::float8 as size, s.witness, s.line, s.tenant_id as "tenantId" from tallystick.cosignatures s
     where s.log_id = $1 and (s.size, s.witness) > ($2, $3) order by s.size, s.witness limit ${AT_ONCE}`,
    [logId, size, witness],
  );
  return rows;
}
