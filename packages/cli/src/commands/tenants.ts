/**
 * `tallystick tenants`: the operator's view of who records here.
 */
import { loadConfig } from "@tallystick/server/config";
import type { Tenant, TenantStatus } from "@tallystick/server/log/tenants";
import { Command } from "commander";
import { openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { print, printJson } from "../output.ts";
import { formatTable } from "../table.ts";

interface Options extends ServerOptions {
  readonly json?: true;
  readonly name?: string;
}

export function tenantsCommand(): Command {
  const command = new Command("tenants").description("list, make, suspend and rename tenants").addHelpText(
    "after",
    `${SERVER_HELP}

Examples:
  $ tallystick tenants create acme --name "Acme Ltd"
  $ tallystick tenants suspend acme
  $ tallystick tenants reactivate acme`,
  );
  const sub = (usage: string, description: string) =>
    withServerOptions(command.command(usage).description(description)).option("--json", "print JSON");

  sub("list", "all tenants, oldest first").action(async (options: Options) => {
    const { data } = await (await open(options)).request<{ data: Tenant[] }>("GET", "/v1/tenants");
    show(data, options, data);
  });
  sub("create <slug>", "make a tenant and its log; a slug is a-z 0-9 -, and is never used again")
    .option("--name <name>", "for people; default: the slug")
    .action(async (slug: string, options: Options) => {
      const body = { slug, ...(options.name !== undefined && { name: options.name }) };
      const tenant = await (await open(options)).request<Tenant>("POST", "/v1/tenants", body);
      show([tenant], options, tenant);
    });
  sub("show <tenant>", "one tenant, by id or slug").action(async (tenant: string, options: Options) => {
    const found = await (await open(options)).request<Tenant>("GET", pathOf(tenant));
    show([found], options, found);
  });
  sub("suspend <tenant>", "let it be read and not written to").action((tenant: string, options: Options) =>
    change(tenant, { status: "suspended" }, options),
  );
  const reactivate = sub("reactivate <tenant>", "let it be written to again").alias("activate");
  reactivate.action((tenant: string, options: Options) => change(tenant, { status: "active" }, options));
  sub("rename <tenant> <name>", "change the name for people; the slug never changes").action(
    (tenant: string, name: string, options: Options) => change(tenant, { name }, options),
  );
  return command;
}

function open(options: Options) {
  return openApi(loadConfig(), options, "admin-token");
}

async function change(tenant: string, body: { status?: TenantStatus; name?: string }, options: Options): Promise<void> {
  const changed = await (await open(options)).request<Tenant>("PATCH", pathOf(tenant), body);
  show([changed], options, changed);
}

function pathOf(tenant: string): string {
  return `/v1/tenants/${encodeURIComponent(tenant)}`;
}

function show(tenants: readonly Tenant[], options: Options, json: unknown): void {
  if (options.json) printJson(json);
  else
    print(
      formatTable(
        ["slug", "status", "name", "id", "created"],
        tenants.map(({ slug, status, name, id, created_at }) => [slug, status, name, id, created_at]),
      ),
    );
}
