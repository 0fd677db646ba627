/**
 * Schema of the export.
 */
import { EVIDENCE_MEDIA_TYPE } from "@tallystick/core/evidence";
import { COLUMN_OBJECTS, DEFAULT_COLUMNS, FURTHER_COLUMNS } from "../../export/columns.ts";
import { filterParameters } from "./entries.ts";
import { cosigned } from "./log.ts";
import { logParameter, problems, strict, tenantParameter } from "./shared.ts";

/** What entries can be exported as. */
export const EXPORT_FORMATS = ["csv", "ndjson", "evidence"] as const;

const position = { type: "string", pattern: "^(0|[1-9][0-9]{0,14})$" } as const;
const file = { schema: { type: "string" } } as const;

export const exportSchema = {
  operationId: "exportEntries",
  summary: "Export entries",
  description:
    "One file with every entry that matches, oldest first, up to a checkpoint that is fixed when the export begins. csv and ndjson are to work with; their last record is a manifest with the number of entries, the SHA-256 of all before it, what was asked for and the checkpoint: tallystick verify FILE tells one that is complete from one that is not (docs/exporting.md). evidence verifies without a server: with nothing but from, to, from_seq and to_seq it has every entry of a range, and proves that none is missing; with any other filter it has each entry's own proof. An export that does not end well has no manifest, and is not taken for whole.",
  tags: ["entries"],
  querystring: {
    ...strict,
    required: ["format"],
    properties: {
      ...tenantParameter,
      format: { type: "string", enum: EXPORT_FORMATS },
      ...filterParameters,
      columns: {
        type: "array",
        minItems: 1,
        maxItems: 200,
        items: { type: "string", minLength: 1, maxLength: 8_192 },
        description: `Of csv: names with commas between them. Unless given: ${DEFAULT_COLUMNS.join(", ")}. There are also ${FURTHER_COLUMNS.join(", ")}, and members of objects: ${COLUMN_OBJECTS.map((start) => `${start}<key>`).join(", ")}`,
      },
      gzip: {
        type: "string",
        enum: ["true", "false"],
        description: "true: the file itself is compressed. Accept-Encoding: gzip compresses it on the way only",
      },
      manifest: { type: "string", enum: ["none"], description: "none: csv or ndjson without the manifest" },
      from_seq: { ...position, description: "From this position on" },
      to_seq: { ...position, description: "Before this position" },
      cosigned: {
        ...cosigned,
        description: "1-16: up to the newest kept checkpoint that so many witnesses have cosigned",
      },
      tree_size: { ...position, description: "Up to the kept checkpoint of this size; else to a new one" },
      ...logParameter,
    },
  },
  response: {
    200: {
      description: "The file",
      content: {
        "text/csv": file,
        "application/x-ndjson": file,
        [EVIDENCE_MEDIA_TYPE]: file,
        "application/gzip": { schema: { type: "string", format: "binary" } },
      },
    },
    ...problems(400, 401, 403, 404, 422, 503),
  },
};
