/**
 * Schema of the stream.
 */
import { filterParameters } from "./entries.ts";
import { logParameter, problems, strict, tenantParameter } from "./shared.ts";

const position = { type: "string", pattern: "^(0|[1-9][0-9]{0,14})$" } as const;

/** One server-sent event. */
const streamEvent = {
  type: "object",
  required: ["event", "data"],
  properties: {
    id: { type: "string", description: "The last position that need not be sent again" },
    event: { type: "string", enum: ["entry", "heartbeat", "lagging", "end"] },
    data: { description: "JSON: the entry as lists have it, or seq and what else the event says" },
  },
} as const;

export const streamSchema = {
  operationId: "streamEntries",
  summary: "Follow entries as they are recorded",
  description:
    "Server-sent events, or with an upgrade a WebSocket, of entries that match, each once and in the order of their positions; heartbeats say up to where the log has been considered. See docs/streaming.md. A page's WebSocket passes its credential as subprotocol bearer.<token>.",
  tags: ["entries"],
  querystring: {
    ...strict,
    properties: {
      ...tenantParameter,
      ...filterParameters,
      since_seq: {
        ...position,
        description:
          "The first position that is wanted; what was recorded before is sent first. From now on unless given",
      },
      follow: {
        type: "string",
        enum: ["true", "false"],
        description: "false: ends with what is there. true unless given",
      },
      ...logParameter,
    },
  },
  headers: {
    type: "object",
    properties: {
      "last-event-id": {
        type: "string",
        pattern: "^(-1|0|[1-9][0-9]{0,14})$",
        description: "Of server-sent events: the last id that was seen, as browsers send it; before since_seq",
      },
    },
  },
  response: {
    200: {
      description: "Events entry, heartbeat, lagging, end",
      content: { "text/event-stream": { schema: streamEvent } },
    },
    ...problems(400, 401, 403, 404, 429, 503),
  },
};
