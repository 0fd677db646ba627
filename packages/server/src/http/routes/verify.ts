import type { FastifyInstance } from "fastify";
import type { Services } from "../server.ts";
export function verifyRoutes(_app: FastifyInstance, _services: Services): void {}
