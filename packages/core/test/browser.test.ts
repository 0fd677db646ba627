import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundleForBrowser, openOffline, startBrowser } from "../src/testing/browser.ts";
import type * as CheckVectors from "./browser/check-vectors.ts";
import { files, type Vectors } from "./browser/check-vectors.ts";
import { readVectors } from "./vectors.ts";

let browser: Browser;
let script: string;

beforeAll(async () => {
  script = await bundleForBrowser(new URL("./browser/check-vectors.ts", import.meta.url), "checks");
  browser = await startBrowser();
});
afterAll(() => browser?.close());

// Where functions given to `evaluate` run.
declare const checks: typeof CheckVectors;

const vectors: Vectors = Object.fromEntries(files.map((file) => [file, readVectors(file)]));

async function openWithCore() {
  const offline = await openOffline(browser, "about:blank");
  await offline.page.addScriptTag({ content: script });
  return offline;
}

test("in a browser without network, core accepts and refuses what every vector says", async () => {
  const { page, requests, errors } = await openWithCore();
  const { cases, failures } = await page.evaluate((all) => checks.checkVectors(all), vectors);
  expect(failures).toEqual([]);
  expect(cases).toBe(files.reduce((sum, file) => sum + vectors[file]!.accept.length + vectors[file]!.reject.length, 0));
  expect(requests).toEqual([]);
  expect(errors).toEqual([]);
});

test("in a browser, a receipt with any changed character is refused, or proves the same", async () => {
  const { page } = await openWithCore();
  const receipts = vectors["receipt/receipts.json"]!.accept;
  const good = receipts.find(({ name }) => name === "two cosignatures, both required");
  const { refused, failures } = await page.evaluate((c) => checks.checkMutations(c), good);
  expect(failures).toEqual([]);
  expect(refused).toBe(good.receipt.length);
});

test("openOffline() fetches nothing, and says what was asked for", async () => {
  const { page, requests } = await openOffline(browser, "about:blank");
  await expect(page.evaluate(() => fetch("http://127.0.0.1:1/x"))).rejects.toThrow();
  expect(requests).toEqual(["http://127.0.0.1:1/x"]);
});

test("bundleForBrowser() refuses what no browser can run", async () => {
  const entry = new URL("../src/sha256.node.ts", import.meta.url);
  await expect(bundleForBrowser(entry, "x")).rejects.toThrow("does not bundle for browsers");
});
