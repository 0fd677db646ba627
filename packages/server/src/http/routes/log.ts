/**
 * What a log shows to whoever follows it (C2SP tlog-tiles): checkpoint, verifier key, tiles, consistency; and its successors. Each is
 * there for the tenant's current log below /v1/tenants/{id}/log, and for every log of the tenant below /v1/tenants/{id}/logs/{slug}.
 */
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { toBase64 } from "@tallystick/core/base64";
import { toHex } from "@tallystick/core/hex";
import { parseTilePath, TileError } from "@tallystick/core/tiles";
import { formatVerifierKey, verifierKey } from "@tallystick/core/verifier-key";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { AppendError } from "../../log/errors.ts";
import { LogReader } from "../../log/log-reader.ts";
import { HealthyLogError, type Successor, succeedLog } from "../../signing/succeed.ts";
import { jsonBody } from "../body.ts";
import { logOf } from "../log-of.ts";
import { Problem } from "../problem.ts";
import { listLogsSchema, logSchema, succeedSchema } from "../schemas/log.ts";
import type { HttpOptions, Services } from "../server.ts";
import { parseWith } from "../validate.ts";
import { byOf } from "../watched.ts";

const compress = promisify(gzip);
const TEXT = "text/plain; charset=utf-8";
const BYTES = "application/octet-stream";
const open = { scope: "any", tenantInPath: true, publicBySetting: true } as const;
const PREFIXES = [
  { prefix: "/v1/tenants/:id/log", current: true },
  { prefix: "/v1/tenants/:id/logs/:log", current: false },
];

export function logRoutes(app: FastifyInstance, services: Services, { publicLog }: HttpOptions): void {
  const { database, tenants, gate } = services;
  const vkey = (name: string) => formatVerifierKey(verifierKey(name, services.signing.key.publicKey));
  const cached = (reply: FastifyReply, seconds: number, { more = "", shared = publicLog } = {}) =>
    reply
      .header("cache-control", `${shared ? "public" : "private"}, max-age=${seconds}${more}`)
      .header("vary", "authorization, x-api-key, x-admin-token, accept-encoding");

  const logIn = (request: FastifyRequest) =>
    logOf(tenants, request.access.log, (request.params as { log?: string }).log);

  for (const { prefix, current } of PREFIXES) {
    app.get(
      `${prefix}/checkpoint`,
      { schema: logSchema("checkpoint", current), config: open },
      async (request, reply) => {
        const { size, cosigned } = request.query as { size?: string; cosigned?: string };
        const { checkpoints } = services.signing;
        const log = await logIn(request);
        const kept = await checkpoints.published(
          log,
          size === undefined ? undefined : Number(size),
          Number(cosigned ?? 0),
        );
        if (kept === undefined && cosigned !== undefined) {
          throw new Problem(
            404,
            "not-found",
            `No checkpoint was kept that ${cosigned} or more witnesses have cosigned: see their state at /log/witnesses.`,
          );
        }
        if (kept === undefined && size !== undefined) {
          throw new Problem(404, "not-found", `No checkpoint of size ${size} was kept.`);
        }
        const { note } = kept ?? (await checkpoints.publish(log));
        return cached(reply, 1).type(TEXT).send(note);
      },
    );

    app.get(
      `${prefix}/witnesses`,
      { schema: logSchema("witnesses", current), config: { scope: "any", tenantInPath: true } },
      async (request) => {
        const reports = await services.signing.witnesses.report(await logIn(request));
        return {
          data: reports.map(({ name, url, vkey, lastSize, lastTime, status, since, detail }) => ({
            name,
            url,
            vkey,
            last_size: lastSize ?? null,
            last_time: lastTime?.toISOString() ?? null,
            status,
            since: since?.toISOString() ?? null,
            detail: detail ?? null,
          })),
        };
      },
    );

    app.get(`${prefix}/vkey`, { schema: logSchema("vkey", current), config: open }, async (request, reply) =>
      cached(reply, 3_600)
        .type(TEXT)
        .send(`${vkey((await logIn(request)).name)}\n`),
    );

    app.get(
      `${prefix}/consistency`,
      { schema: logSchema("consistency", current), config: open },
      async (request, reply) => {
        const { checkpoints, tiles } = services.signing;
        const log = await logIn(request);
        const query = request.query as { from: string; to?: string };
        const newest = (await checkpoints.published(log)) ?? (await checkpoints.publish(log));
        const to = query.to === undefined ? newest.size : Number(query.to);
        const from = Number(query.from);
        if (to > newest.size) throw outOfRange("to", `must be at most ${newest.size}, what is signed`);
        if (from > to) throw outOfRange("from", `must be at most ${to}`);
        const { oldRoot, newRoot, proof } = await new LogReader(database, tiles).consistency(log, from, to);
        const end = async (size: number, root: Uint8Array) => {
          const kept = await checkpoints.published(log, size);
          if (kept !== undefined && toHex(kept.root) !== toHex(root)) {
            throw new Problem(
              503,
              "unsignable",
              `The tree of size ${size} is not the one that was signed: verify the log.`,
            );
          }
          return { size, root: toHex(root), checkpoint: kept?.note ?? null };
        };
        const body = {
          log: log.name,
          from: await end(from, oldRoot),
          to: await end(to, newRoot),
          proof: proof.map(toBase64),
        };
        return cached(reply, 1).send(body);
      },
    );

    app.get(`${prefix}/tile/*`, { schema: logSchema("tile", current), config: open }, async (request, reply) => {
      const { "*": path } = request.params as { "*": string };
      // The router takes other spellings too, a slash at the end for one: each would be a copy of its own in every cache.
      const exact = request.url.split("?")[0]!.endsWith(`/tile/${path}`);
      const tile = exact ? tileOf(path) : undefined;
      reply.header("cache-control", "no-store"); // of a 404: what is not there may be tomorrow
      if (tile === undefined) throw noTile(path);
      // Entries are for readers, whatever else is public.
      if (tile.level === "entries") await gate.admitFurther(request, reply, "read");
      const data = await new LogReader(database, services.signing.tiles).tile(await logIn(request), tile);
      if (data === undefined) throw noTile(path);
      // A shared cache that leaves Vary out would give entries to anyone.
      const shared = publicLog && tile.level !== "entries";
      cached(reply, 31_536_000, { more: ", immutable", shared }).type(BYTES);
      const zip = tile.level === "entries" && takesGzip(request);
      return zip ? reply.header("content-encoding", "gzip").send(await compress(data)) : reply.send(Buffer.from(data));
    });
  }

  app.get("/v1/tenants/:id/logs", { schema: listLogsSchema, config: open }, async (request) => {
    const { signer, checkpoints } = services.signing;
    const all = await tenants.logs(request.access.log.tenantId);
    const data = all.map(async ({ logId, name, slug, size, root, predecessor, current, createdAt }) => {
      const signed = await signer.last(name);
      return {
        name,
        slug,
        size,
        root,
        predecessor,
        current,
        created_at: createdAt,
        vkey: vkey(name),
        signed: signed === undefined ? null : { size: signed.size, root: toHex(signed.root) },
        refused: checkpoints.refusalOf(logId)?.detail ?? null,
      };
    });
    return { data: await Promise.all(data) };
  });

  app.post(
    "/v1/tenants/:id/log/succeed",
    { schema: succeedSchema, config: { scope: "operator", tenantInPath: true } },
    async (request, reply) => {
      const { reason, force = false } = parseWith<{ reason: string; force?: boolean }>(
        succeedSchema.body,
        jsonBody(request),
      );
      const { log } = request.access;
      const { checkpoints, signer } = services.signing;
      const parts = { database, checkpoints, signer, limits: services.appendLimits };
      let successor: Successor;
      try {
        successor = await succeedLog(parts, log, { reason, by: byOf(request), force });
      } catch (error) {
        if (error instanceof HealthyLogError) {
          throw new Problem(409, "conflict", `${error.message}. To close it all the same, say force (--force).`, {
            cause: error,
            errors: [{ path: "/force", message: "must be true for a log that nothing is wrong with" }],
          });
        }
        if (!(error instanceof AppendError && error.code === "succeeded")) throw error;
        throw new Problem(409, "conflict", `${error.message}: see GET /v1/tenants/${log.slug}/logs.`, { cause: error });
      } finally {
        tenants.forget(log);
      }
      const { log_id, ...shown } = successor;
      services.signing.publication.grew(log_id);
      request.log.info({ log: successor.name }, `${successor.name} succeeds ${successor.predecessor}: ${reason}`);
      return reply
        .code(201)
        .header("location", `/v1/tenants/${log.slug}/logs/${successor.slug}/checkpoint`)
        .send(shown);
    },
  );
}

function tileOf(path: string) {
  try {
    return parseTilePath(`tile/${path}`);
  } catch (error) {
    if (error instanceof TileError) return undefined;
    throw error;
  }
}

/** RFC 9110, section 12.5.3; `*` alone is nobody's wish. */
function takesGzip(request: FastifyRequest): boolean {
  return String(request.headers["accept-encoding"] ?? "")
    .toLowerCase()
    .split(",")
    .some((coding) => /^\s*(x-)?gzip\s*(;|$)/.test(coding) && !/;\s*q=0(\.0*)?\s*$/.test(coding));
}

function noTile(path: string): Problem {
  return new Problem(
    404,
    "not-found",
    `The log has no tile ${path}: nothing is served that its size does not ask for.`,
  );
}

function outOfRange(path: string, message: string): Problem {
  return new Problem(400, "invalid-request", "There is no such tree.", { errors: [{ path, message }] });
}
