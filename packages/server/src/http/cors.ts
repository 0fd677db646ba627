/**
 * Which other sites' pages may use the API from a browser.
 */
import cors from "@fastify/cors";
import type { FastifyInstance } from "fastify";

const PREFLIGHT_SECONDS = 600;

/**
 * Lets pages of these origins call every route and read the answers. `*` is any page: credentials are headers that a page must
 * have been given, and nothing that a browser sends by itself is ever asked for.
 *
 * The admin token is not among the headers: who may act across tenants does not do so from another site's page.
 */
export async function allowOrigins(app: FastifyInstance, origins: readonly string[]): Promise<void> {
  if (origins.length === 0) return;
  await app.register(cors, {
    origin: [...origins],
    methods: ["GET", "HEAD", "POST", "PATCH", "DELETE"],
    allowedHeaders: [
      ...["Authorization", "X-API-Key", "X-Tenant-Id", "X-Request-Id"],
      ...["Content-Type", "Idempotency-Key", "Prefer"],
    ],
    exposedHeaders: [
      ...["Link", "Location", "X-Request-Id", "Preference-Applied"],
      ...["RateLimit", "RateLimit-Policy", "Retry-After", "Content-Disposition"],
    ],
    credentials: false,
    maxAge: PREFLIGHT_SECONDS,
    strictPreflight: false, // its refusal is no problem+json
  });
}
