/**
 * /v1/admin/keys and /v1/admin/services: the publishers of the tenant that the request works on.
 */
import { isReserved } from "@tallystick/core/event";
import {
  type PublicKey,
  PublicKeyError,
  parsePublicKeyPem,
  type SignatureAlgorithm,
} from "@tallystick/core/public-key";
import { normalizeTimestamp, TimestampError } from "@tallystick/core/timestamp";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Changed } from "../../log/change.ts";
import { KeyChangeError, type NewKey } from "../../publisher/publisher-keys.ts";
import { jsonBody } from "../body.ts";
import { requireActive } from "../intake.ts";
import { Problem } from "../problem.ts";
import {
  changeServiceSchema,
  listKeysSchema,
  listServicesSchema,
  registerKeySchema,
  revokeKeySchema,
  rotateKeySchema,
} from "../schemas/publisher-keys.ts";
import type { Services } from "../server.ts";
import { parseWith } from "../validate.ts";
import { byOf } from "../watched.ts";

const config = { scope: "admin" } as const;
/** Also to find what is to be revoked. */
const revoking = { ...config, revokes: true } as const;
/** Long enough for a rolling deployment, and for what waits in a publisher's queue. */
const DEFAULT_OVERLAP_SECONDS = 3_600;

interface KeyBody {
  readonly service_id: string;
  readonly algorithm: SignatureAlgorithm;
  readonly valid_from?: string;
  readonly valid_to?: string;
}

interface RotateBody extends KeyBody {
  readonly new_public_key_pem?: string;
  readonly public_key_pem?: string;
  readonly overlap_seconds?: number;
}

export function publisherKeyRoutes(app: FastifyInstance, { publisherKeys }: Services): void {
  app.get("/v1/admin/keys", { schema: listKeysSchema, config: revoking }, async (request) => ({
    data: await publisherKeys.list(request.access.log.tenantId),
  }));

  app.post("/v1/admin/keys", { schema: registerKeySchema, config }, async (request, reply) => {
    const body = parseWith<KeyBody & { public_key_pem: string }>(registerKeySchema.body, jsonBody(request));
    const log = writable(request);
    const key = newKey(body, "public_key_pem", body.public_key_pem);
    const changed = await answering(publisherKeys.register(log, byOf(request), key), "public_key_pem");
    return reply.code(201).header("location", "/v1/admin/keys").send(answerOf(changed));
  });

  app.post("/v1/admin/keys/rotate", { schema: rotateKeySchema, config }, async (request, reply) => {
    const body = parseWith<RotateBody>(rotateKeySchema.body, jsonBody(request));
    const log = writable(request);
    const name = body.new_public_key_pem === undefined ? "public_key_pem" : "new_public_key_pem";
    const pem = body[name];
    if (pem === undefined) throw invalid("/new_public_key_pem", "is required");
    if (name === "new_public_key_pem" && body.public_key_pem !== undefined) {
      throw invalid("/public_key_pem", "is new_public_key_pem by another name: send one of them");
    }
    const key = newKey(body, name, pem);
    const overlap = body.overlap_seconds ?? DEFAULT_OVERLAP_SECONDS;
    const changed = await answering(publisherKeys.rotate(log, byOf(request), key, overlap), name);
    return reply.code(201).header("location", "/v1/admin/keys").send(answerOf(changed));
  });

  app.post("/v1/admin/keys/:id/revoke", { schema: revokeKeySchema, config: revoking }, async (request) => {
    const { id } = request.params as { id: string };
    const isEmpty = !Buffer.isBuffer(request.body) || request.body.length === 0;
    const body = isEmpty ? {} : parseWith<{ reason?: string }>(revokeKeySchema.body, jsonBody(request));
    const log = writable(request);
    return answerOf(await answering(publisherKeys.revoke(log, byOf(request), id, body.reason), "id"));
  });

  app.get("/v1/admin/services", { schema: listServicesSchema, config }, async (request) => ({
    data: await publisherKeys.services(request.access.log.tenantId),
  }));

  app.patch("/v1/admin/services/:service_id", { schema: changeServiceSchema, config }, async (request) => {
    const { service_id: serviceId } = request.params as { service_id: string };
    const body = parseWith<{ signed_only: boolean }>(changeServiceSchema.body, jsonBody(request));
    const log = writable(request);
    requireUnreserved(serviceId, "service_id");
    requireLength(serviceId, "service_id");
    return answerOf(await publisherKeys.setSignedOnly(log, byOf(request), serviceId, body.signed_only));
  });
}

function writable({ access: { log } }: FastifyRequest) {
  requireActive(log);
  return log;
}

function newKey(body: KeyBody, name: string, pem: string): NewKey {
  requireUnreserved(body.service_id, "/service_id");
  requireLength(body.service_id, "/service_id");
  let publicKey: PublicKey;
  try {
    publicKey = parsePublicKeyPem(pem);
  } catch (error) {
    if (!(error instanceof PublicKeyError)) throw error;
    throw invalid(`/${name}`, error.message);
  }
  if (publicKey.algorithm !== body.algorithm) {
    throw invalid("/algorithm", `is not that of the key: send "${publicKey.algorithm}", or the key that is meant`);
  }
  return {
    serviceId: body.service_id,
    publicKey,
    validFrom: timeOf(body.valid_from, "/valid_from"),
    validTo: timeOf(body.valid_to, "/valid_to"),
  };
}

function timeOf(text: string | undefined, path: string): string | undefined {
  try {
    return text === undefined ? undefined : normalizeTimestamp(text);
  } catch (error) {
    if (!(error instanceof TimestampError)) throw error;
    throw invalid(path, error.message);
  }
}

function requireUnreserved(serviceId: string, path: string): void {
  if (!isReserved(serviceId)) return;
  const detail = 'Services that begin with "tallystick" are the server\'s own: choose another name.';
  throw new Problem(403, "reserved-name", detail, { errors: [{ path, message: "is reserved" }] });
}

/** Schemas count characters, the database counts bytes. */
function requireLength(serviceId: string, path: string): void {
  if (Buffer.byteLength(serviceId) > 128) throw invalid(path, "must have at most 128 bytes of UTF-8");
}

/** A change's refusal as an answer; `name` is the member that holds the key. */
async function answering<T>(change: Promise<T>, name: string): Promise<T> {
  try {
    return await change;
  } catch (error) {
    if (!(error instanceof KeyChangeError)) throw error;
    const detail = `Nothing was changed: ${error.message}.`;
    switch (error.code) {
      case "unknown":
        throw new Problem(404, "not-found", detail);
      case "none_valid":
        throw new Problem(409, "conflict", detail, { errors: [{ path: "/service_id", message: error.message }] });
      case "taken":
        throw new Problem(409, "conflict", detail, { errors: [{ path: `/${name}`, message: error.message }] });
      case "bad_time":
        throw invalid(`/${error.field}`, error.message);
    }
  }
}

function invalid(path: string, message: string): Problem {
  return new Problem(400, "invalid-request", "Nothing was changed: mend what errors names and send it again.", {
    errors: [{ path, message }],
  });
}

function answerOf<T extends object>({ changed, entry }: Changed<T>) {
  return {
    ...changed,
    entry: entry === undefined ? null : { id: entry.id, seq: entry.seq, recorded_at: entry.recordedAt },
  };
}
