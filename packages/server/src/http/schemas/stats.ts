/**
 * Schemas of statistics and of a field's history.
 */
import { COUNTED_FIELDS } from "../../stats/counted-fields.ts";
import { INTERVALS, MAX_BUCKETS } from "../../stats/zone-buckets.ts";
import { filterParameters } from "./entries.ts";
import { logParameter, nullableTime, problems, seq, strict, tenantParameter, text, time, uuid } from "./shared.ts";

const entries = { type: "integer", minimum: 0, description: "How many entries" } as const;
const other = {
  type: "integer",
  minimum: 0,
  description: "Entries of the values that are not named; one with several of them counts for each",
} as const;
const without = { type: "integer", minimum: 0, description: "Entries that have no value" } as const;
const digits = (description: string) => ({ type: "string", pattern: "^[0-9]+$", description }) as const;

export const statisticsSchema = {
  operationId: "countEntries",
  summary: "Statistics",
  description:
    "How many entries there are, by bucket of time and by value; by recorded_at. The numbers are those of the log at the size in as_of, exactly. Defaults (outcome success, severity INFO) count. An entry with several resource types counts for each of them.",
  tags: ["entries"],
  querystring: {
    ...strict,
    properties: {
      ...tenantParameter,
      ...logParameter,
      ...filterParameters,
      interval: {
        type: "string",
        enum: [...INTERVALS],
        description: `Length of the buckets, at most ${MAX_BUCKETS}; none unless given`,
      },
      time_zone: {
        type: "string",
        minLength: 1,
        maxLength: 64,
        description:
          "IANA name such as Europe/Berlin, whose hours, days, weeks (from Monday on) and months are meant; UTC unless given",
      },
      by: {
        type: "string",
        enum: [...COUNTED_FIELDS],
        description: "Counts the values of this field; actor: the actor's id",
      },
      top: digits("How many values are named, the most frequent ones; 1 to 100, 10 unless given"),
    },
  },
  response: {
    200: {
      type: "object",
      required: ["as_of", "rolled_up", "from", "to", "time_zone", "interval", "by", "entries"],
      properties: {
        as_of: {
          type: "object",
          description: "The log that was counted: every entry that was committed before",
          required: ["size", "recorded_at"],
          properties: {
            size: { type: "integer", minimum: 0 },
            recorded_at: { ...nullableTime, description: "Of its newest entry" },
          },
        },
        rolled_up: {
          type: "integer",
          minimum: 0,
          description: "Positions before this one are rolled up; later ones were counted one by one",
        },
        from: { ...nullableTime, description: "Of what was counted; the log's first entry unless given" },
        to: { ...nullableTime, description: "Before this time; null: up to the newest entry" },
        time_zone: { type: "string" },
        interval: { type: ["string", "null"], enum: [...INTERVALS, null] },
        by: { type: ["string", "null"], enum: [...COUNTED_FIELDS, null] },
        entries,
        values: {
          type: "array",
          description: "With by: the most frequent values; of equal ones those that came first in the log",
          items: { type: "object", required: ["value", "entries"], properties: { value: { type: "string" }, entries } },
        },
        other,
        without,
        buckets: {
          type: "array",
          description: "With interval: all of the range, empty ones too",
          items: {
            type: "object",
            required: ["start", "local", "entries"],
            properties: {
              start: { ...time, description: "When it begins; the first one may begin before from" },
              local: { type: "string", description: "The same on a clock of the time zone" },
              entries,
              counts: { type: "array", items: entries, description: "With by: of each of values, in their order" },
              other,
              without,
            },
          },
        },
      },
    },
    ...problems(400, 401, 403, 404, 422, 503),
  },
};

const side = (description: string) => ({ description });
const change = {
  type: "object",
  required: ["seq", "id", "recorded_at", "action", "actor"],
  properties: {
    seq,
    id: uuid,
    recorded_at: time,
    action: { type: "string" },
    actor: { type: "object", additionalProperties: true, description: "Who changed it" },
    before: side("Any JSON; not there where the field was not"),
    after: side("Any JSON; not there where the field was taken away"),
  },
} as const;

export const historySchema = {
  operationId: "fieldHistory",
  summary: "What changed in a field over time",
  description:
    "The entries about a resource whose changes say that a field became something else, the newest first. Changes of related resources do not count.",
  tags: ["entries"],
  querystring: {
    ...strict,
    required: ["resource", "field"],
    properties: {
      ...tenantParameter,
      ...logParameter,
      resource: { ...text, description: "type:id, as in order:o-17" },
      field: {
        ...text,
        description:
          'Path in changes.before and changes.after, as in status or address.city; keys that have dots stand in quotes: "a.b".c',
      },
      from: filterParameters.from,
      to: filterParameters.to,
      limit: digits("1 to 1000; 50 unless given"),
      cursor: { type: "string", description: "next_cursor of the page before" },
    },
  },
  response: {
    200: {
      type: "object",
      required: ["data", "next_cursor"],
      properties: {
        last_set: {
          oneOf: [change, { type: "null" }],
          description: "The newest change, which says who last set the field; on the first page",
        },
        data: { type: "array", items: change },
        next_cursor: { type: ["string", "null"] },
      },
    },
    ...problems(400, 401, 403, 404, 422, 503),
  },
};
