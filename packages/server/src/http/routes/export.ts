/**
 * GET /v1/logs/export: entries as a file, to work with (CSV, NDJSON) or that proves itself (evidence).
 */
import { readFileSync } from "node:fs";
import { EVIDENCE_EXTENSION, EVIDENCE_MEDIA_TYPE, type EvidenceSelection } from "@tallystick/core/evidence";
import { type Filter, isTimeRange } from "@tallystick/core/filter";
import type { Parameters } from "@tallystick/core/filter-parameters";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type Column, columnsOf } from "../../export/columns.ts";
import { exportPieces } from "../../export/pieces.ts";
import type { LogIdentity } from "../../log/identity.ts";
import { LogSearch } from "../../log/search.ts";
import { EvidenceReader } from "../../proof/evidence.ts";
import type { SignedCheckpoint } from "../../signing/published.ts";
import { announceDownload, type Download, goneSignal, sendDownload } from "../download.ts";
import { checkpointFor } from "../export-checkpoint.ts";
import { logOf } from "../log-of.ts";
import { Problem } from "../problem.ts";
import { parseFilter } from "../query.ts";
import { type EXPORT_FORMATS, exportSchema } from "../schemas/export.ts";
import type { Services } from "../server.ts";
import { byOf } from "../watched.ts";

const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as {
  version: string;
};

/** Parameters of the export that are no filter. */
interface ExportQuery {
  readonly format: Format;
  readonly tenant_id?: string;
  readonly log?: string;
  readonly tree_size?: string;
  readonly cosigned?: string;
  readonly from_seq?: string;
  readonly to_seq?: string;
  readonly columns?: readonly string[];
  readonly gzip?: "true" | "false";
  readonly manifest?: "none";
}

type Format = (typeof EXPORT_FORMATS)[number];

/** By format: the media type, and how names of files end. */
const KINDS: Readonly<Record<Format, { readonly mediaType: string; readonly extension: string }>> = {
  csv: { mediaType: "text/csv; charset=utf-8; header=present", extension: ".csv" },
  ndjson: { mediaType: "application/x-ndjson", extension: ".ndjson" },
  evidence: { mediaType: EVIDENCE_MEDIA_TYPE, extension: EVIDENCE_EXTENSION },
};

/** What a request asks for, settled: which entries of which log, up to which checkpoint. */
interface Asked {
  readonly log: LogIdentity;
  readonly filter: Filter;
  readonly checkpoint: SignedCheckpoint;
  /** Positions, `to` exclusive. */
  readonly from: number;
  readonly to: number;
  /** The parameters that select entries, with times as they are understood. */
  readonly parameters: Parameters;
  readonly signal: AbortSignal;
}

export function exportRoutes(app: FastifyInstance, services: Services): void {
  const search = new LogSearch(services.database);
  const evidence = new EvidenceReader(services);

  app.get("/v1/logs/export", { schema: exportSchema, config: { scope: "export" } }, async (request, reply) => {
    const query = request.query as ExportQuery & Parameters;
    const { format, tenant_id: _, log: slug, tree_size, cosigned, ...others } = query;
    const { columns: names, gzip, manifest, ...selecting } = others;
    const { from_seq, to_seq, ...parameters } = selecting;
    const filter = parseFilter(parameters);
    const columns = columnsAsked(query);
    const log = await logOf(services.tenants, request.access.log, slug);
    const bounds = await search.bounds(log, filter);
    const end = Math.min(bounds.to ?? Number.POSITIVE_INFINITY, Number(to_seq ?? Number.POSITIVE_INFINITY));
    const checkpoint = await checkpointFor(services.signing, log, end, { tree_size, cosigned });
    const to = Math.min(end, checkpoint.size);
    const from = Math.min(Math.max(bounds.from, Number(from_seq ?? 0)), to);
    const asked: Asked = {
      ...{ log, filter, checkpoint, from, to },
      parameters: plainParameters({ ...selecting, from: filter.from, to: filter.to }),
      signal: goneSignal(reply),
    };
    const pieces =
      format === "evidence" ? await evidenceOf(asked) : piecesOf(asked, format, columns, manifest === "none");
    const told = { ...parameters, log: slug, from_seq, to_seq, columns: names };
    if (pieces === undefined || request.method === "HEAD") {
      // It sends no entry, but says whether there is one.
      services.watch.read({ log, by: byOf(request), asked: { ...told, export: format }, entries: 0 });
    }
    if (pieces === undefined) {
      throw new Problem(
        404,
        "not-found",
        "No entry matches among those that the checkpoint covers: there is nothing to prove.",
      );
    }
    const { mediaType, extension } = KINDS[format];
    const download = { mediaType, name: `${nameOf(asked)}${extension}`, gzip: gzip === "true" };
    announceDownload(request, reply, download);
    return send(request, reply, { asked, pieces, download, format, told });
  });

  /** Records the export, then sends it. */
  async function send(
    request: FastifyRequest,
    reply: FastifyReply,
    { asked: { log, from, to, checkpoint }, pieces, download, format, told }: ToSend,
  ): Promise<FastifyReply> {
    if (request.method === "HEAD") {
      await pieces.return(undefined);
      return reply.send();
    }
    try {
      await services.watch.exported(log, byOf(request), { format, asked: told, from, to, treeSize: checkpoint.size });
    } catch (error) {
      await pieces.return(undefined);
      throw error;
    }
    return sendDownload(request, reply, download, pieces);
  }

  /** Undefined where there is nothing to prove. */
  async function evidenceOf(asked: Asked): Promise<AsyncGenerator<string> | undefined> {
    const { log, filter, checkpoint, from, to, signal } = asked;
    if (from === to) return undefined;
    return evidence.open({
      ...{ log, filter, checkpoint, signal },
      selection: selectionOf(asked),
      predecessors: await logsBefore(log),
      witnessKeys: services.signing.witnesses.vkeys,
      ...madeNow(),
    });
  }

  function piecesOf(asked: Asked, type: "csv" | "ndjson", cells: readonly Column[], bare: boolean) {
    const { log, filter, checkpoint, from, to, parameters, signal } = asked;
    const columns = type === "csv" ? { columns: cells.map(({ name }) => name) } : {};
    const facts = { type, log: log.name, filter: parameters, ...columns, from, to, checkpoint: checkpoint.note };
    return exportPieces({ ...facts, ...madeNow(), cells, bare }, search.entries(log, { filter, from, to, signal }));
  }

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
}

interface ToSend {
  readonly asked: Asked;
  readonly pieces: AsyncGenerator<string | Uint8Array>;
  readonly download: Download;
  readonly format: Format;
  /** What the entry about the export says of the request. */
  readonly told: Readonly<Record<string, string | readonly string[] | undefined>>;
}

/**
 * The columns of a CSV file.
 * @throws {Problem} 400 that names what is no column, and what has none.
 */
function columnsAsked({ format, columns, manifest }: ExportQuery): Column[] {
  const errors: { path: string; message: string }[] = [];
  const names = columns?.flatMap((one) => one.split(","));
  const found = columnsOf(names, (message) => errors.push({ path: "columns", message }));
  if (format !== "csv" && columns !== undefined) {
    errors.push({ path: "columns", message: "is for CSV: leave it out, or ask for format=csv" });
  }
  if (format === "evidence" && manifest !== undefined) {
    errors.push({ path: "manifest", message: "is what shows that evidence is whole: leave this out" });
  }
  if (errors.length === 0) return found;
  throw new Problem(400, "invalid-request", "The export was refused: mend the parameters in errors.", { errors });
}

function madeNow() {
  return { createdAt: new Date().toISOString().replace("Z", "000Z"), generator: `tallystick ${version}` };
}

/** Parameters that were given, those with one value as a text. */
function plainParameters(given: Readonly<Record<string, string | readonly string[] | undefined>>): Parameters {
  return Object.fromEntries(
    Object.entries(given)
      .filter((entry): entry is [string, string | readonly string[]] => entry[1] !== undefined)
      .map(([name, values]) => [name, typeof values !== "string" && values.length === 1 ? values[0]! : values]),
  );
}

function selectionOf({ filter, from, to, parameters }: Asked): EvidenceSelection {
  if (isTimeRange(filter)) return { kind: "range", from, to, asked: parameters };
  return { kind: "filter", from, to, filter: parameters };
}

/** A file's name, without what it ends in. */
function nameOf({ log: { name }, filter, from, to }: Asked): string {
  const log = name.slice(name.lastIndexOf("/") + 1);
  if (from === to) return `${log}-empty`;
  return `${log}-${from}-${to - 1}${isTimeRange(filter) ? "" : "-filtered"}`;
}
