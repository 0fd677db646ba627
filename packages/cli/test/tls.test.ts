/** The program and a server that speaks TLS, with the certificates that deploy/tls/make-certificates.sh makes for a try-out. */
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { TestCa } from "@tallystick/server/testing/certificates";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cleanUp, type Program, run, type Settings, start, temporaryDirectory } from "./cli.ts";

const MAKE = fileURLToPath(new URL("../../../deploy/tls/make-certificates.sh", import.meta.url));
const sh = promisify(execFile);

let cwd: string;
let settings: Settings;
let server: Program;
const file = (name: string) => join(cwd, "tls", name);
const client = (name: string) => [
  "--ca",
  file("ca.pem"),
  "--client-cert",
  file(`${name}.pem`),
  "--client-key",
  file(`${name}.key`),
];
const cli = (...args: readonly string[]) => run(args, settings, cwd);

beforeAll(async () => {
  cwd = await temporaryDirectory();
  const { stdout } = await sh(MAKE, [
    "-d",
    file(""),
    "-n",
    "audit.example.com",
    "-n",
    "10.0.0.9",
    "orders",
    "operator",
  ]);
  expect(stdout).toContain("URI:spiffe://tallystick.test/orders");
  settings = {
    DATA_DIR: join(cwd, "data"),
    PORT: "0",
    TLS_CERT_PATH: file("server.pem"),
    TLS_KEY_PATH: file("server.key"),
    TLS_CLIENT_CA_PATH: file("ca.pem"),
    TLS_CLIENT_AUTH: "required",
  };
  server = start(["serve"], settings, cwd);
  await server.said("Verify it:");
});
afterAll(cleanUp);

describe("make-certificates.sh", () => {
  test("makes what its help says, keys for this user only, and uses a CA again", async () => {
    const certificate = new X509Certificate(await readFile(file("server.pem")));
    const ca = new X509Certificate(await readFile(file("ca.pem")));
    expect(certificate.checkIssued(ca)).toBe(true);
    expect(certificate.subjectAltName?.split(", ")).toEqual([
      "DNS:localhost",
      "IP Address:127.0.0.1",
      "IP Address:0:0:0:0:0:0:0:1",
      "DNS:audit.example.com",
      "IP Address:10.0.0.9",
    ]);
    for (const name of ["ca", "server", "orders"]) expect((await stat(file(`${name}.key`))).mode & 0o777).toBe(0o600);
    await sh(MAKE, ["-d", file(""), "billing"]);
    expect(new X509Certificate(await readFile(file("billing.pem"))).checkIssued(ca)).toBe(true);
    await expect(sh(MAKE, ["-d", file(""), "../evil"])).rejects.toThrow("is no name for a client");
  });
});

describe("a server whose certificate has expired", () => {
  test("is said to be, and who has to renew it", async () => {
    const ca = await TestCa.create(join(cwd, "ca"));
    const { cert, key } = await ca.issue("localhost", { names: ["IP:127.0.0.1"], from: -9, to: -1 });
    const expired = createServer({ cert, key }, (_request, response) => response.end("{}")).listen(0, "127.0.0.1");
    await once(expired, "listening");
    const url = `https://127.0.0.1:${(expired.address() as AddressInfo).port}`;
    const list = ["tenants", "list", "--server", url, "--admin-token", "x", "--ca", ca.certPath];
    const { code, stderr } = await run(list, { DATA_DIR: join(cwd, "none") }, cwd);
    expired.close();
    expect([code, stderr]).toEqual([1, expect.stringContaining(`the certificate of the server at ${url} has expired`)]);
    expect(stderr).toContain("whoever runs that server has to renew it");
    expect(stderr).not.toContain("--ca");
  });
});

describe("a server that requires certificates", () => {
  test("is spoken to with one, and maps others", async () => {
    const made = await cli(
      ...[
        "certificates",
        "create",
        "--name",
        "orders",
        "--scopes",
        "read,verify,admin",
        "--certificate",
        file("orders.pem"),
      ],
      ...client("operator"),
    );
    expect([made.code, made.stderr]).toEqual([0, ""]);
    const listed = await cli("certificates", "list", "--json", ...client("operator"));
    const { id, fingerprint } = JSON.parse(listed.stdout)[0];
    expect(fingerprint).toBe(
      new X509Certificate(await readFile(file("orders.pem"))).fingerprint256.replaceAll(":", "").toLowerCase(),
    );
    // By the certificate alone: another DATA_DIR has none of the server's credentials.
    const { url } = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8"));
    const elsewhere = { DATA_DIR: join(cwd, "elsewhere") };
    const own = ["certificates", "list", "--server", url];
    const alone = await run([...own, ...client("orders")], elsewhere, cwd);
    expect([alone.code, alone.stderr]).toEqual([0, ""]);
    expect(alone.stdout).toContain(fingerprint);
    const verified = await run(["verify", "--server", url, ...client("orders")], elsewhere, cwd);
    expect([verified.code, verified.stderr]).toEqual([0, ""]);

    // An administrator of the tenant maps the certificate that they show.
    const key = await cli("api-keys", "create", "--name", "a", "--scopes", "admin", "--json", ...client("operator"));
    const byKey = ["--server", url, "--api-key", JSON.parse(key.stdout).secret, ...client("operator")];
    const create = ["certificates", "create", "--name", "own", "--scopes", "read", ...byKey];
    const other = await run([...create, "--certificate", file("server.pem")], elsewhere, cwd);
    expect([other.code, other.stderr]).toEqual([1, expect.stringContaining("ask the operator")]);
    const mapped = await run(create, elsewhere, cwd);
    expect([mapped.code, mapped.stderr]).toEqual([0, ""]);

    expect((await cli("certificates", "revoke", id, ...client("operator"))).stdout).toContain("20");
    const revoked = await run([...own, ...client("orders")], elsewhere, cwd);
    expect([revoked.code, revoked.stderr]).toEqual([1, expect.stringContaining("is revoked")]);
    const unknown = await run([...own, ...client("billing")], elsewhere, cwd);
    expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining("mapped to no tenant")]);
  });

  test("says how to reach it, where something is missing", async () => {
    const list = ["certificates", "list"];
    const said = async (...args: readonly string[]) => (await cli(...list, ...args)).stderr;
    expect(await said()).toContain("give its CA by --ca");
    expect(await said("--ca", file("ca.pem"))).toContain("--client-cert and --client-key");
    expect(await said("--ca", "nowhere.pem")).toContain("--ca nowhere.pem cannot be read");
    expect(await said("--client-cert", file("orders.pem"))).toContain("go together");
    expect(await said("--ca", file("ca.pem"), "--server", "http://127.0.0.1:1", "--admin-token", "x")).toContain(
      "https://",
    );
  });

  test("shows lines that work as pasted, but for the certificate that it asks for", async () => {
    const line = /^ {2}(curl .* -d '.*')$/m.exec(server.stdout)![1]!;
    const own = `--cert ${file("operator.pem")} --key ${file("operator.key")}`;
    const { stdout } = await sh("sh", ["-c", line.replace("curl -sS", `curl -sS ${own}`)]);
    expect(JSON.parse(stdout)).toHaveProperty("leaf_hash");
  });
});
