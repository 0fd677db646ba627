/**
 * A real browser follows the log from a page of an origin that may, and not from one that may not.
 */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { startBrowser } from "@tallystick/core/testing/browser";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestDatabase } from "../src/testing/log.ts";
import { databaseSettings, startTestServer, stopTestServers, type TestServer } from "../src/testing/server.ts";

let database: TestDatabase;
let server: TestServer;
let pages: Server;
let browser: Browser;
/** The server of pages by two names, which are two origins: only the first may. */
let allowed: string;
let foreign: string;

beforeAll(async () => {
  database = await TestDatabase.create();
  pages = createServer((_request, response) => response.end("<!doctype html><title>page</title>")).listen(
    0,
    "127.0.0.1",
  );
  await once(pages, "listening");
  const { port } = pages.address() as AddressInfo;
  [allowed, foreign] = [`http://localhost:${port}`, `http://a.localhost:${port}`];
  server = await startTestServer({ ...databaseSettings(database), CORS_ORIGINS: allowed });
  browser = await startBrowser();
});
afterAll(async () => {
  await browser?.close();
  pages?.close();
  await stopTestServers();
  await database.close();
});

async function open(origin: string): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(origin);
  return page;
}

/** Resolves in the page with the first entry that a WebSocket brings; with how it was closed where it brings none. */
const bySocket = ([url, key]: readonly [string, string]) =>
  new Promise<unknown>((resolve) => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/logs/stream?since_seq=0`, [
      "tallystick",
      `bearer.${key}`,
    ]);
    socket.onmessage = ({ data }) => {
      const { type, entry } = JSON.parse(data);
      if (type === "entry") resolve({ protocol: socket.protocol, action: entry.event.action });
    };
    socket.onclose = ({ code }) => resolve({ code });
  });

/** The same by server-sent events. */
const byFetch = async ([url, key]: readonly [string, string]) => {
  const answer = await fetch(`${url}/v1/logs/stream?since_seq=0&follow=false`, {
    headers: { Authorization: `Bearer ${key}` },
  }).catch(String);
  return typeof answer === "string" ? answer : /data: (\{"id".*\})/.exec(await answer.text())?.[1];
};

test("from an allowed origin by subprotocol and by fetch, from another by neither", async () => {
  await server.api.record({ action: "user.login", actor: { id: "alice" } });
  const asked = [server.url, await database.newKey("default")] as const;
  const own = await open(allowed);
  expect(await own.evaluate(bySocket, asked)).toEqual({ protocol: "tallystick", action: "user.login" });
  expect(JSON.parse(String(await own.evaluate(byFetch, asked))).event.action).toBe("user.login");
  const other = await open(foreign);
  expect(await other.evaluate(bySocket, asked)).toEqual({ code: 1006 });
  expect(await other.evaluate(byFetch, asked)).toContain("Failed to fetch");
});
