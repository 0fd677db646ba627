/**
 * POST /v1/logs and /v1/logs/bulk: where an event comes in.
 */
import { setImmediate as turn } from "node:timers/promises";
import { toHex } from "@tallystick/core/hex";
import type { JsonItem, JsonValue } from "@tallystick/core/json";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Recorded } from "../../log/append.ts";
import { AppendError } from "../../log/errors.ts";
import type { PreparedEvent } from "../../log/prepare.ts";
import type { TenantLog } from "../../log/tenants.ts";
import { Turns } from "../../turns.ts";
import { bulkBody, jsonBody } from "../body.ts";
import { type Intake, keyHeader, takeIn } from "../intake.ts";
import { countBodies, requireRoom } from "../large-bodies.ts";
import { Problem, problemBody, problemOf } from "../problem.ts";
import { chargeRequest } from "../rate-limit.ts";
import { receiptsOf, wantsReceipts } from "../receipts.ts";
import { bulkSchema, recordSchema } from "../schemas/events.ts";
import type { Services } from "../server.ts";
import { noteDenial } from "../watched.ts";

const MAX_EVENT_BODY_BYTES = 1024 * 1024;
const MAX_BULK_BODY_BYTES = 16 * 1024 * 1024;
const JSON_TYPE = "application/json; charset=utf-8";
/** A bulk request is read in slices of about a millisecond, so that commits and other requests go on between them. */
const SLICE_EVENTS = 50;

/** Places that the refusals of a bulk request name together before each names only one, and that one refusal names at most. */
const MAX_BULK_ERRORS = 1_000;
const MAX_ITEM_ERRORS = 10;

/** A bulk request's events, and the results (JSON) of those that were refused, with a hole for each that is ready. */
interface Bulk {
  /** Where in the body the events are. */
  readonly at: string;
  readonly log: TenantLog | undefined;
  readonly prepared: PreparedEvent[];
  readonly results: (string | undefined)[];
}

export function writeRoutes(app: FastifyInstance, services: Services): void {
  const { sequencer, metrics, rateLimits } = services;
  const preParsing = countBodies(services.bodies);
  const record = {
    schema: recordSchema,
    bodyLimit: MAX_EVENT_BODY_BYTES,
    config: { scope: "write", records: true },
    preParsing,
  } as const;
  app.post("/v1/logs", record, async (request, reply) => {
    const { log, prepared } = await takeIn(services, request.access, jsonBody(request), keyHeader(request));
    const outcome = await sequencer.append({ logId: log.logId, events: [prepared], partial: false });
    if (outcome instanceof AppendError) throw outcome;
    const recorded = outcome[0] as Recorded;
    metrics.received(prepared.serviceId);
    const [receipt] = wantsReceipts(request, reply) ? await receiptsOf(services, log, [recorded]) : [];
    return reply
      .code(201)
      .header("location", `/v1/logs/${recorded.id}`)
      .type(JSON_TYPE)
      .send(entryHead(recorded, receipt));
  });

  // One at a time: requests that were read side by side would all be ready at once, and the database idle until then. Those
  // that wait are bytes still: parsed, they would be copied by each collection of young garbage.
  const reading = new Turns();
  const bulk = {
    schema: bulkSchema,
    bodyLimit: MAX_BULK_BODY_BYTES,
    config: { scope: "write", records: true },
    preParsing,
  } as const;
  app.post("/v1/logs/bulk", bulk, async (request, reply) => {
    refuseKeyHeader(request);
    requireRoom(services.bodies, request.access.log.tenantId);
    const partial = (request.query as { partial?: string }).partial === "true";
    const { at, log, prepared, results } = await reading.take(() => readBulk(request, reply, partial));
    if (log !== undefined) {
      const outcome = await sequencer.append({ logId: log.logId, events: prepared, partial });
      if (outcome instanceof AppendError) {
        throw outcome.index === undefined ? outcome : itemProblem(outcome, `${at}/${outcome.index}`);
      }
      const recordedOnes = outcome.flatMap((one) => (one instanceof AppendError ? [] : [one]));
      const receipts = wantsReceipts(request, reply) ? await receiptsOf(services, log, recordedOnes) : [];
      let next = 0;
      let nextReceipt = 0;
      for (let index = 0; index < results.length; index++) {
        if (results[index] !== undefined) continue;
        const recorded = outcome[next++]!;
        if (recorded instanceof AppendError) {
          results[index] = refused(request, itemProblem(recorded, `${at}/${index}`), MAX_ITEM_ERRORS);
        } else {
          results[index] = entryHead(recorded, receipts[nextReceipt++]);
          metrics.received(prepared[next - 1]!.serviceId);
        }
      }
    }
    return reply
      .code(partial ? 207 : 201)
      .type(JSON_TYPE)
      .send(`{"data":[${results.join(",")}]}`);
  });

  async function readBulk(request: FastifyRequest, reply: FastifyReply, partial: boolean): Promise<Bulk> {
    const { items, at } = bulkBody(request);
    const { holder } = request.access;
    if (holder !== undefined && items.length > 1) chargeRequest(rateLimits, holder, reply, { cost: items.length - 1 });
    const prepared: PreparedEvent[] = [];
    const results: Bulk["results"] = [];
    let log: TenantLog | undefined;
    let errors = 0;
    for (let start = 0; start < items.length; start += SLICE_EVENTS) {
      if (start > 0) await turn();
      // Those of a slice are begun together: their signatures are verified side by side.
      const slice = items.slice(start, start + SLICE_EVENTS).map((item) => begin(request, item));
      for (const [offset, begun] of slice.entries()) {
        const event = begun instanceof Promise ? await begun : begun;
        const index = start + offset;
        try {
          if (event instanceof Refusal) throw event.error;
          requireSameLog(log, event);
          log = event.log;
          prepared.push(event.prepared);
          results.push(undefined);
        } catch (error) {
          const problem = itemProblem(error, `${at}/${index}`);
          if (!partial || problem.status >= 500) throw problem;
          const most = errors < MAX_BULK_ERRORS ? MAX_ITEM_ERRORS : 1;
          errors += Math.min(problem.errors?.length ?? 0, most);
          results.push(refused(request, problem, most));
        }
      }
    }
    return { at, log, prepared, results };
  }

  /** Never throws, so that those begun together can be looked at one after another. */
  function begin(request: FastifyRequest, item: JsonItem): Intake | Refusal | Promise<Intake | Refusal> {
    try {
      const event = takeIn(services, request.access, parsed(item), undefined);
      return event instanceof Promise ? event.catch((error: unknown) => new Refusal(error)) : event;
    } catch (error) {
      return new Refusal(error);
    }
  }

  /** The result of an event that is refused while others of its request are not; it names at most so many errors. */
  function refused(request: FastifyRequest, problem: Problem, mostErrors: number): string {
    noteDenial(services.watch, request, problem);
    metrics.rejected(problem.reason ?? problem.problem);
    const { errors, ...body } = problemBody(problem);
    return JSON.stringify(errors === undefined ? body : { ...body, errors: errors.slice(0, mostErrors) });
  }
}

/** Why one event of a bulk request was not taken. */
class Refusal {
  readonly error: unknown;
  constructor(error: unknown) {
    this.error = error;
  }
}

function parsed(item: JsonItem): JsonValue {
  if ("error" in item) throw item.error;
  return item.value;
}

function requireSameLog(log: TenantLog | undefined, event: Intake): void {
  if (log === undefined || log.logId === event.log.logId) return;
  throw new Problem(
    400,
    "invalid-request",
    "The events of a bulk request are one tenant's: send the others in another.",
    {
      errors: [{ path: "/tenant_id", message: "names another tenant than the events before it" }],
    },
  );
}

function refuseKeyHeader(request: FastifyRequest): void {
  if (keyHeader(request) === undefined) return;
  const detail = "Idempotency-Key names one event: give each event of a bulk request its own idempotency_key.";
  throw new Problem(400, "invalid-request", detail, {
    errors: [{ path: "Idempotency-Key", message: "is not taken here" }],
  });
}

/** The head of an entry, what a write answers, as JSON; `receipt` is JSON. Nothing else in it needs escaping. */
function entryHead({ id, seq, recordedAt, leafHash, duplicate }: Recorded, receipt?: string): string {
  const head = `"id":"${id}","seq":${seq},"recorded_at":"${recordedAt}","leaf_hash":"${toHex(leafHash)}","duplicate":${duplicate}`;
  return receipt === undefined ? `{${head}}` : `{${head},${receipt}}`;
}

/** The problem of one item of a bulk request: its paths lead into the body as it was sent. */
function itemProblem(error: unknown, at: string): Problem {
  const problem = problemOf(error);
  const errors = problem.errors?.map(({ path, message }) => ({ path: `${at}${path}`, message })) ?? [
    { path: at, message: problem.message },
  ];
  const { status, problem: name, message, retryAfterSeconds, reason } = problem;
  return new Problem(status, name, message, {
    errors,
    reason,
    cause: error,
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
  });
}
