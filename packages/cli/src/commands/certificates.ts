/**
 * `tallystick certificates`: the client certificates that programs of a tenant write and read with.
 */
import { readFile } from "node:fs/promises";
import type { ClientCertificate } from "@tallystick/server/access/issued-certificates";
import { SCOPES } from "@tallystick/server/access/scopes";
import { loadConfig } from "@tallystick/server/config";
import { Command } from "commander";
import { openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { CliError } from "../errors.ts";
import { print, printJson } from "../output.ts";
import { formatTable } from "../table.ts";

interface Options extends ServerOptions {
  readonly json?: true;
}

interface CreateOptions extends Options {
  readonly name: string;
  readonly scopes: string;
  readonly certificate?: string;
  readonly fingerprint?: string;
  readonly san?: string;
  readonly service?: string;
  readonly expires?: string;
}

const PATH = "/v1/admin/certificates";

export function certificatesCommand(): Command {
  const command = new Command("certificates")
    .description("list, map and revoke the client certificates of a tenant")
    .addHelpText(
      "after",
      `${SERVER_HELP}

An administrator of a tenant maps the certificate that --client-cert shows; the operator any.

Examples:
  $ tallystick certificates create --name "orders service" --scopes write --service orders --client-cert orders.pem --client-key orders.key
  $ tallystick certificates create --tenant acme --name "orders service" --scopes write --service orders --certificate orders.pem
  $ tallystick certificates create --tenant acme --name "billing" --scopes write --san URI:spiffe://acme/billing
  $ tallystick certificates list --tenant acme
  $ tallystick certificates revoke --tenant acme 0e8d6c1e-5a0c-4a44-9d39-0d6f4a4f9f33`,
    );
  const sub = (usage: string, description: string) =>
    withServerOptions(command.command(usage).description(description))
      .option("--api-key <key>", "a key with scope admin, in place of the operator's token")
      .option("--tenant <id or slug>", "whose certificates; default: the credential's tenant, or the tenant default")
      .option("--json", "print JSON");

  sub("list", "all certificates of the tenant, revoked ones too").action(async (options: Options) => {
    const { data } = await (await open(options)).request<{ data: ClientCertificate[] }>("GET", PATH);
    show(data, options, data);
  });
  sub(
    "create",
    "map a certificate to the tenant: the one that --client-cert shows, or by its file, its fingerprint, or a name that your CA gives",
  )
    .requiredOption("--name <name>", "what it is for")
    .requiredOption("--scopes <list>", `what it may do, by commas: ${SCOPES.join(",")}`)
    .option("--certificate <file>", "the certificate in PEM; its fingerprint is kept")
    .option("--fingerprint <hex>", "SHA-256 of the certificate, as openssl x509 -fingerprint -sha256 prints it")
    .option("--san <name>", "a subject alternative name: URI:..., DNS:... or email:...; the operator's to map")
    .option("--service <id>", "the only service it may write for")
    .option("--expires <time>", "RFC 3339, such as 2030-01-01T00:00:00Z")
    .action(async (options: CreateOptions) => {
      const created = await (await open(options)).request<ClientCertificate>("POST", PATH, {
        name: options.name,
        scopes: options.scopes.split(",").map((scope) => scope.trim()),
        ...(options.certificate !== undefined && { certificate_pem: await readPem(options.certificate) }),
        ...(options.fingerprint !== undefined && { fingerprint: options.fingerprint }),
        ...(options.san !== undefined && { san: options.san }),
        ...(options.service !== undefined && { service_id: options.service }),
        ...(options.expires !== undefined && { expires_at: options.expires }),
      });
      show([created], options, created);
    });
  sub("revoke <id>", "end a mapping for good, within a second").action(async (id: string, options: Options) => {
    const path = `${PATH}/${encodeURIComponent(id)}`;
    const certificate = await (await open(options)).request<ClientCertificate>("DELETE", path);
    show([certificate], options, certificate);
  });
  return command;
}

function open(options: Options) {
  return openApi(loadConfig(), options, "admin-token");
}

async function readPem(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new CliError(`--certificate ${path} cannot be read (${(cause as Error).message})`, { cause });
  }
}

function show(certificates: readonly ClientCertificate[], options: Options, json: unknown): void {
  if (options.json) printJson(json);
  else
    print(
      formatTable(
        ["id", "name", "known by", "scopes", "service", "expires", "revoked", "last used"],
        certificates.map((one) => [
          one.id,
          one.name,
          one.san ?? one.fingerprint,
          one.scopes.join(","),
          one.service_id,
          one.expires_at,
          one.revoked_at,
          one.last_used_at,
        ]),
      ),
    );
}
