/**
 * Schemas of the routes that show a log: its checkpoints, tiles, proofs and successors.
 */
import { hex, listOf, problems, strict, tenantParameter, time, uuid } from "./shared.ts";

export const cosigned = {
  type: "string",
  pattern: "^([1-9]|1[0-6])$",
  description: "1-16: the newest kept checkpoint that so many witnesses have cosigned",
} as const;
const size = { type: "string", pattern: "^(0|[1-9][0-9]{0,15})$" } as const;
const plainText = (description: string) => ({
  description,
  content: { "text/plain": { schema: { type: "string" } } },
});
const tenantPath = {
  ...strict,
  required: ["id"],
  properties: { id: { type: "string", description: "The tenant: id or slug" } },
} as const;
const logPath = {
  ...strict,
  required: ["id", "log"],
  properties: {
    ...tenantPath.properties,
    log: { type: "string", description: "One of the tenant's logs, by slug: see listLogs" },
  },
} as const;

/** Each route is there for the tenant's current log, and for any log of the tenant by slug. */
export function logSchema(route: keyof typeof LOG_SCHEMAS, current: boolean) {
  const { operationId, ...schema } = LOG_SCHEMAS[route];
  const path = current ? tenantPath : logPath;
  const tile = { "*": { type: "string", description: "Tile path, such as 0/x001/234.p/5 or entries/000" } } as const;
  return {
    ...schema,
    operationId: current ? operationId : `${operationId}OfLog`,
    tags: ["log"],
    params:
      route === "tile"
        ? { ...path, required: [...path.required, "*"], properties: { ...path.properties, ...tile } }
        : path,
  };
}

const LOG_SCHEMAS = {
  checkpoint: {
    operationId: "getCheckpoint",
    summary: "The newest published checkpoint",
    description: "C2SP tlog-checkpoint: a signed note with the log's signature and its witnesses' cosignatures.",
    querystring: {
      ...strict,
      properties: { ...tenantParameter, size: { ...size, description: "A kept one of this size" }, cosigned },
    },
    response: { 200: plainText("Signed note"), ...problems(400, 401, 403, 404, 503) },
  },
  witnesses: {
    operationId: "getWitnesses",
    summary: "Who cosigns the log's checkpoints",
    description:
      "How it stands between each witness that the server asks and this log. Recording never waits for a witness, and never stops because of one.",
    querystring: { ...strict, properties: tenantParameter },
    response: {
      200: listOf({
        type: "object",
        required: ["name", "url", "vkey", "last_size", "last_time", "status", "since", "detail"],
        properties: {
          name: { type: "string" },
          url: { type: "string", description: "C2SP tlog-witness submission prefix" },
          vkey: { type: "string", description: "The key that its cosignatures verify by" },
          last_size: { type: ["integer", "null"], description: "Size of the newest checkpoint that it cosigned" },
          last_time: { ...time, type: ["string", "null"], description: "When it did, by its own clock" },
          status: {
            type: "string",
            enum: ["ok", "waiting", "silent", "refused", "invalid", "unproved", "conflict"],
            description: "conflict: it has cosigned another history of this log",
          },
          since: { ...time, type: ["string", "null"], description: "Since when it is not ok" },
          detail: { type: ["string", "null"] },
        },
      }),
      ...problems(401, 403, 404),
    },
  },
  vkey: {
    operationId: "getVerifierKey",
    summary: "The key that the log's checkpoints verify by",
    querystring: { ...strict, properties: tenantParameter },
    response: { 200: plainText("C2SP verifier key"), ...problems(401, 403, 404) },
  },
  consistency: {
    operationId: "getConsistencyProof",
    summary: "The proof that a log has only grown",
    querystring: {
      ...strict,
      required: ["from"],
      properties: {
        ...tenantParameter,
        from: { ...size, description: "Size of the older tree" },
        to: { ...size, description: "Size of the newer one; that of the newest published checkpoint unless given" },
      },
    },
    response: {
      200: {
        type: "object",
        required: ["log", "from", "to", "proof"],
        properties: {
          log: { type: "string" },
          from: {
            type: "object",
            properties: { size: { type: "integer" }, root: hex, checkpoint: { type: ["string", "null"] } },
          },
          to: {
            type: "object",
            properties: { size: { type: "integer" }, root: hex, checkpoint: { type: ["string", "null"] } },
          },
          proof: { type: "array", items: { type: "string" }, description: "RFC 6962 section 2.1.2, base64" },
        },
      },
      ...problems(400, 401, 403, 404, 503),
    },
  },
  tile: {
    operationId: "getTile",
    summary: "A tile of hashes, or of entries",
    description: "C2SP tlog-tiles: tile/<L>/<N>[.p/<W>] and tile/entries/<N>[.p/<W>], which needs the scope read.",
    querystring: { ...strict, properties: tenantParameter },
    response: {
      200: {
        description: "Tile",
        content: { "application/octet-stream": { schema: { type: "string", format: "binary" } } },
      },
      ...problems(401, 403, 404, 503),
    },
  },
} as const;

export const listLogsSchema = {
  operationId: "listLogs",
  summary: "The tenant's logs, oldest first: the last one is its current log",
  tags: ["log"],
  params: tenantPath,
  querystring: { ...strict, properties: tenantParameter },
  response: {
    200: listOf({
      type: "object",
      required: ["name", "slug", "size", "root", "predecessor", "current", "created_at", "vkey", "signed", "refused"],
      properties: {
        name: { type: "string" },
        slug: { type: "string" },
        size: { type: "integer" },
        root: hex,
        predecessor: { type: ["string", "null"], description: "Name of the log that this one succeeds" },
        current: { type: "boolean" },
        created_at: time,
        vkey: { type: "string" },
        signed: {
          type: ["object", "null"],
          properties: { size: { type: "integer" }, root: hex },
          description: "What was signed last, by the sign-lock",
        },
        refused: { type: ["string", "null"], description: "Why nothing is signed or recorded in this log" },
      },
    }),
    ...problems(401, 403, 404, 503),
  },
};

export const succeedSchema = {
  operationId: "succeedLog",
  summary: "Close the tenant's log and open its successor",
  description:
    "For a log that is no longer what was signed (a restored backup, a cut tail), or to begin anew. The successor's first entry cites the last signed checkpoint.",
  tags: ["log"],
  params: tenantPath,
  querystring: { ...strict, properties: tenantParameter },
  body: {
    ...strict,
    required: ["reason"],
    properties: {
      reason: { type: "string", minLength: 1, maxLength: 1024 },
      force: { type: "boolean", description: "Also a log that can be signed and written to; it cannot be undone" },
    },
  },
  response: {
    201: {
      type: "object",
      required: ["name", "slug", "predecessor", "entry_id"],
      properties: {
        name: { type: "string" },
        slug: { type: "string" },
        predecessor: { type: "string" },
        entry_id: uuid,
        checkpoint: { type: ["string", "null"], description: "The last signed checkpoint of the predecessor" },
      },
    },
    ...problems(400, 401, 403, 404, 409, 415, 503),
  },
};

export const receiptSchema = {
  operationId: "getReceipt",
  summary: "The proof that an entry is in the log",
  description: "C2SP tlog-proof: inclusion proof, checkpoint and, in extra, the leaf and its openings.",
  tags: ["entries"],
  params: { ...strict, required: ["id"], properties: { id: uuid } },
  querystring: {
    ...strict,
    properties: {
      ...tenantParameter,
      tree_size: { ...size, description: "Size of a kept checkpoint; the newest unless given" },
      cosigned,
    },
  },
  response: { 200: plainText("Receipt"), ...problems(400, 401, 403, 404, 503) },
};
