/**
 * Schema of the search.
 */
import { filterParameters, order, pageOfEntries } from "./entries.ts";
import { logParameter, problems, strict, tenantParameter } from "./shared.ts";

const { q: _, ...filters } = filterParameters;

/** A filter's values: one, or several of which any is meant. */
const valuesOf = (parameter: { type: string; items?: object }) =>
  parameter.type === "array" ? { anyOf: [parameter.items!, parameter] } : parameter;

export const searchEntriesSchema = {
  operationId: "searchEntries",
  summary: "Search entries",
  description: "As listEntries. What is searched for stands in the body, so that no log of URLs keeps it.",
  tags: ["entries"],
  querystring: { ...strict, properties: tenantParameter },
  body: {
    ...strict,
    properties: {
      search_text: { type: "string", description: filterParameters.q.description },
      filters: {
        ...strict,
        description: "As the parameters of listEntries",
        properties: Object.fromEntries(Object.entries(filters).map(([name, one]) => [name, valuesOf(one)])),
      },
      ...logParameter,
      order,
      limit: { type: "integer", minimum: 1, maximum: 1_000, description: "50 unless given" },
      cursor: { type: "string", description: "next_cursor or prev_cursor of a page of the same list" },
    },
  },
  response: { 200: pageOfEntries, ...problems(400, 401, 403, 404, 413, 415, 422, 503) },
};
