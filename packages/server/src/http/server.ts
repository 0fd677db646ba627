/**
 * The HTTP server: Fastify, its hooks, and the routes.
 */
import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Masking } from "@tallystick/core/masking";
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from "fastify";
import type { IssuedCertificates } from "../access/issued-certificates.ts";
import type { IssuedKeys } from "../access/issued-keys.ts";
import { KeysUnavailableError } from "../access/jwks.ts";
import type { TenantChanges } from "../access/tenant-changes.ts";
import type { Database } from "../db/database.ts";
import type { Bodies } from "../limits/bodies.ts";
import { type ConnectionLimits, limitConnections } from "../limits/connections.ts";
import type { RateLimits } from "../limits/rate-limits.ts";
import type { AppendLimits } from "../log/append.ts";
import type { ReplaySecret } from "../log/replay-hash.ts";
import type { Sequencer } from "../log/sequencer.ts";
import type { Tenants } from "../log/tenants.ts";
import type { Metrics } from "../metrics.ts";
import type { Receipts } from "../proof/receipts.ts";
import type { PublisherKeys } from "../publisher/publisher-keys.ts";
import type { Publishers } from "../publisher/publishers.ts";
import type { Signing } from "../signing/signing.ts";
import type { Streams } from "../stream/streams.ts";
import type { Watch } from "../watch/watch.ts";
import type { Access, Gate, RequiredScope } from "./access.ts";
import { allowOrigins } from "./cors.ts";
import type { Cursors } from "./cursor.ts";
import { countAnswers } from "./large-answers.ts";
import { discardRest } from "./large-bodies.ts";
import { Limited } from "./limited.ts";
import { answerMalformed, malformedAnswer } from "./malformed.ts";
import { nothingThere } from "./nothing-there.ts";
import { documentApi } from "./openapi.ts";
import { Problem, problemBody, problemOf } from "./problem.ts";
import { apiKeyRoutes } from "./routes/api-keys.ts";
import { certificateRoutes } from "./routes/certificates.ts";
import { exportRoutes } from "./routes/export.ts";
import { healthRoutes, type Readiness } from "./routes/health.ts";
import { historyRoutes } from "./routes/history.ts";
import { logRoutes } from "./routes/log.ts";
import { metricsRoutes } from "./routes/metrics.ts";
import { publisherKeyRoutes } from "./routes/publisher-keys.ts";
import { readRoutes } from "./routes/read.ts";
import { receiptRoutes } from "./routes/receipts.ts";
import { searchRoutes } from "./routes/search.ts";
import { statsRoutes } from "./routes/stats.ts";
import { streamRoutes, takeWebSockets } from "./routes/stream.ts";
import { tenantRoutes } from "./routes/tenants.ts";
import { verifyRoutes } from "./routes/verify.ts";
import { writeRoutes } from "./routes/write.ts";
import { isForeignPage, isForeignSocket, SECURITY_HEADERS, setSecurityHeaders } from "./security-headers.ts";
import { type SheddingOptions, shedLoad } from "./shedding.ts";
import { listenOptions, type Tls } from "./tls.ts";
import type { TrustedProxies } from "./trusted-proxies.ts";
import { UntrustedForwarding } from "./untrusted-forwarding.ts";
import { refuseUrlCredentials } from "./url-credentials.ts";
import { refuseNul, validatorFor } from "./validate.ts";
import { noteDenial } from "./watched.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** What the route asks of a credential; left out where it is open to all. */
    scope?: RequiredScope;
    /** It records events: what it refuses is counted. */
    records?: true;
    /** It ends a credential, or finds it: charged to a limit apart, so that whoever holds that one cannot use the limit up. */
    revokes?: true;
    /** The path's `id` is the tenant that the request works on. */
    tenantInPath?: true;
    /** Open to all where PUBLIC_LOG says so. */
    publicBySetting?: true;
  }
  interface FastifyRequest {
    /** Set before the handler of every route that has a scope. */
    access: Access;
  }
}

/** What routes work with. */
export interface Services {
  readonly database: Database;
  readonly gate: Gate;
  readonly rateLimits: RateLimits;
  readonly bodies: Bodies;
  readonly tenants: Tenants;
  readonly tenantChanges: TenantChanges;
  readonly issuedKeys: IssuedKeys;
  readonly issuedCertificates: IssuedCertificates;
  readonly sequencer: Sequencer;
  readonly appendLimits: AppendLimits;
  readonly signing: Signing;
  readonly receipts: Receipts;
  readonly publishers: Publishers;
  readonly publisherKeys: PublisherKeys;
  readonly metrics: Metrics;
  readonly masking: Masking;
  readonly watch: Watch;
  readonly streams: Streams;
  readonly replaySecret: ReplaySecret;
  readonly cursors: Cursors;
  readonly readiness: () => Promise<Readiness>;
}

export interface HttpOptions {
  readonly logger: FastifyBaseLogger | false;
  /** Time for a request to arrive whole, in ms. */
  readonly requestTimeoutMs: number;
  /** Origins of pages that may use the API; `*` is any. */
  readonly corsOrigins: readonly string[];
  readonly limits: HttpLimits;
  /** Whether anyone may read checkpoints, verifier keys, tiles of hashes and consistency proofs. */
  readonly publicLog: boolean;
  /** None where the API is plain HTTP. */
  readonly tls?: Tls | undefined;
  /** Whose X-Forwarded-For says where a request comes from. */
  readonly proxies: TrustedProxies;
}

/** What connections and requests may take of the server. */
export interface HttpLimits extends ConnectionLimits, SheddingOptions {
  /** Time for the headers of a request to arrive whole, in ms. */
  readonly headersTimeoutMs: number;
  /** How long a connection is kept for its next request, in ms. */
  readonly keepAliveTimeoutMs: number;
  /** Of all headers of a request together. */
  readonly maxHeaderBytes: number;
}

/** Of routes that do not say otherwise: a body of theirs is read and checked at one go. */
const MAX_BODY_BYTES = 128 * 1024;
const MAX_REQUEST_ID = /^[\x21-\x7e]{1,128}$/;

/** The server, ready to listen. */
export async function buildServer(services: Services, options: HttpOptions): Promise<FastifyInstance> {
  const { limits } = options;
  const app = Fastify({
    ...(options.logger === false ? { logger: false } : { loggerInstance: options.logger }),
    // A line a request costs more than the request; errors are logged below.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: options.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    // Node looks for late requests only now and then, every 30 s unless told.
    ...listenOptions(
      {
        connectionsCheckingInterval: Math.min(1_000, options.requestTimeoutMs),
        headersTimeout: Math.min(limits.headersTimeoutMs, options.requestTimeoutMs),
        maxHeaderSize: limits.maxHeaderBytes,
        // Any other request that asks for another protocol, such as Java's for HTTP/2, is answered as if it had not.
        shouldUpgradeCallback: isStream,
        requireHostHeader: false, // looked at below, because Node's refusal is no problem+json
      },
      options.tls,
    ),
    trustProxy: options.proxies.has,
    return503OnClosing: false, // a request that arrives while the server drains is still answered
    requestIdHeader: false,
    genReqId: (request) => {
      const own = request.headers["x-request-id"];
      return typeof own === "string" && MAX_REQUEST_ID.test(own) ? own : randomUUID();
    },
    rewriteUrl: (request) => canonicalUrl(request.url ?? "/"),
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 256 },
    frameworkErrors: (error, request, reply) => {
      const problem = problemOf(error);
      const plain: FastifyReply = reply;
      plain
        .code(problem.status)
        .headers({ ...SECURITY_HEADERS, "x-request-id": request.id })
        .type("application/problem+json")
        .send({ ...problemBody(problem), request_id: request.id });
    },
    clientErrorHandler: (error, socket) => answerMalformed(error, socket),
  });

  limitConnections(app.server, { ...limits, isProxy: options.proxies.has });
  app.setValidatorCompiler(validatorFor);
  // Entries are written as they are: a serialiser made from a schema would drop or mangle what the schema does not foresee.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.removeAllContentTypeParsers();
  // Bytes: routes parse them by rules of our own, which JSON.parse does not have.
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

  await takeWebSockets(app);
  setSecurityHeaders(app);
  await allowOrigins(app, options.corsOrigins);
  await shedLoad(app, limits);
  countAnswers(app, services.bodies);
  app.decorateRequest("access", null as never);
  const untrusted = new UntrustedForwarding(options.proxies, app.log);
  app.addHook("onRequest", async (request, reply) => {
    reply.header("x-request-id", request.id);
    untrusted.note(request);
    if (request.headers.host === undefined && request.raw.httpVersion === "1.1") {
      throw new Problem(400, "invalid-request", "HTTP/1.1 asks for a Host header: send one.", {
        errors: [{ path: "Host", message: "is missing" }],
      });
    }
    // Before Fastify looks at the body of a method that no route of ours has.
    if (request.is404) nothingThere(app, request, reply);
    refuseNul(request.params, request.query);
    refuseUrlCredentials(request);
    if (isForeignPage(request)) {
      throw new Problem(
        403,
        "forbidden",
        "A page of another site cannot change anything here by a client certificate.",
      );
    }
    if (isForeignSocket(request, options)) {
      throw new Problem(
        403,
        "forbidden",
        "A page of this origin may open no stream here: CORS_ORIGINS does not name it.",
        {
          errors: [{ path: "Origin", message: "is not one of CORS_ORIGINS" }],
        },
      );
    }
    const { scope, publicBySetting } = request.routeOptions.config;
    if (scope === undefined) return;
    request.access =
      publicBySetting && options.publicLog
        ? await services.gate.admitPublic(request)
        : await services.gate.admit(request, reply, scope);
  });

  // Node would answer this itself, with nothing but a status.
  app.server.on("checkExpectation", (_request, response) => {
    const { head, body } = malformedAnswer(
      new Problem(417, "invalid-request", "Only the expectation 100-continue is met: leave the Expect header out."),
    );
    response.writeHead(417, head).end(body);
  });

  const limited = new Limited({ metrics: services.metrics, logger: app.log });
  app.setErrorHandler((error, request, reply) => {
    const problem = isGone(error, request) ? gone(error) : problemOf(error);
    noteDenial(services.watch, request, problem);
    limited.note(request, problem);
    if (request.routeOptions.config.records) services.metrics.rejected(problem.reason ?? problem.problem);
    if (problem.reason === "signature_wrong") {
      request.log.warn({ request_id: request.id, errors: problem.errors }, "a publisher's signature does not verify");
    }
    if (problem.status >= 500 && !isToldOnce(problem))
      request.log.error({ err: problem.cause ?? problem, request_id: request.id }, problem.message);
    if (problem.status === 401) reply.header("www-authenticate", 'Bearer realm="tallystick"');
    if (problem.retryAfterSeconds !== undefined) reply.header("retry-after", problem.retryAfterSeconds);
    discardRest(request, reply);
    return reply
      .code(problem.status)
      .type("application/problem+json")
      .send({ ...problemBody(problem), request_id: request.id });
  });
  // Never reached: the hook above has answered.
  app.setNotFoundHandler((request, reply) => nothingThere(app, request, reply));

  await documentApi(app);
  app.after(() => {
    writeRoutes(app, services);
    readRoutes(app, services);
    searchRoutes(app, services);
    statsRoutes(app, services);
    historyRoutes(app, services);
    streamRoutes(app, services);
    exportRoutes(app, services);
    receiptRoutes(app, services);
    logRoutes(app, services, options);
    verifyRoutes(app, services);
    tenantRoutes(app, services);
    apiKeyRoutes(app, services);
    certificateRoutes(app, services, options);
    publisherKeyRoutes(app, services);
    metricsRoutes(app, services);
    healthRoutes(app, services);
  });
  await app.ready();
  return app;
}

/**
 * Whether the server's log has been told once, by who noticed it: of a log that is refused, of overload, of a token issuer that is away.
 * Each request would tell it again, and anybody can send those.
 */
function isToldOnce({ problem, cause }: Problem): boolean {
  return problem === "unsignable" || problem === "overloaded" || cause instanceof KeysUnavailableError;
}

/** Whether it is that the client closed the connection before its request had arrived whole. */
function isGone(error: unknown, { raw }: FastifyRequest): boolean {
  return raw.destroyed && !raw.complete && (error as { code?: unknown }).code === "ECONNRESET";
}

/** Nobody reads it: it is for the count of refusals. What Node throws there looks like a lost connection to the database. */
function gone(cause: unknown): Problem {
  return new Problem(400, "invalid-request", "The connection was closed before the request had arrived.", { cause });
}

/** `/api/v1/...` is `/v1/...`; `/audit-log` is `/v1/logs`. */
function canonicalUrl(url: string): string {
  if (url.startsWith("/api/v1/")) return url.slice("/api".length);
  return url.replace(/^\/audit-log\/?(?=\?|$)/, "/v1/logs");
}

/** Whether a request to change to another protocol is one for a stream. */
function isStream({ method, headers, url = "" }: IncomingMessage): boolean {
  if (method !== "GET" || headers.upgrade?.toLowerCase() !== "websocket") return false;
  return canonicalUrl(url).split("?", 1)[0]!.replace(/\/$/, "") === "/v1/logs/stream";
}
