/**
 * A real headless browser for tests, from npm alone: nothing has to be installed on the machine.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { access, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Browser, chromium, type Page } from "playwright-core";
import { rolldown } from "rolldown";

const NODE_MODULES = fileURLToPath(new URL("../../../../node_modules", import.meta.url));

interface Executable {
  readonly executablePath: string;
  readonly env?: Record<string, string>;
}

/**
 * Starts Chromium: the one of `@sparticuz/chromium`, or where it has none for this machine, one that is installed.
 * The caller closes it. Throws an error that says how to get one where there is none.
 */
export async function startBrowser(): Promise<Browser> {
  const { executablePath, env } = await findChromium();
  // Root, which CI in a container runs as, has no sandbox. Pages here are our own.
  const args = ["--no-sandbox", "--disable-gpu"];
  return chromium.launch({ executablePath, args, ...(env && { env: { ...process.env, ...env } }) });
}

/** A page that was opened with the network off. */
export interface OfflinePage {
  readonly page: Page;
  /** URLs, other than the page's own file, that it asked for; none of them was fetched. */
  readonly requests: readonly string[];
  /** Exceptions that its scripts did not catch, and errors on its console. */
  readonly errors: readonly string[];
}

/** Opens a page with the network off: a `file:` URL, or `about:blank`. */
export async function openOffline(browser: Browser, url: string): Promise<OfflinePage> {
  const context = await browser.newContext({ offline: true });
  const page = await context.newPage();
  const requests: string[] = [];
  const errors: string[] = [];
  await context.route("**/*", async (route) => {
    if (route.request().url() === url) return route.continue();
    requests.push(route.request().url());
    await route.abort();
  });
  page.on("pageerror", (error) => errors.push(String(error.stack ?? error)));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  await page.goto(url);
  return { page, requests, errors };
}

/**
 * One script for browsers out of a TypeScript module and all that it imports, taken from the packages' sources: for a
 * `<script>`, or `page.addScriptTag({ content })`. What the module exports becomes the global `name`.
 */
export async function bundleForBrowser(entry: URL | string, name: string): Promise<string> {
  const bundle = await rolldown({
    input: typeof entry === "string" ? entry : fileURLToPath(entry),
    platform: "browser",
    resolve: { conditionNames: ["source", "browser", "import", "default"] },
    // What is no browser's, such as node:crypto, would otherwise be left to fail when the page runs.
    onLog: (_level, log) => {
      throw new Error(`${entry} does not bundle for browsers: ${log.message}`);
    },
  });
  try {
    const { output } = await bundle.generate({ format: "iife", name, codeSplitting: false });
    return output[0].code;
  } finally {
    await bundle.close();
  }
}

async function findChromium(): Promise<Executable> {
  if (process.platform === "linux" && process.arch === "x64") return unpackChromium();
  const installed = [
    ...(process.env.PATH ?? "")
      .split(delimiter)
      .flatMap((folder) => ["chromium", "chromium-browser", "google-chrome"].map((name) => join(folder, name))),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    chromium.executablePath(),
  ].find((file) => existsSync(file));
  if (installed !== undefined) return { executablePath: installed };
  throw new Error(
    `no Chromium for ${process.platform} ${process.arch}: install one, or run "npx playwright-core install chromium"`,
  );
}

/**
 * The package holds compressed files, and unpacks them under fixed names in the folder for temporary files. They are kept
 * beside it instead, where no other user can put a file in their place; moving the folder there makes it whole or absent.
 */
async function unpackChromium(): Promise<Executable> {
  const require = createRequire(import.meta.url);
  const { version } = require(join(NODE_MODULES, "@sparticuz/chromium/package.json")) as { version: string };
  const folder = join(NODE_MODULES, ".cache", "tallystick", `chromium-${version}`);
  const found: Executable = {
    executablePath: join(folder, "chromium"),
    // Libraries that a small Linux, such as a container's, may lack.
    env: { LD_LIBRARY_PATH: join(folder, "al2023", "lib") },
  };
  if (existsSync(found.executablePath)) return found;
  await mkdir(dirname(folder), { recursive: true });
  const partial = await mkdtemp(`${folder}-`);
  try {
    const script = `const { default: chromium } = await import("@sparticuz/chromium"); await chromium.executablePath();`;
    // Those libraries are unpacked only where the package believes itself on AWS Lambda.
    const env = { PATH: process.env.PATH, TMPDIR: partial, AWS_EXECUTION_ENV: "AWS_Lambda_nodejs24.x" };
    await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], { cwd: NODE_MODULES, env });
    await rename(partial, folder).catch(async (cause: NodeJS.ErrnoException) => {
      // Another test file was faster.
      if (cause.code !== "ENOTEMPTY" && cause.code !== "EEXIST") throw cause;
    });
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  await access(found.executablePath);
  return found;
}
