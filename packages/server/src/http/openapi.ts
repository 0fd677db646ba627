/**
 * OpenAPI 3.1, made from the route schemas; served as JSON and YAML, and as a page at /docs.
 */
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifyInstance } from "fastify";

export async function documentApi(app: FastifyInstance): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Tallystick",
        version: "0.1.0",
        description: "An append-only audit log whose every answer can be checked by the person who asked.",
        license: { name: "MIT", identifier: "MIT" },
      },
      components: {
        securitySchemes: {
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
            description: "The operator's; X-Tenant-Id names the tenant.",
          },
          // OpenAPI 3.1 has this kind; the types that the plugin brings do not.
          clientCertificate: {
            type: "mutualTLS",
            description: "Mapped to a tenant by /v1/admin/certificates.",
          } as unknown as { type: "http"; scheme: string },
        },
      },
      security: [{ apiKey: [] }, { apiKeyHeader: [] }, { adminToken: [] }, { clientCertificate: [] }],
    },
  });
  await app.register(swaggerUi, {
    routePrefix: "/docs",
    // Everything the page needs is served from here; it sends nothing elsewhere.
    staticCSP: "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    uiConfig: { docExpansion: "list", deepLinking: true, validatorUrl: null, layout: "BaseLayout" },
    theme: { title: "Tallystick API" },
  });
  app.get("/", { schema: { hide: true } }, async (_request, reply) => reply.redirect("/docs"));
  app.get("/openapi.json", { schema: { hide: true } }, async () => app.swagger());
  app.get("/openapi.yaml", { schema: { hide: true } }, async (_request, reply) =>
    reply.type("application/yaml").send(app.swagger({ yaml: true })),
  );
}
