/**
 * From what a client sent to an event that may wait for its place in a log: the checks that need the credential, and the
 * publisher's signature.
 */
import type { Event } from "@tallystick/core/event";
import type { JsonValue } from "@tallystick/core/json";
import { type Masking, marksIn } from "@tallystick/core/masking";
import { signatureBytes } from "@tallystick/core/public-key";
import { publisherOf } from "@tallystick/core/publisher";
import { parseSubmission, pointerAsSent, type Signed, type Submission } from "@tallystick/core/signed-event";
import type { FastifyRequest } from "fastify";
import { unsignedMessage } from "../log/append.ts";
import { type PreparedEvent, prepareEvent, type SignedBy } from "../log/prepare.ts";
import type { ReplaySecret } from "../log/replay-hash.ts";
import { OPERATOR_TENANT, type TenantLog } from "../log/tenants.ts";
import type { Metrics } from "../metrics.ts";
import type { KnownKey, Publishers, TenantPublishers } from "../publisher/publishers.ts";
import { isSignature } from "../publisher/signature-check.ts";
import type { Access, Gate } from "./access.ts";
import { MAX_ERRORS, Problem, publisherKeyProblem, signatureRequired } from "./problem.ts";

const MAX_KEY_BYTES = 128;
const DEFAULT_SERVICE = "default";

/** An event that is ready, and the log that it is for. */
export interface Intake {
  readonly log: TenantLog;
  readonly prepared: PreparedEvent;
}

/** What an event's way in needs. */
export interface IntakeParts {
  readonly gate: Gate;
  readonly publishers: Publishers;
  readonly metrics: Metrics;
  readonly masking: Masking;
  /** Keys the hashes by which a repeated event is known. */
  readonly replaySecret: ReplaySecret;
}

/**
 * Checks one event and prepares it. Answers at once but for a signed event, one that names its tenant for the operator, and
 * the first one of a tenant in a second.
 *
 * @param headerKey the request's Idempotency-Key.
 * @throws {import("@tallystick/core/event").EventError} @throws {import("../log/prepare.ts").LeafTooLargeError}
 * @throws {Problem} 400 for two different keys, or a signature that cannot be one by its length; 403 for another tenant, another
 *   service, a tenant that is not active; 422 for a signature that is wrong or missing, a key that may not sign this, or a signed
 *   event that holds a secret.
 */
export function takeIn(
  parts: IntakeParts,
  access: Access,
  input: JsonValue,
  headerKey: string | undefined,
): Intake | Promise<Intake> {
  const parsed = parseSubmission(input);
  // Before anything is made of the event: what is masked leaves no trace, not even in the hash that knows a repeated event.
  const submission: Submission = { ...parsed, event: parts.masking.mask(parsed.event) };
  if (parsed.signed !== undefined) refuseMasked(submission.event, input);
  const { tenant } = submission;
  if (tenant !== undefined) {
    return parts.gate.logOf(access, tenant).then((log) => takeInto(parts, log, access, submission, headerKey));
  }
  return takeInto(parts, access.log, access, submission, headerKey);
}

/**
 * What is signed cannot be masked: the signature would not verify again.
 * @throws {Problem} 422 that names each place.
 */
function refuseMasked(event: Event, input: JsonValue): void {
  const marks = marksIn(event);
  if (marks.size === 0) return;
  const errors = [...marks].slice(0, MAX_ERRORS).map(([pointer, rule]) => ({
    path: pointerAsSent(input, pointer),
    message: `holds a secret (${rule}): leave it out, and sign again`,
  }));
  const detail =
    "The event was not recorded: it holds what is masked, which cannot be done to a signed event. Its publisher leaves secrets out before it signs.";
  throw new Problem(422, "masked-value", detail, { errors });
}

function takeInto(
  { publishers, metrics, replaySecret: secret }: IntakeParts,
  log: TenantLog,
  access: Access,
  { event, signed }: Submission,
  headerKey: string | undefined,
): Intake | Promise<Intake> {
  requireActive(log);
  const serviceId = access.serviceId ?? event.service_id ?? signed?.serviceId ?? DEFAULT_SERVICE;
  if (event.service_id !== undefined && event.service_id !== serviceId) {
    throw new Problem(403, "forbidden", "The credential is bound to another service.", {
      errors: [{ path: "/service_id", message: `must be "${serviceId}", or be left out` }],
    });
  }
  const key = event.idempotency_key ?? headerKey;
  if (headerKey !== undefined && key !== headerKey) {
    const detail = "The header and the body name different idempotency keys: send one of them.";
    throw new Problem(400, "invalid-request", detail, {
      errors: [{ path: "/idempotency_key", message: "differs from the Idempotency-Key header" }],
    });
  }
  const ready = (signed?: SignedBy): Intake => ({
    log,
    prepared: prepareEvent(log, event, serviceId, { secret, key, signed }),
  });
  if (signed === undefined) {
    const unsigned = (known: TenantPublishers) => {
      if (known.signedOnly.has(serviceId)) throw signatureRequired(unsignedMessage(serviceId));
      return ready();
    };
    const known = publishers.cached(log.tenantId);
    return known === undefined ? publishers.of(log.tenantId).then(unsigned) : unsigned(known);
  }
  if (signed.serviceId !== serviceId) {
    if (access.serviceId !== undefined) {
      throw new Problem(403, "forbidden", "The credential is bound to another service than the key.", {
        reason: "key_of_another_service",
        errors: [{ path: "/public_key_id", message: `must be a key of "${serviceId}"` }],
      });
    }
    throw publisherKeyProblem(
      "key_of_another_service",
      `the key is one of the service "${signed.serviceId}", the event is one of "${serviceId}"`,
    );
  }
  return publishers.key(log.tenantId, signed.keyId).then(async (known) => {
    const publicKey = await verified(metrics, signed, known);
    const publisher = publisherOf(signed, publicKey.publicKey.algorithm, event);
    return ready({ publisher, text: signed.text, key: publicKey.id });
  });
}

/**
 * The key that made the signature, which is good.
 * @throws {Problem} 400, 422.
 */
async function verified(metrics: Metrics, signed: Signed, key: KnownKey | undefined): Promise<KnownKey> {
  const { keyId, text, signatureBytes: signature } = signed;
  if (key === undefined) {
    throw publisherKeyProblem(
      "key_unknown",
      `no key ${keyId} is registered here: GET /v1/admin/keys lists those that are`,
    );
  }
  if (key.revoked) throw publisherKeyProblem("key_revoked", "the key is revoked: sign with another");
  const length = signatureBytes(key.publicKey);
  if (signature.length !== length) {
    throw new Problem(400, "invalid-event", "The event was not recorded: its signature cannot be one by this key.", {
      reason: "signature_length",
      errors: [
        {
          path: "/signature",
          message: `must have ${length} bytes, as those of ${keyId} have; it has ${signature.length}`,
        },
      ],
    });
  }
  const startedAt = performance.now();
  const good = await isSignature(text, signature, key.imported);
  metrics.signatureVerified((performance.now() - startedAt) / 1_000);
  if (good) return key;
  const signedText =
    signed.form === "text"
      ? "the UTF-8 bytes of the string in event, exactly as sent"
      : "the RFC 8785 (JCS) form of the event as sent, without signature and public_key_id; whoever signs another text, such as that of Python's json.dumps, sends it as a string in event (the signed form)";
  throw new Problem(422, "invalid-signature", "The event was not recorded: its signature does not verify.", {
    reason: "signature_wrong",
    errors: [{ path: "/signature", message: `is not one by ${keyId} over ${signedText}` }],
  });
}

/** @throws {Problem} 403 where the tenant cannot be written to. */
export function requireActive(log: TenantLog): void {
  if (log.slug === OPERATOR_TENANT) {
    throw new Problem(
      403,
      "forbidden",
      "The operator's log has the server's own entries only: write to another tenant.",
    );
  }
  requireUnsuspended(log);
}

/** @throws {Problem} 403 where the tenant is suspended: the operator's own never is. */
export function requireUnsuspended({ slug, status }: TenantLog): void {
  if (status === "active") return;
  const detail = `The tenant "${slug}" is ${status}: it can be read and not written to, until the operator reactivates it.`;
  throw new Problem(403, "forbidden", detail);
}

/**
 * The Idempotency-Key header.
 * @throws {Problem} 400 where it is empty or longer than a key may be.
 */
export function keyHeader(request: FastifyRequest): string | undefined {
  const key = request.headers["idempotency-key"];
  if (key === undefined) return undefined;
  if (typeof key === "string" && key.length > 0 && Buffer.byteLength(key) <= MAX_KEY_BYTES) return key;
  throw new Problem(400, "invalid-request", "The idempotency key is not usable.", {
    errors: [{ path: "Idempotency-Key", message: `must have 1 to ${MAX_KEY_BYTES} bytes` }],
  });
}
