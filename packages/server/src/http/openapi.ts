/**
 * OpenAPI 3.1, made from the route schemas; served as JSON and YAML, and as a page at /docs.
 */
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifyInstance, FastifySchema, RouteOptions } from "fastify";
import { SCOPES } from "../access/scopes.ts";
import { namedProblem, problems } from "./schemas/shared.ts";

/** How a request may say whose it is. */
const SECURITY_SCHEMES = {
  apiKey: {
    type: "http",
    scheme: "bearer",
    description:
      "An API key (Authorization: Bearer tally_...), or a JSON Web Token where the operator has set an issuer.",
  },
  apiKeyHeader: { type: "apiKey", in: "header", name: "X-API-Key" },
  adminToken: {
    type: "apiKey",
    in: "header",
    name: "X-Admin-Token",
    description: "The operator's, with every scope; X-Tenant-Id names the tenant.",
  },
  // OpenAPI 3.1 has this kind; the types that the plugin brings do not.
  clientCertificate: {
    type: "mutualTLS",
    description: "Mapped to a tenant by /v1/admin/certificates.",
  } as unknown as { type: "http"; scheme: string },
} as const;

/**
 * What any route may answer that asks for a credential: bad parameters, none or a bad one, too small a one, no such tenant, too many
 * requests, a URL and headers that are too long together, no database.
 */
const ANYWHERE = [400, 401, 403, 404, 429, 431, 503];

export async function documentApi(app: FastifyInstance): Promise<void> {
  app.addSchema(namedProblem);
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Tallystick",
        version: "0.1.0",
        description: "An append-only audit log whose every answer can be checked by the person who asked.",
        license: { name: "MIT", identifier: "MIT" },
      },
      components: { securitySchemes: SECURITY_SCHEMES },
    },
    refResolver: { buildLocalReference: ({ $id }, _baseUri, _fragment, i) => String($id ?? `schema-${i}`) },
    transform: ({ schema, url, route }) => ({ schema: withAccess(schema, route), url }),
  });
  await app.register(swaggerUi, {
    routePrefix: "/docs",
    // Everything the page needs is served from here; it sends nothing elsewhere.
    staticCSP:
      "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    uiConfig: { docExpansion: "list", deepLinking: true, validatorUrl: null, layout: "BaseLayout" },
    theme: { title: "Tallystick API" },
  });
  app.get("/", { schema: { hide: true } }, async (_request, reply) => reply.redirect("/docs"));
  app.get("/openapi.json", { schema: { hide: true } }, async () => app.swagger());
  app.get("/openapi.yaml", { schema: { hide: true } }, async (_request, reply) =>
    reply.type("application/yaml").send(app.swagger({ yaml: true })),
  );
}

/**
 * A route's schema with what its credential has to be (OpenAPI 3.1 lists a scheme's required roles: our scopes), and what the
 * check of it may answer.
 */
function withAccess(schema: FastifySchema, { config }: Pick<RouteOptions, "config">): FastifySchema {
  const scope = config?.scope;
  if (scope === undefined) return { ...schema, security: [] };
  const required = SCOPES.filter((one) => one === scope); // none where any credential of the tenant will do
  const security = Object.keys(SECURITY_SCHEMES).map((scheme) => ({ [scheme]: required }));
  return {
    ...schema,
    security: config?.publicBySetting ? [...security, {}] : security,
    response: { ...problems(...ANYWHERE), ...(schema.response as object) },
  } as FastifySchema;
}
