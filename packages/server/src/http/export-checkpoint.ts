/**
 * The checkpoint that an export is taken at.
 */
import { AppendError } from "../log/errors.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { SignedCheckpoint } from "../signing/published.ts";
import type { Signing } from "../signing/signing.ts";
import { Problem } from "./problem.ts";

/** Which one is asked for: by its size, or by how many witnesses have cosigned it. */
export interface AskedCheckpoint {
  readonly tree_size?: string | undefined;
  readonly cosigned?: string | undefined;
}

/**
 * A kept one where it is asked for or covers everything before `end`, one that a witness has seen if there is; else a new one.
 * @throws {Problem} 404 where none was kept that is as asked.
 */
export async function checkpointFor(
  { checkpoints }: Pick<Signing, "checkpoints">,
  log: LogIdentity,
  end: number,
  { tree_size, cosigned }: AskedCheckpoint,
): Promise<SignedCheckpoint> {
  if (tree_size !== undefined || cosigned !== undefined) {
    const size = tree_size === undefined ? undefined : Number(tree_size);
    const kept = await checkpoints.published(log, size, Number(cosigned ?? 0));
    if (kept !== undefined) return kept;
    const path = cosigned === undefined ? "tree_size" : "cosigned";
    const errors = [{ path, message: "no checkpoint that was kept is so" }];
    throw new Problem(404, "not-found", "No such checkpoint was kept: see GET /v1/tenants/{id}/log/checkpoint.", {
      errors,
    });
  }
  const seen = await checkpoints.published(log, undefined, 1);
  if (seen !== undefined && end <= seen.size) return seen;
  const kept = await checkpoints.published(log);
  if (kept !== undefined && end <= kept.size) return kept;
  try {
    const { size } = await checkpoints.publish(log);
    return (await checkpoints.published(log, size))!; // with the cosignatures that it may have had before
  } catch (error) {
    // A log that may not be signed any more still has what was signed before.
    if (kept !== undefined && error instanceof AppendError && error.code === "unsignable") return kept;
    throw error;
  }
}
