import { DEFAULT_MASKED_KEYS } from "@tallystick/core/masking";
import { claimName, clientAuth, jwksUrl, networks, publicKeyPem, tlsVersion, tokenSecret } from "./access.ts";
import { maskedKeys } from "./masked-keys.ts";
import { webOrigins } from "./origins.ts";
import {
  boolean,
  bytes,
  credential,
  databaseHost,
  host,
  integer,
  logLevel,
  origin,
  type Parser,
  postgresUrl,
  text,
} from "./parse.ts";
import { witnesses } from "./witnesses.ts";

/** One setting. `T` contains undefined where there is no default. */
export interface Setting<T> {
  readonly name: string;
  readonly parse: Parser<T>;
  /** As text, read by the same parser as an operator's value. */
  readonly default: string | undefined;
  /** What happens without it, where there is no default. */
  readonly unset?: string;
  readonly unit?: string;
  /** Never printed: neither by `tallystick config` nor in an error. `url`: its password only. */
  readonly secret?: "all" | "url";
  readonly reason: string;
}

type Facts = Pick<Setting<unknown>, "unit" | "secret" | "reason">;

function withDefault<T>(name: string, parse: Parser<T>, fallback: string, facts: Facts): Setting<T> {
  return { name, parse, default: fallback, ...facts };
}

function optional<T>(
  name: string,
  parse: Parser<T>,
  facts: Facts & { readonly unset: string },
): Setting<T | undefined> {
  return { name, parse, default: undefined, ...facts };
}

const MIB = 1024 ** 2;

/** Every setting there is, in the order in which they are shown. */
export const SETTINGS = {
  port: withDefault("PORT", integer(0, 65_535), "8000", {
    reason: "Port of the HTTP API; 0 takes any free one.",
  }),
  host: withDefault("HOST", host, "127.0.0.1", {
    reason:
      "Address to listen on. Only this machine by default, because the API is plain HTTP unless TLS_CERT_PATH is set; 0.0.0.0 in a container.",
  }),
  dataDir: withDefault("DATA_DIR", text, "./data", {
    reason:
      "Where credentials.json and the server's own PostgreSQL are kept. Back it up; relative to the working directory.",
  }),
  databaseUrl: optional("DATABASE_URL", postgresUrl, {
    unset: "the server runs its own PostgreSQL under DATA_DIR",
    secret: "url",
    reason: "PostgreSQL 15 or newer that the server reads and writes as tallystick_writer.",
  }),
  dbHost: optional("DB_HOST", databaseHost, {
    unset: "see DATABASE_URL",
    reason: "The same in parts, instead of DATABASE_URL: where PostgreSQL listens, or its socket directory.",
  }),
  dbPort: withDefault("DB_PORT", integer(1, 65_535), "5432", { reason: "With DB_HOST." }),
  dbUser: withDefault("DB_USER", text, "tallystick_writer", { reason: "With DB_HOST." }),
  dbPassword: optional("DB_PASSWORD", text, {
    unset: "no password is sent",
    secret: "all",
    reason: "With DB_HOST.",
  }),
  dbName: withDefault("DB_NAME", text, "tallystick", { reason: "With DB_HOST." }),
  databaseAdminUrl: optional("DATABASE_ADMIN_URL", postgresUrl, {
    unset: "migrations use DATABASE_URL",
    secret: "url",
    reason: "A role that may create the schema and roles; used by migrations only, so that the server itself need not.",
  }),
  databaseReaderUrl: optional("DATABASE_READER_URL", postgresUrl, {
    unset: "reads use DATABASE_URL",
    secret: "url",
    reason: "tallystick_reader, so that a query can never write; may be a hot standby.",
  }),
  databasePoolSize: withDefault("DATABASE_POOL_SIZE", integer(2, 200), "10", {
    unit: "connections",
    reason: "Reads at a time. Writes share commits and need one; more than the database has cores seldom helps.",
  }),
  databaseListen: withDefault("DATABASE_LISTEN", boolean, "true", {
    reason:
      "Whether one connection LISTENs for what other servers record, by DATABASE_URL. false behind PgBouncer in transaction mode, where it hears nothing: the database is asked each second instead.",
  }),
  logOrigin: optional("LOG_ORIGIN", origin, {
    unset: "a unique one is made at the first start",
    reason: "Name of this installation in every leaf and checkpoint. Kept in the database, and fixed from then on.",
  }),
  logKeyPath: optional("LOG_KEY_PATH", text, {
    unset: "DATA_DIR/log-key.pem, made at the first start",
    reason:
      "The Ed25519 key that signs checkpoints (PKCS#8 PEM, mode 600). Every replica has the same; keep a copy apart from the database's backups.",
  }),
  signLockPath: optional("SIGN_LOCK_PATH", text, {
    unset: "DATA_DIR/sign-lock.db, which is weak beside the server's own PostgreSQL: both go back together",
    reason:
      "File that remembers what was signed last, so that a restored or cut database is noticed. Outside the database's disk and backups; shared by replicas.",
  }),
  signLockAdopt: withDefault("SIGN_LOCK_ADOPT", boolean, "false", {
    reason: "For one start after the sign-lock was lost: takes the database's newest checkpoints for true.",
  }),
  checkpointIntervalMs: withDefault("CHECKPOINT_INTERVAL_MS", integer(10, 3_600_000), "1000", {
    unit: "ms",
    reason: "How often a log that grows gets a published checkpoint. Receipts have checkpoints of their own.",
  }),
  indexWorker: withDefault("INDEX_WORKER", boolean, "true", {
    reason:
      'Indexes entries for text search and counts them for statistics in this process. false where "tallystick worker" does; without either, both look at every entry.',
  }),
  publicLog: withDefault("PUBLIC_LOG", boolean, "false", {
    reason: "Lets anyone read checkpoints, verifier keys, hash tiles and consistency proofs; entries never.",
  }),
  corsOrigins: optional("CORS_ORIGINS", webOrigins, {
    unset: "no other site's page may use the API from a browser",
    reason:
      "Origins whose pages may, such as https://app.example.com, separated by commas; * is any. They need a credential all the same.",
  }),
  witnesses: optional("WITNESSES", witnesses, {
    unset: "nobody else is asked to cosign",
    reason:
      'Witnesses that cosign published checkpoints: "<url> <verifier key>", several separated by commas. Recording never waits for them.',
  }),
  witnessTimeoutMs: withDefault("WITNESS_TIMEOUT_MS", integer(100, 60_000), "5000", {
    unit: "ms",
    reason: "How long a witness may take to answer before it counts as silent and is asked again later.",
  }),
  logLevel: withDefault("LOG_LEVEL", logLevel, "INFO", {
    reason: "Least severity that is logged: TRACE, DEBUG, INFO, WARNING, ERROR or CRITICAL.",
  }),
  apiKey: optional("API_KEY", credential, {
    unset: "one is made at the first start and kept in DATA_DIR/credentials.json",
    secret: "all",
    reason: "The first API key of tenant default.",
  }),
  adminToken: optional("ADMIN_TOKEN", credential, {
    unset: "one is made at the first start and kept in DATA_DIR/credentials.json",
    secret: "all",
    reason: "The operator's token, sent as X-Admin-Token; acts across tenants.",
  }),
  maskedKeys: withDefault("MASKED_KEYS", maskedKeys, DEFAULT_MASKED_KEYS.join(","), {
    reason:
      'Keys whose values in metadata, changes and attributes are masked before anything is recorded, in any case; - and _ do not count. "+pin,ssn" adds to the default; "none" masks nothing.',
  }),
  maskCardNumbers: withDefault("MASK_CARD_NUMBERS", boolean, "false", {
    reason: "Masks payment card numbers too. One in ten of other long numbers looks like one.",
  }),
  jwtIssuer: optional("JWT_ISSUER", text, {
    unset: "no tokens are taken",
    reason: "Who issues JSON Web Tokens for this installation: exactly their claim iss. Also set where its keys are.",
  }),
  jwtAudience: optional("JWT_AUDIENCE", text, {
    unset: "see JWT_ISSUER",
    reason:
      "What a token's claim aud must name. Without it, tokens for the issuer's other programs would be good here.",
  }),
  jwtJwksUrl: optional("JWT_JWKS_URL", jwksUrl, {
    unset: "see JWT_ISSUER",
    reason: "The issuer's keys, renewed by themselves. One of this, JWT_PUBLIC_KEY and JWT_SECRET.",
  }),
  jwtPublicKey: optional("JWT_PUBLIC_KEY", publicKeyPem, {
    unset: "see JWT_JWKS_URL",
    secret: "all", // a private key that is given by mistake is not to be repeated in the error
    reason:
      "The issuer's only key, in PEM: Ed25519 (EdDSA), P-256 (ES256), or RSA (RS256). JWT_PUBLIC_KEY_FILE reads a file.",
  }),
  jwtSecret: optional("JWT_SECRET", tokenSecret, {
    unset: "tokens signed by HS256 are refused",
    secret: "all",
    reason: "For HS256, and then nothing else: whoever verifies with it can make tokens as well. Prefer the other two.",
  }),
  jwtTenantClaim: withDefault("JWT_TENANT_CLAIM", claimName, "tenant", {
    reason: "Claim that names the tenant, by id or slug.",
  }),
  jwtScopesClaim: withDefault("JWT_SCOPES_CLAIM", claimName, "scope", {
    reason: "Claim that has the scopes, as a list or separated by blanks; may be a path, such as realm_access.roles.",
  }),
  jwtScopePrefix: optional("JWT_SCOPE_PREFIX", text, {
    unset: "write is the scope write",
    reason:
      "Where scopes of several programs share a claim: only those that begin so count, without it. Such as tallystick:",
  }),
  jwtServiceClaim: optional("JWT_SERVICE_CLAIM", claimName, {
    unset: "tokens are bound to no service",
    reason: "Claim that names the only service that a token may write for.",
  }),
  jwtActorClaim: withDefault("JWT_ACTOR_CLAIM", claimName, "sub", {
    reason: "Claim that says who it is, for the entries that tell of what was done.",
  }),
  jwtClockToleranceSeconds: withDefault("JWT_CLOCK_TOLERANCE_SECONDS", integer(0, 300), "5", {
    unit: "s",
    reason: "How far the issuer's clock may be from this server's, where a token begins or ends.",
  }),
  tlsCertPath: optional("TLS_CERT_PATH", text, {
    unset: "the API is plain HTTP",
    reason: "The server's certificate with its chain, in PEM. Read again when it changes, without a restart.",
  }),
  tlsKeyPath: optional("TLS_KEY_PATH", text, { unset: "see TLS_CERT_PATH", reason: "Its private key, in PEM." }),
  tlsMinVersion: withDefault("TLS_MIN_VERSION", tlsVersion, "1.2", {
    reason: "Oldest TLS that clients may speak: 1.2 or 1.3.",
  }),
  tlsClientAuth: withDefault("TLS_CLIENT_AUTH", clientAuth, "off", {
    reason:
      "Client certificates: off; optional, where they are one more kind of credential; required, without which nobody connects, monitors included.",
  }),
  tlsClientCaPath: optional("TLS_CLIENT_CA_PATH", text, {
    unset: "no client certificates are taken",
    reason: "CAs that issue client certificates, in PEM: one of your own, never a public one.",
  }),
  tlsClientCrlPath: optional("TLS_CLIENT_CRL_PATH", text, {
    unset: "revocation is by /v1/admin/certificates alone",
    reason: "Revocation lists of these CAs, in PEM, one for each; one that is out of date refuses every certificate.",
  }),
  trustedProxies: optional("TRUSTED_PROXIES", networks, {
    unset: "whoever connects is the client",
    reason:
      "Addresses of your reverse proxies, such as 10.0.0.7, 10.1.0.0/16: their X-Forwarded-For and X-Client-Cert are believed, and nobody else's. None wider than /8 (IPv4) or /16 (IPv6).",
  }),
  commitBatchMaxEvents: withDefault("COMMIT_BATCH_MAX_EVENTS", integer(1, 50_000), "4000", {
    unit: "events",
    reason: "Most events in one commit: larger is faster in bulk, smaller keeps the wait of a single write short.",
  }),
  queueMaxEvents: withDefault("QUEUE_MAX_EVENTS", integer(5_000, 1_000_000), "20000", {
    unit: "events",
    reason:
      "Events that may wait for a commit before writers get 503: bounds the wait. A bulk request has up to 5,000.",
  }),
  queueMaxBytes: withDefault("QUEUE_MAX_BYTES", bytes(16 * MIB, 16 * 1024 * MIB), "128MiB", {
    unit: "bytes",
    reason: "The same in bytes of leaves: bounds the memory. A bulk request has up to 16 MiB.",
  }),
  idempotencyWindowDays: withDefault("IDEMPOTENCY_WINDOW_DAYS", integer(1, 365), "7", {
    unit: "days",
    reason: "How long a repeated idempotency key gets its first answer; longer than any client's retries.",
  }),
  rateLimitRequests: withDefault("RATE_LIMIT_REQUESTS", integer(0, 10_000_000), "1000", {
    unit: "requests a minute",
    reason:
      "Of each tenant's credentials together, each event of a bulk request counted; beyond it 429. 0 is no limit. Others for one tenant: PATCH /v1/tenants/{id}.",
  }),
  rateLimitCredentialRequests: optional("RATE_LIMIT_CREDENTIAL_REQUESTS", integer(0, 10_000_000), {
    unset: "as RATE_LIMIT_REQUESTS",
    unit: "requests a minute",
    reason: "Of each credential, so that one does not use up what its tenant may do. 0 is no limit.",
  }),
  refusedCredentialsLimit: withDefault("REFUSED_CREDENTIALS_LIMIT", integer(0, 1_000_000), "60", {
    unit: "a minute",
    reason:
      "Credentials that may be refused of one address (IPv6: /64) before those that this server has not seen before get 429 without being looked up. 0 is no limit.",
  }),
  recordReads: withDefault("RECORD_READS", boolean, "true", {
    reason:
      "Whether reads of entries are entries too: one for each credential and log in WATCH_INTERVAL_MS, with counts by filter.",
  }),
  watchIntervalMs: withDefault("WATCH_INTERVAL_MS", integer(100, 3_600_000), "60000", {
    unit: "ms",
    reason:
      "How often what is counted in memory becomes entries: reads, and refused credentials. A server that is killed loses the counts since.",
  }),
  requestTimeoutMs: withDefault("REQUEST_TIMEOUT_MS", integer(100, 600_000), "30000", {
    unit: "ms",
    reason:
      "Time for a request to arrive whole, headers and body; what comes slower gets 408. Its answer may take longer.",
  }),
  headersTimeoutMs: withDefault("HEADERS_TIMEOUT_MS", integer(100, 600_000), "10000", {
    unit: "ms",
    reason: "The same for the headers alone: a connection that sends nothing, or a byte now and then, is closed.",
  }),
  keepAliveTimeoutMs: withDefault("KEEP_ALIVE_TIMEOUT_MS", integer(100, 3_600_000), "72000", {
    unit: "ms",
    reason: "How long a connection may wait for its next request; longer than a proxy in front keeps it.",
  }),
  stalledTimeoutMs: withDefault("STALLED_TIMEOUT_MS", integer(100, 600_000), "30000", {
    unit: "ms",
    reason: "How long a client may take nothing of an answer that is ready before its connection is closed.",
  }),
  maxConnections: withDefault("MAX_CONNECTIONS", integer(10, 1_000_000), "10000", {
    unit: "connections",
    reason: "New ones beyond these are closed at once. The process needs as many file descriptors (ulimit -n).",
  }),
  maxConnectionsPerAddress: withDefault("MAX_CONNECTIONS_PER_ADDRESS", integer(0, 1_000_000), "1000", {
    unit: "connections",
    reason: "The same for one address (IPv6: /64), so that one machine cannot take them all. 0 is no limit.",
  }),
  maxHeaderBytes: withDefault("MAX_HEADER_BYTES", bytes(4_096, MIB), "16KiB", {
    unit: "bytes",
    reason: "Of a request's headers together; beyond it 431.",
  }),
  streamsMax: withDefault("STREAMS_MAX", integer(0, 100_000), "2000", {
    unit: "streams",
    reason: "Streams of entries open at a time on this server; beyond it 503.",
  }),
  streamsMaxPerTenant: withDefault("STREAMS_MAX_PER_TENANT", integer(0, 100_000), "500", {
    unit: "streams",
    reason: "The same of one tenant; beyond it 429.",
  }),
  streamBufferBytes: withDefault("STREAM_BUFFER_BYTES", bytes(16_384, 64 * MIB), "1MiB", {
    unit: "bytes",
    reason: "What may wait for the client of a stream; one that is slower is told, and gets the rest from the log.",
  }),
  streamHeartbeatMs: withDefault("STREAM_HEARTBEAT_MS", integer(50, 25_000), "15000", {
    unit: "ms",
    reason:
      "How often a stream says where it stands, and its credential is looked at again: shorter than a proxy in front waits for a word.",
  }),
  bodiesMaxBytes: withDefault("BODIES_MAX_BYTES", bytes(32 * MIB, 16 * 1024 * MIB), "256MiB", {
    unit: "bytes",
    reason:
      "Bodies of requests, and answers that wait to be read, in memory at a time: those beyond 64 KiB; a tenant may have half. Beyond it 503.",
  }),
  maxEventLoopDelayMs: withDefault("MAX_EVENT_LOOP_DELAY_MS", integer(0, 60_000), "1000", {
    unit: "ms",
    reason: "Requests get 503 while the process is behind by more than this, a second's mean. 0 is no limit.",
  }),
  maxMemoryBytes: optional("MAX_MEMORY_BYTES", bytes(256 * MIB, 1024 * 1024 * MIB), {
    unset: "nine tenths of what Node may use for its heap",
    unit: "bytes",
    reason: "Requests get 503 while the process uses more memory (RSS); below the limit of its container.",
  }),
  shutdownTimeoutMs: withDefault("SHUTDOWN_TIMEOUT_MS", integer(0, 600_000), "8000", {
    unit: "ms",
    reason: "How long requests under way may finish after SIGTERM; below the 10 s after which Docker kills.",
  }),
  maxClockSkewSeconds: withDefault("MAX_CLOCK_SKEW_SECONDS", integer(1, 86_400), "60", {
    unit: "s",
    reason: "A database whose clock is further off is refused: entries are stamped by it, and never go back.",
  }),
} as const;

export type Settings = typeof SETTINGS;
export type SettingKey = keyof Settings;

/** The values of all settings by key. */
export type Values = { readonly [K in SettingKey]: Settings[K] extends Setting<infer T> ? T : never };

/** Names of settings that are announced and not built yet: setting one must not look as if it worked. */
export const NOT_YET = [
  "MASTER_KEY_PATH",
  "AUDIT_LOG_GROUP",
  "AUDIT_LOG_STREAM",
  "MEILISEARCH_URL",
  "OPENSEARCH_URL",
  "SQS_QUEUE_URL",
  "KAFKA_BROKERS",
];
