/**
 * Schemas of the routes that verify.
 */
import { hex, problems, strict, tenantParameter, text } from "./shared.ts";

export const verifySchema = {
  operationId: "verifyChain",
  summary: "Verify the log, or one service's chain in it",
  tags: ["verification"],
  querystring: { ...strict, properties: { ...tenantParameter, service_id: text } },
  response: {
    200: {
      type: "object",
      required: ["ok", "log", "size", "root", "checked", "problems"],
      properties: {
        ok: { type: "boolean" },
        log: { type: "string" },
        size: { type: "integer" },
        root: hex,
        checked: { type: "integer", description: "Entries that were read" },
        erased: { type: "integer", description: "Commitments whose opening has been erased" },
        problems: {
          type: "array",
          items: {
            type: "object",
            required: ["seq", "id", "kind", "detail"],
            properties: {
              seq: { type: ["integer", "null"] },
              id: { type: ["string", "null"] },
              kind: { type: "string" },
              field: { type: "string" },
              stored: { type: "string" },
              expected: { type: "string" },
              detail: { type: "string" },
            },
          },
        },
      },
    },
    ...problems(400, 401, 403, 404, 503),
  },
};
