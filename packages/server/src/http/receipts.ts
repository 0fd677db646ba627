/**
 * Receipts as answers: in that to a write (`?receipt=true`, `Prefer: return=receipt`), and of an entry that is there already.
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Recorded } from "../log/append.ts";
import type { LogIdentity } from "../log/identity.ts";
import { Reader } from "../log/reader.ts";
import type { TenantLog } from "../log/tenants.ts";
import { preference } from "./prefer.ts";
import { Problem, problemBody, problemOf } from "./problem.ts";
import type { Services } from "./server.ts";

/** Whether the client asks for receipts; tells it where it did so by a preference. */
export function wantsReceipts(request: FastifyRequest, reply: FastifyReply): boolean {
  if ((request.query as { receipt?: string }).receipt === "true") return true;
  if (preference(request, "return") !== "receipt") return false;
  reply.header("preference-applied", "return=receipt");
  return true;
}

/**
 * Receipts of entries that are recorded, in order, each as a member of a JSON object. The entries stay recorded whatever happens
 * here: where there can be no receipt, `receipt` is null and `receipt_problem` says why.
 */
export async function receiptsOf(services: Services, log: TenantLog, recorded: readonly Recorded[]): Promise<string[]> {
  const earlier = recorded.filter(({ duplicate }) => duplicate);
  const reader = new Reader(services.database);
  const here = await orProblem(() => reader.idsAt(log, earlier));
  if ("problem" in here) return recorded.map(() => here.problem);
  // An event that was recorded before may be in a log that has been succeeded since.
  const isHere = ({ id, duplicate }: Recorded) => !duplicate || here.value.has(id);
  const seqs = recorded.filter(isHere).map(({ seq }) => seq);
  const issued = await orProblem(() => services.receipts.issue(log, seqs));
  let next = 0;
  const members: string[] = [];
  for (const one of recorded) {
    if (isHere(one)) {
      members.push("problem" in issued ? issued.problem : member(issued.value[next++]!));
      continue;
    }
    const again = await orProblem(async () => {
      const found = await reader.get(log, one.id, "latest");
      return receiptOf(services, found!.log, found!.entry.seq);
    });
    members.push("problem" in again ? again.problem : member(again.value));
  }
  return members;
}

/**
 * The receipt of an entry for the newest published checkpoint, or for the one of this size, or with so many cosignatures. An entry
 * that no checkpoint covers yet has one published for it, unless it is to be cosigned: that cannot be waited for.
 *
 * @throws {Problem} 404 where no such checkpoint was kept, or none that covers the entry; 400 where the one of this size is of a time
 *   before the entry.
 * @throws {import("../log/errors.ts").AppendError} `unsignable`, `inconsistent`.
 */
export async function receiptOf(
  { signing, receipts }: Services,
  log: LogIdentity,
  seq: number,
  { treeSize, cosigned }: { treeSize?: number; cosigned?: number } = {},
): Promise<string> {
  let checkpoint = await signing.checkpoints.published(log, treeSize, cosigned);
  if (cosigned !== undefined && (checkpoint === undefined || (treeSize === undefined && checkpoint.size <= seq))) {
    const message = `must be at most what a kept checkpoint${treeSize === undefined ? " that has the entry" : " of this size"} has`;
    throw new Problem(
      404,
      "not-found",
      `No checkpoint that ${cosigned} or more witnesses have cosigned has the entry: try again later.`,
      {
        errors: [{ path: "cosigned", message }],
      },
    );
  }
  if (treeSize !== undefined) {
    const errors = [{ path: "tree_size", message: "must be the size of a kept checkpoint, or be left out" }];
    if (checkpoint === undefined)
      throw new Problem(404, "not-found", `No checkpoint of size ${treeSize} was kept.`, { errors });
    if (seq >= treeSize) {
      throw new Problem(400, "invalid-request", `The tree of size ${treeSize} does not have the entry yet.`, {
        errors: [{ path: "tree_size", message: `must be more than ${seq}, the entry's seq` }],
      });
    }
  } else if (checkpoint === undefined || checkpoint.size <= seq) {
    // A signature that is being made already may be of the log as it was before the entry.
    checkpoint = await signing.checkpoints.publish(log, seq + 1);
  }
  return receipts.prove(log, seq, checkpoint);
}

function member(receipt: string): string {
  return `"receipt":${JSON.stringify(receipt)}`;
}

async function orProblem<T>(make: () => Promise<T>): Promise<{ value: T } | { problem: string }> {
  try {
    return { value: await make() };
  } catch (error) {
    return { problem: `"receipt":null,"receipt_problem":${JSON.stringify(problemBody(problemOf(error)))}` };
  }
}
