/**
 * `tallystick tenants`: the operator's view of who records here.
 */
import { loadConfig } from "@tallystick/server/config";
import type { Tenant, TenantChange, TenantSettingsChange } from "@tallystick/server/log/tenants";
import { Command, InvalidArgumentError } from "commander";
import { openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { CliError } from "../errors.ts";
import { print, printJson } from "../output.ts";
import { formatTable } from "../table.ts";

/** A minute; as the server's schema has it. */
const MAX_REQUESTS = 10_000_000;

interface Options extends ServerOptions {
  readonly json?: true;
  readonly name?: string;
}

interface LimitOptions extends Options {
  readonly requests?: number;
  readonly credentialRequests?: number;
  readonly default?: true;
}

export function tenantsCommand(): Command {
  const command = new Command("tenants").description("list, make, suspend, rename and limit tenants").addHelpText(
    "after",
    `${SERVER_HELP}

Examples:
  $ tallystick tenants create acme --name "Acme Ltd"
  $ tallystick tenants limit acme --requests 60000 --credential-requests 20000
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
  const limit = sub(
    "limit <tenant>",
    "set how many requests a minute it may send, each event of a bulk request counted",
  );
  limit
    .option("--requests <n>", "of all its credentials together; 0: no limit", requests)
    .option("--credential-requests <n>", "of each of its credentials; 0: no limit", requests)
    .option("--default", "both as RATE_LIMIT_REQUESTS and RATE_LIMIT_CREDENTIAL_REQUESTS say")
    .action((tenant: string, options: LimitOptions) => change(tenant, { settings: settingsOf(options) }, options));
  return command;
}

function settingsOf(options: LimitOptions): TenantSettingsChange {
  const { requests: all, credentialRequests: each, default: reset } = options;
  const given = all !== undefined || each !== undefined;
  if (given === (reset === true)) {
    throw new CliError("say what the limit is: --requests, --credential-requests or both; or --default");
  }
  if (reset) return { rate_limit_requests: null, credential_rate_limit_requests: null };
  return {
    ...(all !== undefined && { rate_limit_requests: all }),
    ...(each !== undefined && { credential_rate_limit_requests: each }),
  };
}

function requests(text: string): number {
  if (!/^\d{1,8}$/.test(text) || Number(text) > MAX_REQUESTS)
    throw new InvalidArgumentError(`a whole number from 0 (no limit) to ${MAX_REQUESTS}`);
  return Number(text);
}

function open(options: Options) {
  return openApi(loadConfig(), options, "admin-token");
}

async function change(tenant: string, body: TenantChange, options: Options): Promise<void> {
  const changed = await (await open(options)).request<Tenant>("PATCH", pathOf(tenant), body);
  show([changed], options, changed);
}

function pathOf(tenant: string): string {
  return `/v1/tenants/${encodeURIComponent(tenant)}`;
}

function limitText(limit: number | undefined): string {
  if (limit === undefined) return "default";
  return limit === 0 ? "no limit" : String(limit);
}

function show(tenants: readonly Tenant[], options: Options, json: unknown): void {
  if (options.json) printJson(json);
  else
    print(
      formatTable(
        ["slug", "status", "name", "requests/min", "of a credential", "id", "created"],
        tenants.map(({ slug, status, name, settings, id, created_at }) => [
          ...[slug, status, name],
          limitText(settings.rate_limit_requests),
          limitText(settings.credential_rate_limit_requests),
          ...[id, created_at],
        ]),
      ),
    );
}
