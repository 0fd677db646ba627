/** How long the server's own certificate is good, and who is told when it is not. */
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Tls } from "../src/http/tls.ts";
import { TestCa } from "../src/testing/certificates.ts";
import { stopTestServers, temporaryDirectory } from "../src/testing/server.ts";

const DAY_MS = 86_400_000;

let directory: string;
let ca: TestCa;
beforeAll(async () => {
  directory = await temporaryDirectory();
  ca = await TestCa.create(join(directory, "ca"));
});
afterAll(stopTestServers);

test("a certificate that ends is told of daily, as an error once it has expired, and no more once it is renewed", async () => {
  const issued = await ca.issue("server", { from: -1, to: 20 });
  const certPath = join(directory, "server.pem");
  const keyPath = join(directory, "server.key");
  const use = async ({ certPath: from, keyPath: key }: typeof issued) => {
    await copyFile(from, certPath);
    await copyFile(key, keyPath);
  };
  await use(issued);
  const said: string[] = [];
  const logger = {
    info: () => {},
    warn: (message: string) => said.push(`warn ${message}`),
    error: (message: string) => said.push(`error ${message}`),
  };
  const noClients = { clientAuth: "off", clientCaPath: undefined, clientCrlPath: undefined } as const;
  const settings = { certPath, keyPath, minVersion: "TLSv1.2", ...noClients } as const;
  const begun = Date.now();
  let now = begun;
  const tls = await Tls.open(settings, logger, () => now);
  const after = async (days: number) => {
    now = begun + days * DAY_MS;
    await tls.reload();
    await tls.reload();
    return [said.splice(0), tls.check()];
  };
  expect(await after(1)).toEqual([[], { status: "ok" }]);
  const ending = expect.stringMatching(/TLS_CERT_PATH is good until 20.*: put a renewed one in its place/);
  expect(await after(7)).toEqual([[expect.stringMatching(/^warn/)], { status: "warning", detail: ending }]);
  expect(await after(7.5)).toEqual([[], { status: "warning", detail: ending }]);
  expect((await after(8.1))[0]).toEqual([expect.stringMatching(/^warn .* is good until/)]);
  const expired = expect.stringMatching(/TLS_CERT_PATH has expired, on 20.*: clients refuse to connect/);
  expect(await after(20.5)).toEqual([
    [expect.stringMatching(/^error .* has expired/)],
    { status: "warning", detail: expired },
  ]);
  expect((await after(20.9))[0]).toEqual([]);
  expect((await after(21.6))[0]).toEqual([expect.stringMatching(/^error/)]);
  await use(await ca.issue("renewed", { from: -1, to: 90 }));
  expect(await after(22)).toEqual([[], { status: "ok" }]);
  expect((await after(-3))[1]).toEqual({ status: "warning", detail: expect.stringContaining("is not good before 20") });
});
