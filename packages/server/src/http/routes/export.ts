/**
 * GET /v1/logs/export: entries as a file that proves itself.
 */
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { EVIDENCE_EXTENSION, EVIDENCE_MEDIA_TYPE, type EvidenceSelection } from "@tallystick/core/evidence";
import { type Filter, isTimeRange } from "@tallystick/core/filter";
import type { Parameters } from "@tallystick/core/filter-parameters";
import type { FastifyInstance } from "fastify";
import { AppendError } from "../../log/errors.ts";
import type { LogIdentity } from "../../log/identity.ts";
import { EvidenceReader } from "../../proof/evidence.ts";
import type { SignedCheckpoint } from "../../signing/published.ts";
import { logOf } from "../log-of.ts";
import { Problem } from "../problem.ts";
import { parseFilter } from "../query.ts";
import { exportSchema } from "../schemas/export.ts";
import type { Services } from "../server.ts";
import { byOf } from "../watched.ts";

const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as {
  version: string;
};

/** Parameters of the export that are no filter. */
interface ExportQuery {
  readonly format: string;
  readonly tenant_id?: string;
  readonly log?: string;
  readonly tree_size?: string;
  readonly cosigned?: string;
  readonly from_seq?: string;
  readonly to_seq?: string;
}

export function exportRoutes(app: FastifyInstance, services: Services): void {
  app.get("/v1/logs/export", { schema: exportSchema, config: { scope: "export" } }, async (request, reply) => {
    const query = request.query as ExportQuery & Parameters;
    const { format, tenant_id: _, log: slug, tree_size, cosigned, from_seq, to_seq, ...parameters } = query;
    const filter = parseFilter(parameters);
    const log = await logOf(services.tenants, request.access.log, slug);
    const evidence = new EvidenceReader(services);
    const bounds = await evidence.bounds(log, filter);
    const from = Math.max(bounds.from, Number(from_seq ?? 0));
    const end = Math.min(bounds.to ?? Number.POSITIVE_INFINITY, Number(to_seq ?? Number.POSITIVE_INFINITY));
    const checkpoint = await checkpointFor(log, end, { tree_size, cosigned });
    const to = Math.min(end, checkpoint.size);
    const plan = {
      ...{ log, filter, checkpoint },
      selection: selectionOf(filter, { ...parameters, from_seq, to_seq }, { from, to }),
      predecessors: await logsBefore(log),
      witnessKeys: services.signing.witnesses.vkeys,
      createdAt: new Date().toISOString().replace("Z", "000Z"),
      generator: `tallystick ${version}`,
    };
    const asked = { ...parameters, log: slug, from_seq, to_seq };
    const pieces = from < to ? await evidence.open(plan) : undefined;
    if (pieces === undefined || request.method === "HEAD") {
      // It sends no entry, but says whether there is one.
      services.watch.read({ log, by: byOf(request), asked: { ...asked, export: format }, entries: 0 });
    }
    if (pieces === undefined) {
      throw new Problem(
        404,
        "not-found",
        "No entry matches among those that the checkpoint covers: there is nothing to prove.",
      );
    }
    reply
      .type(EVIDENCE_MEDIA_TYPE)
      .header("cache-control", "no-store")
      .header("content-disposition", `attachment; filename="${fileNameOf(log, plan.selection)}"`);
    if (request.method === "HEAD") {
      await pieces.return(undefined);
      return reply.send();
    }
    try {
      await services.watch.exported(log, byOf(request), {
        format,
        asked,
        ...{ from, to, treeSize: checkpoint.size },
      });
    } catch (error) {
      await pieces.return(undefined);
      throw error;
    }
    // A failure behind the first piece ends the connection: the client sees that the file was cut off.
    return reply.send(Readable.from(pieces, { objectMode: false }));
  });

  /** The logs before, the nearest first, with their newest kept checkpoints; up to one that has none. */
  async function logsBefore({ tenantId, name }: LogIdentity) {
    const logs = new Map((await services.tenants.logs(tenantId)).map((one) => [one.name, one]));
    const before: { log: LogIdentity; checkpoint: SignedCheckpoint }[] = [];
    for (let next = logs.get(name)?.predecessor ?? null; next !== null; ) {
      const log = logs.get(next)!;
      const checkpoint = await services.signing.checkpoints.published(log);
      if (checkpoint === undefined) break;
      before.push({ log, checkpoint });
      next = log.predecessor;
    }
    return before;
  }

  /** A kept one where it is asked for or covers everything before `end`, one that a witness has seen if there is; else a new one. */
  async function checkpointFor(
    log: LogIdentity,
    end: number,
    { tree_size, cosigned }: { tree_size: string | undefined; cosigned: string | undefined },
  ): Promise<SignedCheckpoint> {
    const { checkpoints } = services.signing;
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
}

function selectionOf(
  filter: Filter,
  asked: Readonly<Record<string, string | readonly string[] | undefined>>,
  { from, to }: { from: number; to: number },
): EvidenceSelection {
  const given: Readonly<Record<string, string | readonly string[] | undefined>> = {
    ...asked,
    from: filter.from,
    to: filter.to,
  };
  const parameters = Object.fromEntries(
    Object.entries(given)
      .filter((entry): entry is [string, string | readonly string[]] => entry[1] !== undefined)
      .map(([name, values]) => [name, typeof values !== "string" && values.length === 1 ? values[0]! : values]),
  );
  if (isTimeRange(filter)) return { kind: "range", from, to, asked: parameters };
  return { kind: "filter", from, to, filter: parameters };
}

function fileNameOf({ name }: LogIdentity, { kind, from, to }: EvidenceSelection): string {
  const log = name.slice(name.lastIndexOf("/") + 1);
  return `${log}-${from}-${to - 1}${kind === "filter" ? "-filtered" : ""}${EVIDENCE_EXTENSION}`;
}
