/**
 * Schema of the export.
 */
import { EVIDENCE_MEDIA_TYPE } from "@tallystick/core/evidence";
import { filterParameters } from "./entries.ts";
import { cosigned } from "./log.ts";
import { logParameter, problems, strict, tenantParameter } from "./shared.ts";

/** What entries can be exported as. */
export const EXPORT_FORMATS = ["evidence"] as const;

const position = { type: "string", pattern: "^(0|[1-9][0-9]{0,14})$" } as const;

export const exportSchema = {
  operationId: "exportEntries",
  summary: "Export entries with their proofs",
  description:
    "One file that verifies without a server: tallystick verify FILE. With nothing but from, to, from_seq and to_seq it has every entry of a range, and proves that none is missing; with any other filter it has each entry's own proof. An export that does not end well has no manifest, and is not taken for whole.",
  tags: ["entries"],
  querystring: {
    ...strict,
    required: ["format"],
    properties: {
      ...tenantParameter,
      format: { type: "string", enum: EXPORT_FORMATS },
      ...filterParameters,
      from_seq: { ...position, description: "From this position on" },
      to_seq: { ...position, description: "Before this position" },
      cosigned: {
        ...cosigned,
        description: "1-16: prove by the newest kept checkpoint that so many witnesses have cosigned",
      },
      tree_size: { ...position, description: "Prove by the kept checkpoint of this size; else by a new one" },
      ...logParameter,
    },
  },
  response: {
    200: {
      description: "Lines of JSON: header, publisher keys, entries, manifest",
      content: { [EVIDENCE_MEDIA_TYPE]: { schema: { type: "string" } } },
    },
    ...problems(400, 401, 403, 404, 422, 503),
  },
};
