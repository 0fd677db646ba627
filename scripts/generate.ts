/**
 * Files that are made from the code and committed, so that a change of the API, the settings or the schema shows in its diff:
 *
 *   node scripts/run.mjs scripts/generate.ts           writes them
 *   node scripts/run.mjs scripts/generate.ts --check   compares them, and fails where one is out of date
 */
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { envExample, loadConfig } from "@tallystick/server/config";
import { dumpSchema } from "@tallystick/server/db/dump";
import { startEmbeddedPostgres } from "@tallystick/server/db/embedded";
import { migrateUp } from "@tallystick/server/db/migrate";
import { buildServer, type Services } from "@tallystick/server/http/server";
import { TrustedProxies } from "@tallystick/server/http/trusted-proxies";
import pg from "pg";
import { evidencePage } from "./evidence-page.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

const FILES: readonly { readonly path: string; readonly make: () => Promise<string> }[] = [
  { path: ".env.example", make: async () => envExample() },
  { path: "openapi.json", make: openApi },
  { path: "packages/server/sql/schema.sql", make: schema },
  { path: "packages/cli/assets/evidence-page.html", make: evidencePage },
];

async function openApi(): Promise<string> {
  // No request is ever served, so that the services behind the routes are never touched.
  const app = await buildServer({} as Services, {
    logger: false,
    requestTimeoutMs: 1_000,
    corsOrigins: [],
    publicLog: false,
    proxies: new TrustedProxies([]),
    limits: loadConfig({}, { cwd: tmpdir() }),
  });
  try {
    return `${JSON.stringify(app.swagger(), null, 2)}\n`;
  } finally {
    await app.close();
  }
}

/** A new PostgreSQL, and not one that is at hand: its roles are to be those that the migrations make, and no others. */
async function schema(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tallystick-generate-"));
  await chmod(directory, 0o711); // PostgreSQL's own user has to pass through
  const postgres = await startEmbeddedPostgres({ dataDir: join(directory, "data") });
  try {
    await migrateUp(postgres.adminUrl);
    const client = new pg.Client(postgres.adminUrl);
    await client.connect();
    try {
      return await dumpSchema(client);
    } finally {
      await client.end();
    }
  } finally {
    await postgres.stop({ force: true });
    await rm(postgres.clusterDirectory, { recursive: true, force: true });
    await rm(directory, { recursive: true, force: true });
  }
}

/** Where two texts differ first, a few lines of each. */
function firstDifference(committed: string, made: string): string {
  const [old, fresh] = [committed.split("\n"), made.split("\n")];
  const at = fresh.findIndex((line, index) => line !== old[index]);
  const from = at === -1 ? fresh.length : at;
  const lines = (texts: readonly string[], sign: string) =>
    texts.slice(from, from + 3).map((line) => `  ${sign} ${line}`);
  return [`  line ${from + 1}:`, ...lines(old, "-"), ...lines(fresh, "+")].join("\n");
}

async function committedText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as { code?: unknown }).code === "ENOENT") return undefined;
    throw error;
  }
}

const check = process.argv.includes("--check");
let outdated = 0;
for (const { path, make } of FILES) {
  const made = await make();
  const committed = await committedText(join(ROOT, path));
  if (committed === made) {
    console.log(`${path} is up to date`);
  } else if (check) {
    outdated += 1;
    console.error(
      committed === undefined ? `${path} is missing` : `${path} is out of date\n${firstDifference(committed, made)}`,
    );
  } else {
    await writeFile(join(ROOT, path), made);
    console.log(`${path} was written`);
  }
}
if (outdated > 0) {
  console.error('\nRun "npm run generate" and commit what it writes.');
  process.exitCode = 1;
}
