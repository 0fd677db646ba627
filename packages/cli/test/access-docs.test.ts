/** The commands of docs/access.md, docs/limits.md and docs/watching.md, as they stand there, one after the other, against real servers. */
import { readFile, symlink } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cleanUp, type Program, type Result, type Settings, shell, start, temporaryDirectory } from "./cli.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
/** Where the pages take a server to be, that nothing is set for. */
const DEFAULT_URL = "http://127.0.0.1:8000";

let cwd: string;
let server: Program;
let url: string;

/** A directory like the top one of a clone, with data of its own. */
beforeAll(async () => {
  cwd = await temporaryDirectory();
  for (const name of ["package.json", "package-lock.json", "packages", "scripts", "node_modules", "deploy"])
    await symlink(join(ROOT, name), join(cwd, name));
  await serve({});
});
afterAll(cleanUp);

async function serve(settings: Settings): Promise<void> {
  server = start(["serve"], { PORT: "0", ...settings }, cwd);
  await server.said("Tallystick is ready at");
  ({ url } = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8")) as { url: string });
}

/** The blocks of a page's section that are for a shell. */
async function blocksOf(page: string, section: string): Promise<string[]> {
  const text = await readFile(join(ROOT, "docs", page), "utf8");
  const [, body] = new RegExp(`^## ${section}\n(.*?)(?=^## |$(?![^]))`, "ms").exec(text)!;
  return [...body!.matchAll(/```sh\n(.*?)```/gs)].map(([, block]) => block!);
}

/** Runs a block as it was pasted into the shell in which the page's first block was. */
async function paste(block: string): Promise<Result> {
  const [begin] = await blocksOf("access.md", "The commands");
  const [define] = begin!.split("\n");
  const result = await shell(`set -eu\n${define}\n${block.replaceAll(DEFAULT_URL, url)}`, cwd);
  expect(result, block).toMatchObject({ code: 0 });
  return result;
}

test("docs/access.md, docs/limits.md, docs/watching.md", { timeout: 120_000 }, async () => {
  const [begin, token] = await blocksOf("access.md", "The commands");
  expect((await paste(begin!)).stdout).toMatch(/^acme +active +Acme Ltd/m);
  const credentials = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8"));
  expect((await paste(`${token}\necho "$ADMIN_TOKEN"`)).stdout.trim()).toBe(credentials.admin_token);

  const [create, ...none] = await blocksOf("access.md", "API keys");
  expect(none).toEqual([]);
  expect((await paste(create!)).stdout).toMatch(/secret, shown only now: tally_[0-9a-f]{40}/);

  const [limit, headers] = await blocksOf("limits.md", "Rate limits");
  expect(headers).toBeUndefined();
  const limited = (await paste(limit!)).stdout;
  expect(limited).toMatch(/^acme +active +Acme Ltd +60000 +20000 /m);
  expect(limited).toMatch(/^acme +active +Acme Ltd +default +default /m);

  const [denied] = await blocksOf("watching.md", "Refused credentials");
  expect(JSON.parse((await paste(denied!)).stdout)).toHaveProperty("data");

  const [make, list] = await blocksOf("access.md", "TLS");
  const [certificates, ...serving] = make!.trim().split("\n");
  await paste(certificates!);
  server.child.kill("SIGTERM");
  await server.ended;
  expect(serving.length).toBe(1);
  const words = serving[0]!.split(" ");
  expect(words.slice(-2)).toEqual(["tallystick", "serve"]);
  await serve(Object.fromEntries(words.slice(0, -2).map((word) => word.split("=") as [string, string])));
  expect(url).toMatch(/^https:/);
  expect((await paste(list!)).stdout).toMatch(/^acme /m);

  const key = `api-keys create --tenant acme --name admin --scopes admin,write --ca ./tls/ca.pem --json`;
  const { secret } = JSON.parse((await paste(`tallystick ${key}`)).stdout) as { secret: string };
  const [map] = await blocksOf("access.md", "Client certificates");
  const mapped = (await paste(`API_KEY=${secret}\n${map}`)).stdout;
  expect(mapped).toMatch(/URI:spiffe:\/\/acme\/reports/);
  for (const name of ["orders", "billing"]) {
    const event = JSON.stringify({ action: "order.create", actor: { id: "alice" } });
    const by = `--cacert tls/ca.pem --cert tls/${name}.pem --key tls/${name}.key`;
    const written = await paste(`curl -sS ${by} ${url}/v1/logs -H 'Content-Type: application/json' -d '${event}'`);
    expect(JSON.parse(written.stdout)).toHaveProperty("leaf_hash");
  }
});
