import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { startEmbeddedPostgres } from "../db/embedded.ts";

declare module "vitest" {
  interface ProvidedContext {
    adminUrl: string;
  }
}

/**
 * One real PostgreSQL for the whole test run, with fsync on, so that tests meet what production does.
 * Databases of the tests themselves are made in it; all of it is deleted at the end.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const directory = await mkdtemp(join(tmpdir(), "tallystick-test-"));
  // mkdtemp makes a 0700 directory; a new one inside startEmbeddedPostgres is made for PostgreSQL's user to enter.
  await chmod(directory, 0o711);
  const postgres = await startEmbeddedPostgres({
    dataDir: join(directory, "data"),
    // Many test files, each with a pool or two.
    settings: { max_connections: "300" },
  });
  project.provide("adminUrl", postgres.adminUrl);
  return async () => {
    // Workers that are being ended may still hold connections.
    await postgres.stop({ force: true });
    await rm(directory, { recursive: true, force: true });
  };
}
