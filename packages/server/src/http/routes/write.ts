/**
 * POST /v1/logs and /v1/logs/bulk: where an event comes in.
 */
import { type Event, parseEvent } from "@tallystick/core/event";
import { toHex } from "@tallystick/core/hex";
import type { JsonItem, JsonValue } from "@tallystick/core/json";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Recorded } from "../../log/append.ts";
import { AppendError } from "../../log/errors.ts";
import { type PreparedEvent, prepareEvent } from "../../log/prepare.ts";
import type { TenantLog } from "../../log/tenants.ts";
import type { Access } from "../access.ts";
import { bulkBody, jsonBody } from "../body.ts";
import { Problem, type ProblemBody, problemBody, problemOf } from "../problem.ts";
import { bulkSchema, recordSchema } from "../schemas.ts";
import type { Services } from "../server.ts";

const MAX_EVENT_BODY_BYTES = 1024 * 1024;
const MAX_BULK_BODY_BYTES = 16 * 1024 * 1024;
const MAX_KEY_BYTES = 128;
const DEFAULT_SERVICE = "default";

/** The head of an entry: what a write answers. */
interface EntryHead {
  readonly id: string;
  readonly seq: number;
  readonly recorded_at: string;
  readonly leaf_hash: string;
  readonly duplicate: boolean;
}

export function writeRoutes(app: FastifyInstance, { gate, sequencer }: Services): void {
  app.post(
    "/v1/logs",
    { schema: recordSchema, bodyLimit: MAX_EVENT_BODY_BYTES, config: { scope: "write" } },
    async (request, reply) => {
      const { event, log } = await readEvent(request.access, jsonBody(request));
      const prepared = prepare(request.access, log, event, keyHeader(request));
      const outcome = await sequencer.append({ logId: log.logId, events: [prepared], partial: false });
      if (outcome instanceof AppendError) throw outcome;
      const head = entryHead(outcome[0] as Recorded);
      return reply.code(201).header("location", `/v1/logs/${head.id}`).send(head);
    },
  );

  app.post(
    "/v1/logs/bulk",
    { schema: bulkSchema, bodyLimit: MAX_BULK_BODY_BYTES, config: { scope: "write" } },
    async (request, reply) => {
      if (keyHeader(request) !== undefined) {
        throw new Problem(
          400,
          "invalid-request",
          "Idempotency-Key names one event: give each event of a bulk request its own idempotency_key.",
          {
            errors: [{ path: "Idempotency-Key", message: "is not taken here" }],
          },
        );
      }
      const partial = (request.query as { partial?: string }).partial === "true";
      const { items, at } = bulkBody(request);
      const results: (EntryHead | ProblemBody | undefined)[] = [];
      const prepared: PreparedEvent[] = [];
      let log: TenantLog | undefined;
      for (const [index, item] of items.entries()) {
        try {
          const read = await readEvent(request.access, valueOf(item));
          log ??= read.log;
          if (log.logId !== read.log.logId) {
            throw new Problem(
              400,
              "invalid-request",
              "The events of a bulk request are one tenant's: send the others in another.",
              {
                errors: [{ path: "/tenant_id", message: "names another tenant than the events before it" }],
              },
            );
          }
          prepared.push(prepare(request.access, log, read.event, undefined));
          results.push(undefined);
        } catch (error) {
          const problem = itemProblem(error, `${at}/${index}`);
          if (!partial) throw problem;
          results.push(problemBody(problem));
        }
      }
      if (log !== undefined && prepared.length > 0) {
        const outcome = await sequencer.append({ logId: log.logId, events: prepared, partial });
        if (outcome instanceof AppendError)
          throw outcome.index === undefined ? outcome : itemProblem(outcome, `${at}/${outcome.index}`);
        let next = 0;
        for (const [index, result] of results.entries()) {
          if (result !== undefined) continue;
          const recorded = outcome[next++]!;
          results[index] =
            recorded instanceof AppendError
              ? problemBody(itemProblem(recorded, `${at}/${index}`))
              : entryHead(recorded);
        }
      }
      return reply.code(partial ? 207 : 201).send({ data: results });
    },
  );

  async function readEvent(access: Access, input: JsonValue): Promise<{ event: Event; log: TenantLog }> {
    const { event, tenant } = parseEvent(input);
    return { event, log: tenant === undefined ? access.log : await gate.logOf(access, tenant) };
  }
}

function valueOf(item: JsonItem): JsonValue {
  if ("error" in item) throw item.error;
  return item.value;
}

function prepare(access: Access, log: TenantLog, event: Event, headerKey: string | undefined): PreparedEvent {
  if (log.status !== "active") {
    throw new Problem(
      403,
      "forbidden",
      `The tenant "${log.slug}" is ${log.status}: it can be read and not written to, until the operator reactivates it.`,
    );
  }
  const { serviceId = event.service_id ?? DEFAULT_SERVICE } = access;
  if (event.service_id !== undefined && event.service_id !== serviceId) {
    throw new Problem(403, "forbidden", "The credential is bound to another service.", {
      errors: [{ path: "/service_id", message: `must be "${serviceId}", or be left out` }],
    });
  }
  const key = event.idempotency_key ?? headerKey;
  if (headerKey !== undefined && key !== headerKey) {
    throw new Problem(
      400,
      "invalid-request",
      "The header and the body name different idempotency keys: send one of them.",
      {
        errors: [{ path: "/idempotency_key", message: "differs from the Idempotency-Key header" }],
      },
    );
  }
  return prepareEvent(log, event, serviceId, key);
}

function keyHeader(request: FastifyRequest): string | undefined {
  const key = request.headers["idempotency-key"];
  if (key === undefined) return undefined;
  if (typeof key === "string" && key.length > 0 && Buffer.byteLength(key) <= MAX_KEY_BYTES) return key;
  throw new Problem(400, "invalid-request", "The idempotency key is not usable.", {
    errors: [{ path: "Idempotency-Key", message: `must have 1 to ${MAX_KEY_BYTES} bytes` }],
  });
}

function entryHead({ id, seq, recordedAt, leafHash, duplicate }: Recorded): EntryHead {
  return { id, seq, recorded_at: recordedAt, leaf_hash: toHex(leafHash), duplicate };
}

/** The problem of one item of a bulk request: its paths lead into the body as it was sent. */
function itemProblem(error: unknown, at: string): Problem {
  const problem = problemOf(error);
  const errors = problem.errors?.map(({ path, message }) => ({ path: `${at}${path}`, message })) ?? [
    { path: at, message: problem.message },
  ];
  const { status, problem: name, message, retryAfterSeconds } = problem;
  return new Problem(status, name, message, {
    errors,
    cause: error,
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
  });
}
